import Testing
import WeaveCore

@testable import WeaveIPAM

@Suite("Status, explanations and repair") struct ExplanationTests {
    private func contradiction() throws -> [TestPeer] {
        let seed = AllocatorConfiguration.Start.seed([testPeer(1), testPeer(2)])
        var peers = try (1...2).map { try TestPeer($0, start: seed) }
        _ = peers[0].allocate("c1")
        peers[1].hear(peers[0])
        _ = peers[1].ask { $0.onTakeover($1, of: "host1", isForced: true, now: seconds(1)) }
        let heard = peers[0].hear(peers[1], at: 2)
        let error = try #require(heard)
        #expect(error.code == .conflict)
        return peers
    }

    @Test("a contradiction names both owners, both versions and who is affected")
    func evidence() throws {
        let peers = try contradiction()
        let explanation = peers[0].allocator.explain(now: seconds(5).monotonic)
        let found = try #require(explanation.contradictions.first)
        #expect(found.source == testPeer(2) && found.nickname == "host2")
        let evidence = try #require(found.evidence)
        #expect(evidence.ours == .init(owner: testPeer(1), version: 1))
        #expect(evidence.theirs == .init(owner: testPeer(2), version: 102))
        #expect(evidence.range == AddressRange(ip("10.0.0.0"), ip("10.0.0.128")))
        #expect(found.affected == ["c1"])
        #expect(found.firstSeen == .seconds(3))
        #expect(peers[0].allocator.status().conflicts.count == 1)
        #expect(explanation.lines.contains { $0.contains("in use here by c1") })
    }

    @Test("a contradiction that goes on is told once a minute, not each time")
    func reminders() throws {
        var peers = try contradiction()
        for time in 3...200 { peers[0].hear(peers[1], at: Double(time)) }
        let found = try #require(peers[0].allocator.explain(now: seconds(200).monotonic).contradictions.first)
        #expect(found.count == 199)
        #expect(peers[0].logs.count { $0.contains("refused") } == 4)
    }

    @Test("insisting ends a contradiction when the other peer uses nothing there")
    func insist() throws {
        var peers = try contradiction()
        let plan = try #require(peers[0].allocator.explain(now: .zero).contradictions.first?.plan)
        let step = try #require(plan.first)
        #expect(step == .insist(token: ip("10.0.0.0"), above: 102))
        #expect(peers[0].ask { $0.onRepair($1, step, now: seconds(3)) } == .done)
        #expect(peers[1].hear(peers[0], at: 3) == nil)
        #expect(peers[0].hear(peers[1], at: 4) == nil)
        #expect(agree(peers[0].allocator.ring, peers[1].allocator.ring))
        #expect(try peers[1].allocator.ring.owner(of: ip("10.0.0.1")) == testPeer(1))
        #expect(peers[0].allocator.explain(now: .zero).contradictions.isEmpty)
        #expect(peers[0].allocator.owned["c1"] != nil)
    }

    @Test("giving way ends it too, at the price of the addresses, and only by force")
    func giveWay() throws {
        var peers = try contradiction()
        let plan = try #require(peers[0].allocator.explain(now: .zero).contradictions.first?.plan)
        let step = try #require(plan.last)
        guard case .failed(let error)? = peers[0].ask({ $0.onRepair($1, step, now: seconds(3)) }) else {
            Issue.record("addresses in use were given away without force")
            return
        }
        #expect(error.code == .refused)
        #expect(peers[0].ask { $0.onRepair($1, step, isForced: true, now: seconds(3)) } == .done)
        #expect(peers[0].hear(peers[1], at: 4) == nil)
        #expect(peers[1].hear(peers[0], at: 4) == nil)
        #expect(agree(peers[0].allocator.ring, peers[1].allocator.ring))
        #expect(peers[0].allocator.owned.isEmpty && peers[0].stored?.owned.isEmpty == true)
    }

    @Test("insisting on a part of a span that another peer claims makes it a span of its own")
    func insistOnPart() throws {
        var peer = try TestPeer(1)
        _ = peer.allocate("c1")
        #expect(peer.claim("c2", "10.0.0.200/24") == .done)
        var theirs = peer.allocator.ring
        theirs.peer = testPeer(2)
        theirs.insert(RingEntry(token: ip("10.0.0.192"), peer: testPeer(2), version: 3, free: 64))
        theirs.entries[0].free = 100
        let message = StateMessage(unixSeconds: 0, nicknames: [:], ring: theirs)
        #expect(peer.allocator.onState(message, from: testPeer(2), now: seconds(1)).error?.code == .conflict)
        let plan = try #require(peer.allocator.explain(now: .zero).contradictions.first?.plan)
        #expect(peer.ask { $0.onRepair($1, plan[0], now: seconds(2)) } == .done)
        try peer.allocator.ring.checkInvariants()
        #expect(peer.allocator.ring.entries.map(\.token) == [ip("10.0.0.0"), ip("10.0.0.192")])
        try theirs.merge(peer.allocator.ring) { _ in false }
        #expect(agree(theirs, peer.allocator.ring))
    }

    @Test("two clusters that began apart: one of them can start over")
    func startOver() throws {
        var (left, right) = (try TestPeer(1), try TestPeer(2))
        _ = left.allocate("c1")
        _ = right.allocate("d1")
        let heard = left.hear(right)
        let error = try #require(heard)
        #expect(error.code == .incompatible)
        let plan = try #require(left.allocator.explain(now: .zero).contradictions.first?.plan)
        #expect(plan == [.startOver])
        guard case .failed? = left.ask({ $0.onRepair($1, .startOver, now: seconds(1)) }) else {
            Issue.record("addresses in use were dropped without force")
            return
        }
        #expect(left.ask { $0.onRepair($1, .startOver, isForced: true, now: seconds(1)) } == .done)
        #expect(left.allocator.ring.isEmpty)
        #expect(left.hear(right, at: 2) == nil)
        #expect(agree(left.allocator.ring, right.allocator.ring))
    }

    @Test("a request that waits says what for")
    func waits() throws {
        var lonely = try TestPeer(1, quorum: 3)
        _ = lonely.allocate("c1")
        var reason = try #require(lonely.allocator.explain(now: seconds(9).monotonic).waiting.first)
        #expect(reason.ident == "c1" && reason.waitingFor == .seconds(9))
        #expect(reason.reason == "the first ring needs 3 peers to agree, and 2 of them have not been heard")
        let seed = AllocatorConfiguration.Start.seed([testPeer(1), testPeer(2)])
        var peer = try TestPeer(1, "10.0.0.0/29", start: seed)
        for number in 0..<4 { _ = peer.allocate("c\(number)", "10.0.0.0/29") }
        reason = try #require(peer.allocator.explain(now: seconds(1).monotonic).waiting.first)
        #expect(reason.reason.hasPrefix("asked \(testPeer(2))"))
        peer.carryOut(peer.allocator.onPeersChanged([testPeer(1)], now: seconds(2)))
        reason = try #require(peer.allocator.explain(now: seconds(3).monotonic).waiting.first)
        #expect(reason.reason.contains("unreachable") && reason.reason.contains("rmpeer"))
        #expect(peer.allocator.status().condition == .waitingForAddresses)
    }

    @Test("the words of the status follow the state")
    func conditions() throws {
        var peer = try TestPeer(1)
        #expect(peer.allocator.status().condition.description == "idle")
        _ = peer.allocate("c1")
        #expect(peer.allocator.status().condition.description == "ready")
        var observer = try TestPeer(2, start: .observer)
        _ = observer.allocate("c1")
        #expect(observer.allocator.status().condition.description == "priming")
        let voter = try {
            var it = try TestPeer(3, quorum: 2); _ = it.allocate("c1"); return it
        }()
        #expect(voter.allocator.status().condition.description == "awaiting consensus (quorum: 2, known: 1)")
        var orphan = try TestPeer(3, start: .observer)
        orphan.hear(peer)
        orphan.carryOut(orphan.allocator.onPeersChanged([testPeer(3)], now: seconds(1)))
        #expect(
            orphan.allocator.status().condition.description
                == "all IP ranges owned by unreachable peers - use 'rmpeer' if they are dead")
        #expect(orphan.allocator.status().unreachableShare == 1)
    }

    @Test("the status counts addresses and owners, ourselves first")
    func owners() throws {
        let seed = AllocatorConfiguration.Start.seed([testPeer(1), testPeer(2), testPeer(3)])
        var peer = try TestPeer(2, start: seed)
        _ = peer.allocate("c1")
        #expect(peer.claim("c2", "192.168.0.7/24") == .done)
        let status = peer.allocator.status()
        #expect(status.owners.map(\.peer) == [testPeer(2), testPeer(1), testPeer(3)])
        #expect(status.owners.reduce(0) { $0 + $1.count } == 256)
        #expect(status.activeCount == 1)
        #expect(status.entries.count == 3)
    }
}
