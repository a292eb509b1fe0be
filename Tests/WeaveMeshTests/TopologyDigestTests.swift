import Testing
import WeaveCore

@testable import WeaveMesh

private func entry(
    _ name: UInt64, version: UInt64 = 1, uid: UInt64 = 1, hasShortID: Bool = false, fingerprint: UInt32 = 0
) -> TopologyDigest.Entry {
    TopologyDigest.Entry(
        name: PeerName(truncating: name), uid: uid, version: version, hasShortID: hasShortID, fingerprint: fingerprint)
}

@Suite("Summary of a topology")
struct TopologySummaryTests {
    private func summary(_ entries: [TopologyDigest.Entry]) -> TopologySummary {
        entries.reduce(into: TopologySummary()) { $0.add($1) }
    }

    @Test("does not depend on the order, and what is removed leaves nothing behind")
    func order() {
        let entries = (0..<100 as Range<UInt64>).map {
            entry($0, version: $0 * 7, uid: $0 << 40, hasShortID: $0 % 2 == 0)
        }
        var mixed = summary(entries.reversed())
        #expect(mixed == summary(entries))
        mixed.add(entry(1000))
        #expect(mixed != summary(entries))
        mixed.remove(entry(1000))
        #expect(mixed == summary(entries))
        for entry in entries { mixed.remove(entry) }
        #expect(mixed == TopologySummary())
    }

    @Test("differs with each thing that tells records apart")
    func differences() {
        let all = [
            entry(1), entry(2), entry(1, version: 2), entry(1, uid: 2), entry(1, hasShortID: true),
            entry(1, fingerprint: 1),
            entry(1, version: .max), entry(1, uid: .max), entry((1 << 48) - 1),
        ]
        let summaries = all.map { summary([$0]) } + [summary([]), summary([entry(1), entry(1)])]
        for (index, one) in summaries.enumerated() {
            for other in summaries[..<index] { #expect(one != other) }
        }
    }

    @Test("differs when two records have exchanged their versions")
    func exchange() {
        #expect(
            summary([entry(1, version: 5), entry(2, version: 9)])
                != summary([entry(1, version: 9), entry(2, version: 5)]))
        #expect(summary([entry(1, uid: 5), entry(2, uid: 9)]) != summary([entry(1, uid: 9), entry(2, uid: 5)]))
    }

    @Test("of a table is that of its records, whatever happens to them", arguments: 1...20 as ClosedRange<UInt64>)
    func table(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var table = PeerTable(
            name: PeerName(truncating: 1), nickname: "us", uid: 9, shortID: ShortID(exactly: 1 as UInt16))
        for _ in 0..<200 {
            switch Int.random(in: 0..<8, using: &generator) {
            case 0:
                let name = UInt64.random(in: 2...12, using: &generator)
                let (slot, _, _) = table.neighbour(introduction(name))
                table.connect(slot, PeerTable.OwnLink(address: "1.2.3.4:5", outbound: true, established: false))
            case 1: if let slot = table.ownLinks.keys.min() { table.disconnect(slot) }
            case 2: if let slot = table.ownLinks.keys.max() { table.establish(slot) }
            case 3: _ = table.collect()
            case 4: table.raiseOwnVersion()
            case 5: _ = table.reassignOwnShortID(using: &generator)
            default:
                let record = SampleRecord(
                    name: UInt64.random(in: 1...12, using: &generator),
                    uid: UInt64.random(in: 0...2, using: &generator),
                    version: UInt64.random(in: 0...20, using: &generator),
                    shortID: Bool.random(using: &generator) ? Int.random(in: 0...3, using: &generator) : nil,
                    links: [(UInt64.random(in: 1...12, using: &generator), true)])
                if let update = try? TopologyReader.read(encodeUpdate([record])) { _ = table.apply(update) }
            }
            let expected = table.sortedSlots.compactMap { table.entry($0)?.entry }
                .reduce(into: TopologySummary()) { $0.add($1) }
            #expect(table.summary == expected, "seed \(seed)")
        }
    }
}

@Suite("Digests on the wire")
struct TopologyDigestWireTests {
    private func decoded(_ bytes: [UInt8]) throws -> TopologyDigest.Message {
        try TopologyDigest.decode(bytes, from: 0, to: bytes.count)
    }

    private static let messages: [TopologyDigest.Message] = [
        .announcement([]),
        .announcement([
            entry(1), entry(0xffff_ffff_ffff, version: .max, uid: .max, hasShortID: true, fingerprint: .max),
        ]),
        .inventory([entry(5, version: 300)]), .question([]), .question([PeerName(truncating: 7)]),
        .summary(TopologySummary()), .summary(TopologySummary(count: .max, first: 1, second: .max)),
    ]

    @Test("are read as they were written", arguments: messages)
    func roundTrip(_ message: TopologyDigest.Message) throws {
        #expect(try decoded(TopologyDigest.encode(message)) == message)
    }

    @Test("that are cut short are refused", arguments: messages)
    func cut(_ message: TopologyDigest.Message) throws {
        let bytes = TopologyDigest.encode(message)
        for count in 0..<bytes.count {
            // What ends after an element is a shorter list.
            guard let shorter = try? decoded(Array(bytes[..<count])) else { continue }
            #expect(TopologyDigest.encode(shorter).count == count)
        }
        #expect(throws: MeshWireError.self) { try decoded([]) }
        #expect(throws: MeshWireError.self) { try decoded([3, 0, 0]) }
        #expect(throws: MeshWireError.self) { try decoded([9]) }
    }

    @Test("hold so many entries and no more")
    func limit() throws {
        let most = (0..<TopologyDigest.maximumEntries).map { entry(UInt64($0)) }
        #expect(try decoded(TopologyDigest.encode(.inventory(most))) == .inventory(most))
        #expect(throws: MeshWireError.self) { try decoded(TopologyDigest.encode(.inventory(most + [entry(1)]))) }
        let names = most.map(\.name)
        #expect(try decoded(TopologyDigest.encode(.question(names))) == .question(names))
        #expect(throws: MeshWireError.self) { try decoded(TopologyDigest.encode(.question(names + names))) }
    }

    @Test(
        "are taken by those who say so",
        arguments: [
            (nil, false), ("", false), ("0", false), ("x", false), ("1", false), ("2", false), ("3", true), ("4", true),
        ])
    func taken(_ value: String?, _ isTaken: Bool) {
        #expect(TopologyDigest.isTaken(by: value.map { [TopologyDigest.feature: $0] } ?? [:]) == isTaken)
    }
}

@Suite("Questions for records")
struct TopologyQuestionsTests {
    private let first = ConnectionID(rawValue: 1)
    private let second = ConnectionID(rawValue: 2)

    private func due(
        _ questions: inout TopologyQuestions, _ now: MonotonicTime, lost: ConnectionID? = nil, dead: ConnectionID? = nil
    ) -> [ConnectionID] { questions.due(now, lost: lost) { $0 != dead }.map(\.of) }

    private func mayAsk(
        _ questions: inout TopologyQuestions, _ entry: TopologyDigest.Entry, of id: ConnectionID, isRefresh: Bool,
        now: MonotonicTime
    ) -> Bool { questions.mayAsk(entry, of: id, isRefresh: isRefresh, now: now) }

    @Test("are asked at once, of one neighbour")
    func once() {
        var questions = TopologyQuestions()
        #expect(mayAsk(&questions, entry(5), of: first, isRefresh: false, now: .zero))
        #expect(!mayAsk(&questions, entry(5), of: second, isRefresh: false, now: .zero))
        #expect(!mayAsk(&questions, entry(5), of: first, isRefresh: false, now: .zero))
        #expect(mayAsk(&questions, entry(6), of: second, isRefresh: false, now: .zero))
    }

    @Test("about a record that keeps changing come further and further apart, and go to who has the newest")
    func damping() {
        var questions = TopologyQuestions()
        var now = MonotonicTime.zero
        #expect(mayAsk(&questions, entry(5, version: 1), of: first, isRefresh: true, now: now))
        var gaps: [Duration] = []
        var version: UInt64 = 1
        for _ in 0..<5 {
            questions.onRecord(PeerName(truncating: 5), version: version, uid: 1)
            let asked = now
            version += 1
            #expect(!mayAsk(&questions, entry(5, version: version), of: first, isRefresh: true, now: now))
            version += 1
            #expect(!mayAsk(&questions, entry(5, version: version), of: second, isRefresh: true, now: now))
            guard let next = questions.nextDue else {
                Issue.record("nothing is due")
                return
            }
            #expect(due(&questions, next + .nanoseconds(-1)).isEmpty)
            now = questions.nextDue ?? now
            #expect(due(&questions, now) == [second])
            gaps.append(now - asked)
        }
        #expect(gaps == [.milliseconds(250), .milliseconds(500), .seconds(1), .seconds(1), .seconds(1)])
    }

    @Test("about a record that changes seldom are asked at once")
    func seldom() {
        var questions = TopologyQuestions()
        for round in 0..<4 as Range<UInt64> {
            let now = MonotonicTime.zero + .seconds(Int64(round))
            _ = questions.due(now) { _ in true }
            #expect(mayAsk(&questions, entry(5, version: round + 1), of: first, isRefresh: round > 0, now: now))
            questions.onRecord(PeerName(truncating: 5), version: round + 1, uid: 1)
        }
        _ = questions.due(.zero + .seconds(9)) { _ in true }
        #expect(questions.isEmpty)
        #expect(questions.nextDue == nil)
    }

    @Test("about a new life of a peer do not wait")
    func restart() {
        var questions = TopologyQuestions()
        _ = questions.mayAsk(entry(5), of: first, isRefresh: false, now: .zero)
        questions.onRecord(PeerName(truncating: 5), version: 1, uid: 1)
        #expect(mayAsk(&questions, entry(5, version: 2, uid: 8), of: first, isRefresh: false, now: .zero))
    }

    @Test("wait for the answer under way before the next version is asked for")
    func newerMeanwhile() {
        var questions = TopologyQuestions()
        _ = questions.mayAsk(entry(5, version: 3), of: first, isRefresh: true, now: .zero)
        #expect(!mayAsk(&questions, entry(5, version: 4), of: second, isRefresh: true, now: .zero))
        questions.onRecord(PeerName(truncating: 5), version: 3, uid: 1)
        let due = MonotonicTime.zero + TopologyQuestions.interval
        #expect(questions.nextDue == due)
        #expect(self.due(&questions, due) == [second])
        questions.onRecord(PeerName(truncating: 5), version: 4, uid: 1)
        #expect(self.due(&questions, due + .seconds(5)).isEmpty)
        #expect(questions.isEmpty)
    }

    @Test("go to another neighbour when the answer is late or lost, and to nobody when nobody is left")
    func others() {
        var questions = TopologyQuestions()
        _ = questions.mayAsk(entry(5), of: first, isRefresh: false, now: .zero)
        _ = questions.mayAsk(entry(5), of: second, isRefresh: false, now: .zero)
        #expect(due(&questions, .zero, lost: first) == [second])
        let late = MonotonicTime.zero + TopologyQuestions.patience
        #expect(due(&questions, late).isEmpty)
        #expect(questions.isEmpty)
        _ = questions.mayAsk(entry(6), of: first, isRefresh: false, now: .zero)
        _ = questions.mayAsk(entry(6), of: second, isRefresh: false, now: .zero)
        #expect(due(&questions, late, dead: second).isEmpty)
        #expect(questions.isEmpty)
    }

    @Test("of a peer that is late itself are asked later")
    func strain() {
        var questions = TopologyQuestions()
        questions.strain = .seconds(1)
        _ = questions.mayAsk(entry(5), of: first, isRefresh: false, now: .zero)
        #expect(questions.nextDue == MonotonicTime.zero + (TopologyQuestions.patience + .seconds(16)))
        questions.onRecord(PeerName(truncating: 5), version: 1, uid: 1)
        let now = MonotonicTime.zero + TopologyQuestions.interval
        #expect(!mayAsk(&questions, entry(5, version: 2), of: first, isRefresh: true, now: now))
    }

    @Test("are open for so many records and no more")
    func limit() {
        var questions = TopologyQuestions()
        for name in 0..<UInt64(PeerTable.maximumPeers) {
            _ = questions.mayAsk(entry(name), of: first, isRefresh: false, now: .zero)
        }
        #expect(!mayAsk(&questions, entry(1 << 40), of: first, isRefresh: false, now: .zero))
    }
}

@Suite("Comparing topologies")
struct TopologyComparisonTests {
    /// A core with a neighbour, and all that was to be said at first said.
    private func core(level: String? = TopologyDigest.featureValue) -> (core: MeshCore, id: ConnectionID) {
        var core = MeshCore.sample(discovery: false)
        var remote = introduction(0x20)
        if let level { remote.features = [TopologyDigest.feature: level] }
        let (id, _) = core.addInbound(remote)
        _ = core.advance(to: moment(5))
        _ = core.drain(id)
        return (core, id)
    }

    private func digests(_ messages: [MeshMessage]) throws -> [TopologyDigest.Message] {
        try messages.filter { try $0.envelope().channel == TopologyDigest.channel }.map {
            let data = try $0.data()
            return try TopologyDigest.decode(data, from: 0, to: data.count)
        }
    }

    private func receive(
        _ core: inout MeshCore, _ id: ConnectionID, _ message: TopologyDigest.Message, at now: MonotonicTime
    ) -> [MeshDirective] {
        core.onMessage(
            id, tag: 4, payload: gossip(TopologyDigest.channel, TopologyDigest.encode(message), from: 0x20), now: now)
    }

    @Test("takes a summary each half minute")
    func periodically() throws {
        var (core, id) = core()
        for round in 1...4 {
            _ = core.advance(to: moment(Double(30 * round) + 1))
            #expect(try digests(core.drain(id)) == [.summary(core.table.summary)])
        }
    }

    @Test("never begins with a neighbour that did not say so, as 2.8.1")
    func plain() throws {
        var (core, id) = core(level: nil)
        for round in 1...8 {
            _ = core.advance(to: moment(Double(30 * round) + 1))
            for message in core.drain(id) { #expect(try message.envelope().channel == "topology") }
        }
        // What it cannot know comes from somebody who tests us: a channel like any other.
        _ = receive(&core, id, .summary(TopologySummary()), at: moment(250))
        #expect(core.drain(id).isEmpty)
        #expect(core.connections[id] != nil)
    }

    @Test("ends at equal summaries")
    func equal() {
        var (core, id) = core()
        let summary = core.table.summary
        #expect(receive(&core, id, .summary(summary), at: moment(6)).isEmpty)
        #expect(core.drain(id).isEmpty)
        #expect(core.statistics.equalSummaries == 1)
    }

    @Test("tells all versions when summaries differ, but not every time")
    func different() throws {
        var (core, id) = core()
        var inventories = 0
        for tenth in 0..<300 {
            _ = receive(&core, id, .summary(TopologySummary()), at: moment(5 + Double(tenth) / 10))
            inventories += try digests(core.drain(id)).filter { if case .inventory = $0 { true } else { false } }.count
        }
        #expect(inventories == 3)
        #expect(core.statistics.differentSummaries == 300)
    }

    @Test("asks for what is newer or missing here, and tells what is newer or missing there")
    func inventory() throws {
        var (core, id) = core()
        let update = encodeUpdate([
            SampleRecord(name: 0x20, uid: 7, version: 4, links: [(0x30, true), (0x31, true)]),
            SampleRecord(name: 0x30, version: 3, links: [(0x20, true)]),
            SampleRecord(name: 0x31, version: 3, links: [(0x20, true)]),
        ])
        _ = core.onMessage(id, tag: 4, payload: gossip("topology", update, from: 0x20), now: moment(6))
        _ = core.drain(id)
        // The neighbour has lost 0x31, and our record; of 0x30 it has a newer one.
        let slot = try #require(core.table.slot(of: PeerName(truncating: 0x20)))
        let stock = [try #require(core.table.entry(slot)?.entry), entry(0x30, version: 5), entry(0x40)]
        _ = receive(&core, id, .inventory(stock), at: moment(7))
        let sent = try digests(core.drain(id))
        #expect(sent.contains(.question([PeerName(truncating: 0x30), PeerName(truncating: 0x40)])))
        let announced = sent.flatMap { message -> [TopologyDigest.Entry] in
            if case .announcement(let entries) = message { entries } else { [] }
        }
        #expect(Set(announced.map(\.name.rawValue)) == [0x10, 0x31])
        // A mere announcement says nothing about what is not in it.
        _ = receive(&core, id, .announcement(stock), at: moment(8))
        #expect(try digests(core.drain(id)).isEmpty)
    }

    @Test("of two records of one version both sides keep the same", arguments: [false, true])
    func tied(isReversed: Bool) throws {
        let tellings = [
            [(to: 0x20 as UInt64, established: true)], [(to: 0x20, established: true), (to: 0x31, established: true)],
        ]
        let updates = tellings.map {
            encodeUpdate([
                SampleRecord(name: 0x20, uid: 7, version: 4, links: [(0x30, true)]),
                SampleRecord(name: 0x30, version: 3, links: $0),
            ])
        }
        let (mine, theirs) = isReversed ? (updates[1], updates[0]) : (updates[0], updates[1])
        var (core, id) = core()
        _ = core.onMessage(id, tag: 4, payload: gossip("topology", mine, from: 0x20), now: moment(6))
        _ = core.advance(to: moment(7))
        _ = core.drain(id)
        let slot = try #require(core.table.slot(of: PeerName(truncating: 0x30)))
        let held = try #require(core.table.entry(slot)?.entry)
        var (other, otherID) = self.core()
        _ = other.onMessage(otherID, tag: 4, payload: gossip("topology", theirs, from: 0x20), now: moment(6))
        let otherSlot = try #require(other.table.slot(of: PeerName(truncating: 0x30)))
        let told = try #require(other.table.entry(otherSlot)?.entry)
        try #require((told.version, told.uid) == (held.version, held.uid))
        #expect(core.table.summary != other.table.summary)

        _ = receive(&core, id, .inventory([told]), at: moment(8))
        let answer = try digests(core.drain(id))
        guard held.isOutranked(by: told) else {
            guard case .announcement(let entries) = answer.first else {
                Issue.record("\(answer)")
                return
            }
            #expect(entries.contains(held))
            // Said without an announcement it is answered too, and not believed.
            _ = core.onMessage(id, tag: 4, payload: gossip("topology", theirs, from: 0x20), now: moment(9))
            #expect(core.table.entry(slot)?.entry == held)
            return
        }
        #expect(answer.first == .question([PeerName(truncating: 0x30)]))
        _ = core.onMessage(id, tag: 4, payload: gossip("topology", theirs, from: 0x20), now: moment(9))
        #expect(core.table.entry(slot)?.entry == told)
        #expect(core.table.summary == other.table.summary)
    }

    @Test("an owner goes beyond what is said of it in its own version, and only then", arguments: [false, true])
    func contradiction(isAnnounced: Bool) throws {
        var (core, id) = core()
        let own = core.table.own
        let entry = try #require(own.entry)
        func tell(_ core: inout MeshCore, _ record: SampleRecord, _ entry: TopologyDigest.Entry, at second: Double) {
            if isAnnounced {
                _ = receive(&core, id, .announcement([entry]), at: moment(second))
            } else {
                let update = encodeUpdate([record])
                _ = core.onMessage(id, tag: 4, payload: gossip("topology", update, from: 0x20), now: moment(second))
            }
        }
        var record = SampleRecord(name: 0x10, nickname: own.nickname, uid: own.uid, version: own.version)
        record.shortID = own.shortID.map { Int($0.rawValue) }
        let link = try #require(core.table.ownLinks.values.first)
        record.address = link.address
        record.outbound = link.outbound
        record.links = [(0x20, link.established)]
        tell(&core, record, entry, at: 6)
        // Releases that know of no short ids leave ours away.
        var short = entry
        short.hasShortID.toggle()
        var shortRecord = record
        shortRecord.shortID = record.shortID == nil ? 5 : nil
        if own.shortID != nil { tell(&core, shortRecord, short, at: 7) }
        #expect(core.table.own.version == own.version)
        #expect(core.statistics.forgedRecords == 0)
        var forged = entry
        forged.fingerprint ^= 1
        record.links = []
        tell(&core, record, forged, at: 8)
        #expect(core.table.own.version == own.version + 1)
        #expect(core.statistics.forgedRecords == 1)
        // What was true once is not false.
        tell(&core, record, forged, at: 9)
        #expect(core.table.own.version == own.version + 1)
    }

    @Test("peers that cannot be reached are kept to ourself until they can")
    func unreachable() throws {
        var (core, id) = core()
        var other = introduction(0x21, uid: 8)
        other.features = MeshCore.announcedFeatures
        let (otherID, _) = core.addInbound(other, at: moment(5))
        func tell(_ records: [SampleRecord], at second: Double) throws -> [[UInt64]] {
            _ = core.onMessage(
                id, tag: 4, payload: gossip("topology", encodeUpdate(records), from: 0x20), now: moment(second))
            _ = core.advance(to: moment(second + 1.5))
            return try digests(core.drain(otherID)).compactMap { message in
                switch message {
                case .announcement(let entries), .inventory(let entries): entries.map(\.name.rawValue)
                case .question, .summary: nil
                }
            }
        }
        let neighbours = [(to: 0x10 as UInt64, established: true)]
        _ = try tell([SampleRecord(name: 0x20, uid: 7, version: 4, links: neighbours)], at: 6)
        let ghost = SampleRecord(name: 0x30, version: 3, links: [(0x20, true)])
        #expect(try !tell([ghost], at: 10).joined().contains(0x30))
        #expect(core.table.slot(of: PeerName(truncating: 0x30)) != nil)
        // Nor is it in what somebody gets who lacks everything.
        _ = receive(&core, otherID, .summary(TopologySummary()), at: moment(12))
        let inventory = try digests(core.drain(otherID)).compactMap { message -> [UInt64]? in
            if case .inventory(let entries) = message { entries.map(\.name.rawValue) } else { nil }
        }
        #expect(inventory.count == 1 && !inventory.joined().contains(0x30), "\(inventory)")
        let connected = SampleRecord(name: 0x20, uid: 7, version: 5, links: neighbours + [(0x30, true)])
        #expect(try tell([ghost, connected], at: 13).joined().contains(0x30))
    }

    @Test("comes when nothing has changed for a while")
    func calm() throws {
        var (core, id) = core()
        let record = SampleRecord(name: 0x20, uid: 7, version: 4, links: [(0x10, true)])
        _ = core.onMessage(id, tag: 4, payload: gossip("topology", encodeUpdate([record]), from: 0x20), now: moment(6))
        _ = core.advance(to: moment(8.9))
        #expect(try !digests(core.drain(id)).contains(.summary(core.table.summary)))
        _ = core.advance(to: moment(9.1))
        #expect(try digests(core.drain(id)).contains(.summary(core.table.summary)))
    }

    @Test("ends the connection of who sends no digest")
    func malformed() {
        var (core, id) = core()
        let directives = core.onMessage(
            id, tag: 4, payload: gossip(TopologyDigest.channel, [3, 1], from: 0x20), now: moment(6))
        #expect(directives.closed.map(\.id) == [id])
        #expect(core.statistics.malformedUpdates == 1)
    }
}
