import Testing
import WeaveCore

@testable import WeaveMesh

@Suite("The peer table")
struct CoreTopologyTests {
    private func table(_ records: [SampleRecord], maximumPeers: Int = 4096, maximumBytes: Int = 1 << 20) throws
        -> PeerTable
    {
        var table = PeerTable(
            name: PeerName(truncating: 0x10), nickname: "us", uid: 1000, shortID: ShortID(exactly: 100),
            maximumPeers: maximumPeers, maximumBytes: maximumBytes)
        if !records.isEmpty { _ = table.apply(try TopologyReader.read(encodeUpdate(records))) }
        return table
    }

    @Test("reads the update of the specification")
    func workedExample() throws {
        let parts = [
            "62ff83030101", "0b7065657253756d6d617279", "01ff84000106", "01084e616d6542797465010a00",
            "01084e69636b4e616d65010c00", "010355494401060001", "0756657273696f6e010600", "010753686f72744944010600",
            "010a48617353686f727449440102000000", "24ff840106010203040506", "0105686f737431", "01f81122334455667788",
            "0103", "01fe0abc", "0101", "00", "0dff87020102ff880001ff860000", "5bff85030101",
            "11636f6e6e656374696f6e53756d6d617279", "01ff86000104", "01084e616d6542797465010a00",
            "010d52656d6f746554435041646472010c00", "01084f7574626f756e64010200",
            "010b45737461626c69736865640102000000", "20ff880001", "01060a0b0c0d0e0f", "010d31302e302e302e323a36373833",
            "0101", "0101", "00", "18ff8401060a0b0c0d0e0f", "0105686f737432", "0107", "0205", "0101", "00",
            "1dff880001", "0106010203040506", "010e31302e302e302e313a3430303030", "00", "0bff84010600000000000a00",
            "04ff880000",
        ]
        let update = try TopologyReader.read(try bytes(parts.joined()))
        try #require(update.records.count == 3)
        #expect(update.records[0].uid == 0x1122_3344_5566_7788)
        #expect(update.records[0].version == 3)
        #expect(update.records[0].shortID == ShortID(exactly: 0xabc))
        #expect(update.records[1].nickname == "host2")
        #expect(update.records[1].version == 0)
        #expect(update.records[1].shortID == ShortID(exactly: 5))
        #expect(update.records[2].name == PeerName(truncating: 10))
        #expect(update.records[2].uid == 0)
        let first = try #require(update.entries[update.records[0].entries].first)
        #expect(first.outbound && first.established)
        let second = try #require(update.entries[update.records[1].entries].first)
        #expect(!second.outbound && !second.established)
        #expect(update.records[2].entries.isEmpty)
    }

    /// A stream whose summary has fields in another order, and fields that we do not know.
    @Test("takes fields in any order and passes over unknown ones")
    func unknownFields() throws {
        func text(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + Array(text.utf8) }
        func message(_ body: [UInt8]) -> [UInt8] { [UInt8(body.count)] + body }
        // 70: a map of text to numbers. 71: the summary. 72: list of 73: the connection.
        let map = message([0xff, 139, 4, 1, 2, 0xff, 140, 0, 1, 12, 1, 6, 0, 0])
        let summary = message(
            [0xff, 141, 3, 1, 1] + text("anything") + [0, 1, 4]
                + [1] + text("Version") + [1, 6, 0] + [1] + text("Extra") + [1, 0xff, 140, 0]
                + [1] + text("NameByte") + [1, 10, 0] + [1] + text("Ratio") + [1, 8, 0] + [0, 0])
        let value = message(
            [0xff, 142, 1, 9, 1, 2] + text("a") + [1] + text("b") + [0xff, 200] + [1, 6, 0, 0, 0, 0, 0, 0x20]
                + [1, 0xfe, 0xf0, 0x3f] + [0])
        let list = message([0xff, 143, 2, 1, 2, 0xff, 144, 0, 1, 0xff, 146, 0, 0])
        let connection = message(
            [0xff, 145, 3, 1, 2, 0xff, 146, 0, 1, 2] + [1] + text("Established") + [1, 2, 0]
                + [1] + text("NameByte") + [1, 10, 0] + [0, 0])
        let links = message([0xff, 144, 0, 1, 1, 1, 1, 6, 0, 0, 0, 0, 0, 0x10, 0])
        let update = try TopologyReader.read(map + summary + value + list + connection + links)
        try #require(update.records.count == 1)
        #expect(update.records[0].version == 9)
        #expect(update.records[0].name == PeerName(truncating: 0x20))
        #expect(
            update.entries == [
                TopologyUpdate.Entry(
                    name: PeerName(truncating: 0x10), address: 0..<0, outbound: false, established: true)
            ])
    }

    @Test("refuses counts that the bytes cannot hold, quickly", arguments: [1 << 20, 1 << 26, 1 << 33, Int.max])
    func hostileCounts(_ count: Int) throws {
        let good = encodeUpdate([SampleRecord(name: 0x20, links: [(0x10, true)])])
        // The list is the last message: replace it by one with a count and nothing behind it.
        let whole = encodeUpdate([SampleRecord(name: 0x20)])
        var body: [UInt8] = [0xff, 134, 0]
        body.appendWireUnsigned(UInt64(count))
        let hostile: [UInt8] = Array(whole.prefix(whole.count - 5)) + [UInt8(body.count)] + body
        #expect(throws: MeshWireError.self) { try TopologyReader.read(hostile) }
        #expect(try TopologyReader.read(good).records.count == 1)
    }

    @Test("a connection to nobody makes no peer of nobody")
    func connectionToNobody() throws {
        let update = try TopologyReader.read(
            encodeUpdate([SampleRecord(name: 0x20, links: [(0, true), (0x10, true)])]))
        #expect(update.refused == 1)
        #expect(update.entries.map(\.name) == [PeerName(truncating: 0x10)])
        var table = try table([])
        _ = table.apply(update)
        #expect(table.slot(of: .unknown) == nil)
        #expect(table.count == 2)
    }

    @Test("survives any damage to an update", arguments: 0..<20 as Range<UInt64>)
    func damage(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var records: [SampleRecord] = []
        for index in 0..<6 as Range<UInt64> {
            records.append(
                SampleRecord(name: 0x20 + index, shortID: Int(index), links: [(0x10, true), (0x20 + index / 2, false)]))
        }
        let good = encodeUpdate(records)
        var outcomes: Set<Bool> = []
        for _ in 0..<2000 {
            var bad = good
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                bad[Int.random(in: 0..<bad.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            if Bool.random(using: &generator) { bad.removeLast(Int.random(in: 0..<bad.count, using: &generator)) }
            var table = try table([])
            do {
                _ = table.apply(try TopologyReader.read(bad))
                _ = table.collect()
                #expect(table.count == 1)
                outcomes.insert(true)
            } catch { outcomes.insert(false) }
        }
        #expect(outcomes == [true, false], "seed \(seed)")
    }

    @Test("takes as many peers as there may be, and not one more")
    func peerLimit() throws {
        let records = (0..<4 as Range<UInt64>).map { SampleRecord(name: 0x20 + $0, links: [(0x10, true)]) }
        var table = try table([], maximumPeers: 4)
        let outcome = table.apply(try TopologyReader.read(encodeUpdate(records)))
        #expect(table.count == 4)
        #expect(outcome.refused == 1)
        // A neighbour is taken all the same.
        let (slot, isNew, _) = table.neighbour(introduction(0x99))
        #expect(isNew)
        #expect(table.record(slot)?.name == PeerName(truncating: 0x99))
        let mentions = table.apply(
            try TopologyReader.read(
                encodeUpdate([SampleRecord(name: 0x20, version: 2, links: [(0x10, true), (0x77, true)])])))
        #expect(mentions.improved.count == 1)
        #expect(table.slot(of: PeerName(truncating: 0x77)) == nil)
    }

    @Test("refuses a record beyond the memory for connections, and keeps the one it has")
    func byteLimit() throws {
        var table = try table([SampleRecord(name: 0x20, links: [(0x10, true)])], maximumBytes: 120)
        let links = (0..<10 as Range<UInt64>).map { (to: 0x30 + $0, established: true) }
        let outcome = table.apply(
            try TopologyReader.read(encodeUpdate([SampleRecord(name: 0x20, version: 2, links: links)])))
        #expect(outcome.refused == 1)
        #expect(table.record(try #require(table.slot(of: PeerName(truncating: 0x20))))?.version == 1)
    }

    @Test("does not follow a version under our name that nobody counted to")
    func absurdVersion() throws {
        var table = try table([])
        let forged = SampleRecord(name: 0x10, uid: 5, version: .max)
        let outcome = table.apply(try TopologyReader.read(encodeUpdate([forged])))
        #expect(outcome.absurd == .max)
        #expect(table.own.version == 0)
        table.raiseOwnVersion(beyond: .max)
        #expect(table.own.version == .max)
        table.raiseOwnVersion()
        #expect(table.own.version == .max)
    }

    @Test("goes one beyond a version of an earlier life")
    func overtakes() throws {
        var table = try table([])
        let outcome = table.apply(
            try TopologyReader.read(encodeUpdate([SampleRecord(name: 0x10, uid: 5, version: 1000)])))
        #expect(outcome.overtaken == 1000)
        #expect(table.own.version == 1001)
        #expect(outcome.improved.isEmpty)
    }

    @Test("counts only the last of connections to the same peer")
    func repeatedConnections() throws {
        let table = try table([SampleRecord(name: 0x20, links: [(0x10, true), (0x30, true), (0x10, false)])])
        let slot = try #require(table.slot(of: PeerName(truncating: 0x20)))
        #expect(table.record(slot)?.connections.count == 2)
        #expect(!table.graph.establishedRow(slot).contains(PeerTable.ourSlot))
        #expect(table.graph.row(slot).contains(PeerTable.ourSlot))
    }

    @Test("splits what does not fit into one message")
    func splitting() throws {
        let links = (0..<50 as Range<UInt64>).map { (to: 0x1000 + $0, established: true) }
        var table = try table((0..<20 as Range<UInt64>).map { SampleRecord(name: 0x20 + $0, links: links) })
        var slots = table.graph.present.members
        let total = slots.count
        var seen: Set<PeerName> = []
        var messages = 0
        while !slots.isEmpty {
            let bytes = table.encode(&slots, limit: 4000)
            #expect(bytes.count < 4000 + 50 * 40 + 500)
            seen.formUnion(try TopologyReader.read(bytes).records.map(\.name))
            messages += 1
        }
        #expect(seen.count == total)
        #expect(messages > 5)
    }

    @Test("skips the connections of records it holds")
    func knownRecords() throws {
        let bytes = encodeUpdate([SampleRecord(name: 0x20, links: [(0x30, true)])])
        var table = try table([])
        _ = table.apply(try TopologyReader.read(bytes))
        let held = table
        let again = try TopologyReader.read(bytes) { held.holds($0, uid: $1, version: $2) }
        #expect(again.records[0].isKnown)
        #expect(again.entries.isEmpty)
        #expect(table.apply(again).improved.isEmpty)
        #expect(table.described == held.described)
    }

    @Test("takes an unused short id when its own is lost, and keeps it when all are taken")
    func reassigning() throws {
        var generator = SeededGenerator(seed: 3)
        var table = try table([SampleRecord(name: 0x05, shortID: 100)])
        #expect(table.shortIDs.principal(of: try #require(ShortID(exactly: 100))) == PeerName(truncating: 5))
        let version = table.own.version
        let isReassigned = table.reassignOwnShortID(using: &generator)
        #expect(isReassigned)
        #expect(table.own.version == version + 1)
        #expect(table.own.shortID.flatMap { table.shortIDs.principal(of: $0) } == table.own.name)
        var full = ShortIDTable(ourself: table.own.name)
        for id in 0..<ShortID.count {
            _ = full.add(PeerName(truncating: UInt64(id + 1)), try #require(ShortID(exactly: id)))
        }
        #expect(full.unused(using: &generator) == nil)
        _ = full.remove(PeerName(truncating: 78), try #require(ShortID(exactly: 77)))
        #expect(full.unused(using: &generator) == ShortID(exactly: 77))
    }

    @Test("forgets who cannot be reached, and uses their places again")
    func collecting() throws {
        var table = try table([
            SampleRecord(name: 0x20, links: [(0x30, true)]), SampleRecord(name: 0x30, links: [(0x20, true)]),
        ])
        let (slot, _, _) = table.neighbour(introduction(0x20))
        table.connect(slot, PeerTable.OwnLink(address: "a:1", outbound: true, established: false))
        #expect(table.collect().removed.isEmpty)
        table.disconnect(slot)
        #expect(table.collect().removed.map(\.name.rawValue) == [0x20, 0x30])
        #expect(table.graph.present.members == [PeerTable.ourSlot])
        _ = table.apply(try TopologyReader.read(encodeUpdate([SampleRecord(name: 0x40, links: [(0x10, true)])])))
        let reused = try #require(table.slot(of: PeerName(truncating: 0x40)))
        #expect(reused < 3)
        #expect(table.graph.row(reused).members == [PeerTable.ourSlot])
        #expect(table.graph.establishedRow(reused).members == [PeerTable.ourSlot])
    }
}
