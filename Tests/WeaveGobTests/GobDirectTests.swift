import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveGob

/// Reading and writing a program's own types without values in between.
@Suite("Direct gob") struct GobDirectTests {
    private struct Summary: Equatable {
        var name: UInt64 = 0
        var nickname = ""
        var uid: UInt64 = 0
        var version: UInt64 = 0
        var shortID: UInt64 = 0
        var hasShortID = false
    }

    private struct Link: Equatable {
        var name: UInt64 = 0
        var address = ""
        var isOutbound = false
        var isEstablished = false
    }

    private static let summaryShape = GobShape(
        .structure(
            "peerSummary",
            [
                GobFieldType("NameByte", .bytes), GobFieldType("NickName", .string),
                GobFieldType("UID", .uint(bits: 64)), GobFieldType("Version", .uint(bits: 64)),
                GobFieldType("ShortID", .uint(bits: 16)), GobFieldType("HasShortID", .bool),
            ]))

    private static let linksShape = GobShape(
        .slice(
            nil,
            .structure(
                "connectionSummary",
                [
                    GobFieldType("NameByte", .bytes), GobFieldType("RemoteTCPAddr", .string),
                    GobFieldType("Outbound", .bool), GobFieldType("Established", .bool),
                ])))

    /// The update of three peers from section 4.6 of the specification of the mesh.
    private static let update = [UInt8](
        hex: "62ff83030101" + "0b7065657253756d6d61727901ff8400010601084e616d6542797465010a0001084e69636b4e616d65010c00"
            + "010355494401060001075665727369" + "6f6e010600010753686f7274494401060001"
            + "0a48617353686f727449440102000000"
            + "24ff8401060102030405060105686f73743101f811223344556677880103" + "01fe0abc010100"
            + "0dff87020102ff880001ff860000" + "5bff85030101" + "11636f6e6e656374696f6e53756d6d61727901ff86000104"
            + "01084e616d6542797465010a00" + "010d52656d6f746554435041646472010c00" + "01084f7574626f756e64010200"
            + "010b45737461626c6973686564010200" + "0000"
            + "20ff88000101060a0b0c0d0e0f010d31302e302e302e323a3637383301010101"
            + "00" + "18ff8401060a0b0c0d0e0f0105686f737432010702050101" + "00"
            + "1dff8800010106010203040506010e31302e302e302e313a343030303000" + "0bff84010600000000000a00" + "04ff880000"
    )

    private static func readSummary(_ reader: inout GobReader) throws(GobError) -> Summary {
        var summary = Summary()
        try reader.structure { (reader, field) throws(GobError) in
            switch field {
            case 0: summary.name = try reader.shortBytes()?.value ?? 0
            case 1: summary.nickname = try reader.string()
            case 2: summary.uid = try reader.uint()
            case 3: summary.version = try reader.uint()
            case 4: summary.shortID = try reader.uint()
            default: summary.hasShortID = try reader.bool()
            }
        }
        return summary
    }

    private static func readLinks(_ reader: inout GobReader) throws(GobError) -> [Link] {
        var links: [Link] = []
        try reader.list { (reader) throws(GobError) in
            var link = Link()
            try reader.structure { (reader, field) throws(GobError) in
                switch field {
                case 0: link.name = try reader.shortBytes()?.value ?? 0
                case 1: link.address = try reader.string()
                case 2: link.isOutbound = try reader.bool()
                default: link.isEstablished = try reader.bool()
                }
            }
            links.append(link)
        }
        return links
    }

    private static func read(_ bytes: [UInt8]) throws -> [(Summary, [Link])] {
        var decoder = GobDecoder(bytes, limits: .message)
        var peers: [(Summary, [Link])] = []
        while let summary = try decoder.decode(
            as: summaryShape,
            { (reader) throws(GobError) in
                try readSummary(&reader)
            })
        {
            let links = try decoder.decode(as: linksShape) { (reader) throws(GobError) in try readLinks(&reader) }
            peers.append((summary, try need(links)))
        }
        return peers
    }

    private static func write(_ peers: [(Summary, [Link])], with encoder: GobEncoder) throws -> [UInt8] {
        var encoder = encoder
        var bytes: [UInt8] = []
        for (summary, links) in peers {
            try encoder.encode(as: summaryShape, into: &bytes) { writer in
                writer.structure { writer in
                    writer.shortBytes(summary.name, count: 6, at: 0)
                    writer.string(summary.nickname, at: 1)
                    writer.uint(summary.uid, at: 2)
                    writer.uint(summary.version, at: 3)
                    writer.uint(summary.shortID, at: 4)
                    writer.bool(summary.hasShortID, at: 5)
                }
            }
            try encoder.encode(as: linksShape, into: &bytes) { writer in
                writer.list(links) { writer, link in
                    writer.structure { writer in
                        writer.shortBytes(link.name, count: 6, at: 0)
                        writer.string(link.address, at: 1)
                        writer.bool(link.isOutbound, at: 2)
                        writer.bool(link.isEstablished, at: 3)
                    }
                }
            }
        }
        return bytes
    }

    @Test("the worked example of a topology update is read and written")
    func example() throws {
        let bytes = try need(Self.update)
        let peers = try Self.read(bytes)
        #expect(
            peers.map(\.0) == [
                Summary(
                    name: 0x0102_0304_0506, nickname: "host1", uid: 0x1122_3344_5566_7788, version: 3, shortID: 0xabc,
                    hasShortID: true),
                Summary(name: 0x0a0b_0c0d_0e0f, nickname: "host2", uid: 7, shortID: 5, hasShortID: true),
                Summary(name: 10),
            ])
        #expect(
            peers.map(\.1) == [
                [Link(name: 0x0a0b_0c0d_0e0f, address: "10.0.0.2:6783", isOutbound: true, isEstablished: true)],
                [Link(name: 0x0102_0304_0506, address: "10.0.0.1:40000")], [],
            ])
        let written = try Self.write(peers, with: GobEncoder(firstTypeID: 66))
        #expect(try Self.read(written).map(\.0) == peers.map(\.0))
        #expect(try Self.read(written).map(\.1) == peers.map(\.1))
        #expect(written.count == bytes.count)
    }

    @Test("copies of a prepared encoder each begin a stream of their own, with the same bytes")
    func prepared() throws {
        var template = GobEncoder()
        try template.prepare(Self.summaryShape)
        try template.prepare(Self.linksShape)
        let peers = [(Summary(name: 1, nickname: "a"), [Link(name: 2)])]
        let first = try Self.write(peers, with: template)
        #expect(try Self.write(peers, with: template) == first)
        #expect(try Self.write(peers, with: GobEncoder()) == first)
    }

    @Test("direct reading and writing agree with values")
    func agreement() throws {
        var generator = SeededGenerator(seed: 21)
        for _ in 0..<300 {
            let summary = Summary(
                name: generator.next() >> 16, nickname: String(repeating: "é", count: Int(generator.next() % 30)),
                uid: generator.next() >> (generator.next() % 64), version: generator.next() % 3,
                shortID: generator.next() % 4096, hasShortID: generator.next() % 2 == 0)
            let bytes = try Self.write([(summary, [])], with: GobEncoder())
            var decoder = GobDecoder(bytes)
            let value = try need(try decoder.decode(as: Self.summaryShape))
            #expect(value["NickName"]?.text ?? "" == summary.nickname)
            #expect(value["UID"] ?? .uint(0) == .uint(summary.uid))
            var encoder = GobEncoder()
            var again: [UInt8] = []
            try encoder.encode(value, as: Self.summaryShape, into: &again)
            #expect(bytes.starts(with: again))
            #expect(try Self.read(bytes).first?.0 == summary)
        }
    }

    @Test("what a reader does not read is skipped")
    func leftovers() throws {
        var decoder = GobDecoder(try need(Self.update))
        let nickname = try decoder.decode(as: Self.summaryShape) { (reader) throws(GobError) in
            var nickname = ""
            try reader.structure { (reader, field) throws(GobError) in
                if field == 1 { nickname = try reader.string() }
            }
            return nickname
        }
        #expect(nickname == "host1")
        let count = try decoder.decode(as: Self.linksShape) { (reader) throws(GobError) in
            var count = 0
            try reader.list { (_) throws(GobError) in count += 1 }
            return count
        }
        #expect(count == 1)
    }

    @Test("values are passed over by their length, and what they define is learnt")
    func passingOver() throws {
        var decoder = GobDecoder(try need(Self.update))
        for _ in 0..<3 { #expect(try decoder.skip()) }
        let links = try decoder.decode(as: Self.linksShape) { (reader) throws(GobError) in
            try Self.readLinks(&reader)
        }
        #expect(links == [Link(name: 0x0102_0304_0506, address: "10.0.0.1:40000")])
        #expect(try decoder.skip())
        #expect(try decoder.skip())
        #expect(try !decoder.skip())
        var partial = GobDecoder([3, 4])
        #expect(throws: GobError.self) { try partial.skip() }
    }

    @Test("reading another kind than the next value has, or too much, is an error")
    func wrongReads() throws {
        var decoder = GobDecoder(try need([UInt8](hex: "0304000a0304000a0304000a")))
        #expect(throws: GobError.self) {
            try decoder.decode(as: .int) { (reader) throws(GobError) in try reader.uint() }
        }
        #expect(throws: GobError.self) {
            try decoder.decode(as: .int) { (reader) throws(GobError) in
                _ = try reader.int()
                _ = try reader.int()
            }
        }
        #expect(try decoder.decode(as: .int) == .int(5))
    }

    @Test("a value written in another shape is an error and adds nothing")
    func wrongWrites() throws {
        let mistakes: [(inout GobWriter) -> Void] = [
            { _ in },
            { $0.uint(1) },
            { $0.structure { $0.uint(1, at: 0) } },
            {
                $0.structure {
                    $0.string("a", at: 1); $0.bytes([1], at: 0)
                }
            },
            { $0.structure { $0.uint(70_000, at: 4) } },
            { $0.structure { $0.bool(true, at: 6) } },
            { $0.structure { $0.uint(1) } },
            {
                $0.structure { _ in }; $0.structure { _ in }
            },
        ]
        var encoder = GobEncoder()
        var bytes: [UInt8] = []
        try encoder.encode(as: Self.summaryShape, into: &bytes) { $0.structure { _ in } }
        let before = bytes
        for mistake in mistakes {
            #expect(throws: GobError.self) { try encoder.encode(as: Self.summaryShape, into: &bytes, mistake) }
            #expect(bytes == before)
        }
    }

    @Test("maps, optional structures and signed numbers keep what their absence means")
    func presence() throws {
        let id = GobType.structure("ID", [GobFieldType("Name", .uint(bits: 64)), GobFieldType("UID", .uint(bits: 64))])
        let shape = GobShape(
            .structure(
                "state",
                [
                    GobFieldType("Now", .int(bits: 64)), GobFieldType("Names", .map(nil, .uint(bits: 64), .string)),
                    GobFieldType("Claims", .map(nil, id, id)), GobFieldType("Ring", .pointer(id)),
                ]))
        func read(_ bytes: [UInt8]) throws -> String {
            var decoder = GobDecoder(bytes)
            var found = ""
            _ = try decoder.decode(as: shape) { (reader) throws(GobError) in
                try reader.structure { (reader, field) throws(GobError) in
                    switch field {
                    case 0: found += "now \(try reader.int()) "
                    case 1:
                        found += "names "
                        try reader.map { (reader) throws(GobError) in
                            found += "\(try reader.uint())=\(try reader.string()) "
                        }
                    case 2:
                        found += "claims "
                        try reader.map { (reader) throws(GobError) in
                            found += "\(try reader.value()["UID"] ?? .null)=\(try reader.value()["Name"] ?? .null) "
                        }
                    default:
                        found += "ring "
                        try reader.skip()
                    }
                }
            }
            return found
        }
        var encoder = GobEncoder()
        var full: [UInt8] = []
        try encoder.encode(as: shape, into: &full) { writer in
            writer.structure { writer in
                writer.int(-5, at: 0)
                writer.map([(1, "a")], at: 1) { writer, pair in
                    writer.uint(UInt64(pair.0))
                    writer.string(pair.1)
                }
                writer.map([7 as UInt64], at: 2) { writer, number in
                    writer.structure { $0.uint(number, at: 1) }
                    writer.structure { $0.uint(number + 1, at: 0) }
                }
                writer.structure(at: 3) { _ in }
            }
        }
        #expect(try read(full) == "now -5 names 1=a claims uint(7)=uint(8) ring ")
        var sparse: [UInt8] = []
        encoder = GobEncoder()
        try encoder.encode(as: shape, into: &sparse) { writer in
            writer.structure { writer in
                writer.int(0, at: 0)
                writer.map([UInt64](), at: 2) { _, _ in }
            }
        }
        #expect(try read(sparse) == "claims ")
        var nothing: [UInt8] = []
        encoder = GobEncoder()
        try encoder.encode(as: shape, into: &nothing) { $0.structure { _ in } }
        #expect(try read(nothing) == "")
    }

    @Test("a gossip message is a string, numbers and bytes in one stream")
    func envelope() throws {
        var encoder = GobEncoder()
        var bytes: [UInt8] = []
        try encoder.encode("IPallocation", into: &bytes)
        try encoder.encode(1, into: &bytes)
        try encoder.encode(2, into: &bytes)
        try encoder.encode([0, 1, 2] as [UInt8], into: &bytes)
        #expect(bytes.hex == "0f0c000c4950616c6c6f636174696f6e0306000103060002060a0003000102")
        var decoder = GobDecoder(bytes)
        #expect(try decoder.decode(as: .string, { (reader) throws(GobError) in try reader.string() }) == "IPallocation")
        #expect(try decoder.decode(as: .uint, { (reader) throws(GobError) in try reader.uint() }) == 1)
        #expect(try decoder.decode(as: .uint, { (reader) throws(GobError) in try reader.uint() }) == 2)
        #expect(try decoder.decode(as: .bytes, { (reader) throws(GobError) in try reader.bytes() }) == [0, 1, 2])
        #expect(try decoder.decode(as: .bytes) == nil)
    }

    @Test("reading a thousand peers of three connections takes no noticeable time")
    func speed() throws {
        let peers = (0..<1000).map { number in
            (
                Summary(
                    name: UInt64(number), nickname: "host\(number)", uid: UInt64(number) << 40, version: 9, shortID: 5,
                    hasShortID: true),
                (0..<3).map { Link(name: UInt64($0), address: "10.0.0.1:6783", isOutbound: true, isEstablished: true) }
            )
        }
        let bytes = try Self.write(peers, with: GobEncoder())
        var count = 0
        let elapsed = try ProcessorTime.measure { count = try Self.read(bytes).count }
        #expect(count == 1000)
        #expect(elapsed < .seconds(2))
    }
}
