import Testing
import WeaveCore

@testable import WeaveIPAM

@Suite("Properties of the ring and the space") struct RingPropertyTests {
    private static let seeds: [UInt64] = Array(1...25)

    private func universe(_ size: Int = 256) -> AddressRange {
        let start = Int(ip("10.0.0.0").rawValue)
        return AddressRange(start, start + size)
    }

    /// Replicas of one ring after a legal history: each peer grants of its own and counts its own, and they meet now and then.
    private func legalHistory(_ seed: UInt64, peers count: Int = 4, steps: Int = 60) throws -> [Ring] {
        var generator = SeededGenerator(seed: seed)
        let peers = (1...count).map(testPeer)
        var rings = try peers.map { try Ring(universe: universe(), peer: $0) }
        for index in rings.indices { try rings[index].divide(among: peers) }
        for _ in 0..<steps {
            let index = Int.random(in: 0..<count, using: &generator)
            switch Int.random(in: 0..<4, using: &generator) {
            case 0:
                guard let owned = rings[index].ranges(of: peers[index]).randomElement(using: &generator) else {
                    continue
                }
                let start = Int.random(in: owned.start..<owned.end, using: &generator)
                let end = Int.random(in: start + 1...owned.end, using: &generator)
                let other = peers[Int.random(in: 0..<count, using: &generator)]
                try rings[index].grant(AddressRange(start, end), to: other)
            case 1:
                let counts = rings[index].ranges(of: peers[index]).map {
                    (start: $0.start, count: Int.random(in: 0...$0.count, using: &generator))
                }
                try rings[index].reportFree(counts)
            default:
                let other = Int.random(in: 0..<count, using: &generator)
                // Nobody ever takes anything from another, so nothing may be refused although all is in use.
                try rings[index].merge(rings[other]) { _ in true }
            }
            try rings[index].checkInvariants()
        }
        return rings
    }

    /// A neutral third party that puts two rings together.
    private func joined(_ left: Ring, _ right: Ring) throws -> Ring {
        var both = left
        both.peer = testPeer(99)
        try both.merge(right) { _ in true }
        return both
    }

    @Test("after legal histories merging commutes, associates and is idempotent", arguments: seeds)
    func semilattice(seed: UInt64) throws {
        let rings = try legalHistory(seed)
        for a in rings {
            #expect(agree(try joined(a, a), a), "seed \(seed)")
            for b in rings {
                #expect(agree(try joined(a, b), try joined(b, a)), "seed \(seed)")
                for c in rings {
                    let left = try joined(try joined(a, b), c)
                    let right = try joined(a, try joined(b, c))
                    #expect(agree(left, right), "seed \(seed)")
                }
            }
        }
    }

    @Test(
        "after legal histories any order of meetings leads to one ring, of which each address has one owner",
        arguments: seeds)
    func convergence(seed: UInt64) throws {
        let rings = try legalHistory(seed, peers: 5)
        var generator = SeededGenerator(seed: seed ^ 0xff)
        var results: [Ring] = []
        for _ in 0..<3 {
            var copies = rings
            var pairs = copies.indices.flatMap { left in copies.indices.map { (left, $0) } }
            for _ in 0..<2 {
                pairs.shuffle(using: &generator)
                for (to, from) in pairs {
                    let other = copies[from]
                    try copies[to].merge(other) { _ in true }
                }
            }
            for copy in copies { #expect(agree(copy, copies[0]), "seed \(seed)") }
            results.append(copies[0])
        }
        for ring in results {
            #expect(agree(ring, results[0]), "seed \(seed)")
            let all = ring.allRanges.map(\.range)
            #expect(AddressRange.joined(all) == [universe()], "seed \(seed): every address has exactly one owner")
        }
    }

    @Test("whatever rings meet, nothing stops the program and the rules hold afterwards", arguments: seeds)
    func hostile(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var accepted = 0
        for _ in 0..<400 {
            let ours = randomRing(&generator, isValid: true)
            let theirs = randomRing(&generator, isValid: Bool.random(using: &generator))
            for policy in [MergePolicy.standard, .weave281] {
                var ring = ours
                let used = Int.random(in: 0..<3, using: &generator)
                let isInUse: ([AddressRange]) -> Bool = { ranges in
                    used == 0 || used == 1 && ranges.contains { $0.start & 8 == 0 }
                }
                do {
                    try ring.merge(theirs, policy: policy, isInUse: isInUse)
                    accepted += 1
                } catch {
                    #expect(ring.entries.map(\.peer) == ours.entries.map(\.peer), "seed \(seed)")
                    #expect(ring.entries.map(\.token) == ours.entries.map(\.token), "seed \(seed)")
                }
                #expect(throws: Never.self, "seed \(seed)") { try ring.checkInvariants() }
            }
        }
        #expect(accepted > 50, "seed \(seed)")
    }

    private func randomRing(_ generator: inout SeededGenerator, isValid: Bool) -> Ring {
        var entries: [RingEntry] = []
        let whole = universe(64)
        var tokens = Set(
            (0..<Int.random(in: 0..<6, using: &generator)).map { _ in Int.random(in: 0..<64, using: &generator) })
        if !isValid, Bool.random(using: &generator) { tokens.insert(64) }
        for token in tokens.sorted() {
            entries.append(
                RingEntry(
                    token: IPv4Address(whole.start + token), peer: testPeer(Int.random(in: 1...3, using: &generator)),
                    version: UInt32.random(in: 0...2, using: &generator), free: 0))
        }
        if !isValid, Bool.random(using: &generator) { entries.shuffle(using: &generator) }
        var ring = Ring(universe: whole, peer: testPeer(1), entries: entries, seeds: [])
        for index in ring.entries.indices where isValid {
            ring.entries[index].free = UInt32(Int.random(in: 0...ring.span(index), using: &generator))
        }
        return ring
    }

    @Test("grants of any part leave a valid ring with the right owners", arguments: seeds)
    func grants(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var ring = try Ring(universe: universe(64), peer: testPeer(1))
        try ring.divide(among: [testPeer(1), testPeer(2), testPeer(3)].shuffled(using: &generator).sorted())
        for _ in 0..<100 {
            let start = Int.random(in: 0..<64, using: &generator) + ring.universe.start
            let range = AddressRange(start, Int.random(in: start + 1...ring.universe.end, using: &generator))
            let isOurs = (range.start..<range.end).allSatisfy { (try? ring.owner(of: IPv4Address($0))) == testPeer(1) }
            let before = (ring.universe.start..<ring.universe.end).map { try? ring.owner(of: IPv4Address($0)) }
            let tokens = ring.entries.count
            let expected = isOurs ? ring.tokensAdded(byGranting: range) : 0
            let isGranted = (try? ring.grant(range, to: testPeer(4))) != nil
            #expect(isGranted == isOurs, "seed \(seed)")
            #expect(ring.entries.count == tokens + expected, "seed \(seed)")
            try ring.checkInvariants()
            for (offset, owner) in before.enumerated() {
                let place = ring.universe.start + offset
                let wanted = isGranted && range.start <= place && place < range.end ? testPeer(4) : owner
                #expect((try? ring.owner(of: IPv4Address(place))) == wanted, "seed \(seed)")
            }
            if ring.ranges(of: testPeer(1)).isEmpty { ring.transfer(from: testPeer(4), to: testPeer(1)) }
        }
    }

    @Test("a ring over the origin is granted, transferred and counted like any other")
    func wrapped() throws {
        var ring = Ring(
            universe: universe(), peer: testPeer(1),
            entries: [
                RingEntry(token: ip("10.0.0.16"), peer: testPeer(2), version: 1, free: 0),
                RingEntry(token: ip("10.0.0.32"), peer: testPeer(1), version: 1, free: 100),
            ], seeds: [])
        try ring.grant(AddressRange(ip("10.0.0.4")), to: testPeer(3))
        try ring.checkInvariants()
        #expect(try ring.owner(of: ip("10.0.0.4")) == testPeer(3))
        #expect(try ring.owner(of: ip("10.0.0.3")) == testPeer(1))
        #expect(try ring.owner(of: ip("10.0.0.5")) == testPeer(1))
        #expect(ring.ranges(of: testPeer(1)).reduce(0) { $0 + $1.count } == 239)
    }

    @Test("any order of the same seeds divides the ring alike, and takes in all of it", arguments: 1...12)
    func division(count: Int) throws {
        for text in ["10.32.0.0/12", "10.0.0.0/29"] {
            var first: Ring?
            for order in 0..<5 {
                var generator = SeededGenerator(seed: UInt64(order))
                var peers = (1...count).map(testPeer).shuffled(using: &generator)
                peers = Consensus.normalized(peers + peers)
                var ring = try Ring(universe: cidr(text).range, peer: testPeer(order))
                try ring.divide(among: peers)
                try ring.checkInvariants()
                #expect(ring.entries.reduce(0) { $0 + Int($1.free) } == cidr(text).size)
                #expect(ring.entries == (first ?? ring).entries)
                first = first ?? ring
            }
        }
    }

    @Test("a takeover beats late updates of the peer that was removed", arguments: [1, 50, 99])
    func lateUpdates(late: Int) throws {
        var peers = try (1...3).map { try Ring(universe: universe(), peer: testPeer($0)) }
        for index in peers.indices { try peers[index].divide(among: (1...3).map(testPeer)) }
        var dead = peers[2]
        for count in 0..<late {
            try dead.reportFree([(start: dead.ranges(of: testPeer(3))[0].start, count: count % 60)])
        }
        peers[0].transfer(from: testPeer(3), to: testPeer(1))
        for order in [[dead, peers[0]], [peers[0], dead]] {
            var witness = peers[1]
            for ring in order { try witness.merge(ring) { _ in true } }
            #expect(witness.ranges(of: testPeer(3)).isEmpty)
        }
    }

    // MARK: Space

    @Test("the biggest CIDR lies inside, is aligned, and is more than a quarter", arguments: seeds)
    func biggestCIDR(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<500 {
            let start = Int.random(in: 0..<1 << Int.random(in: 3..<32, using: &generator), using: &generator)
            let count = Int.random(in: 1...1 << Int.random(in: 0..<31, using: &generator), using: &generator)
            let range = AddressRange(start, start + count)
            let block = range.biggestCIDR
            #expect(range.contains(block) && block.count & (block.count - 1) == 0, "seed \(seed) \(range)")
            #expect(block.start % block.count == 0 && block.count * 4 > range.count, "seed \(seed) \(range)")
            #expect(AddressRange.joined(range.cidrs.map(\.range)) == [range], "seed \(seed) \(range)")
        }
    }

    @Test("a set of addresses is what a plain set is", arguments: seeds)
    func sets(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var set = AddressSet()
        var plain: Set<Int> = []
        for _ in 0..<300 {
            let start = Int.random(in: 0..<80, using: &generator)
            let range = AddressRange(start, Int.random(in: start...80, using: &generator))
            if Bool.random(using: &generator) {
                set.insert(range)
                plain.formUnion(range.start..<range.end)
            } else {
                set.remove(range)
                plain.subtract(range.start..<range.end)
            }
            #expect(Set(set.ranges.flatMap { $0.start..<$0.end }) == plain, "seed \(seed)")
            #expect(set.count == plain.count, "seed \(seed)")
            #expect(zip(set.ranges, set.ranges.dropFirst()).allSatisfy { $0.end < $1.start }, "seed \(seed)")
            let window = AddressRange(start, min(start + 20, 80))
            #expect(
                set.first(in: window) == plain.filter { window.start <= $0 && $0 < window.end }.min(), "seed \(seed)")
            #expect(set.count(in: window) == plain.count { window.start <= $0 && $0 < window.end }, "seed \(seed)")
            #expect(set.contains(window) == (window.start..<window.end).allSatisfy(plain.contains), "seed \(seed)")
        }
    }

    @Test("a donation is free, at most half of what is free, and gone afterwards", arguments: seeds)
    func donations(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var space = Space()
        space.add(universe())
        for _ in 0..<100 {
            try? space.claim(IPv4Address(Int.random(in: 0..<256, using: &generator) + universe().start))
        }
        var resting = AddressSet()
        for _ in 0..<20 {
            resting.insert(AddressRange(IPv4Address(Int.random(in: 0..<256, using: &generator) + universe().start)))
        }
        while space.freeCount > 0 {
            let before = space
            let isPlain = Bool.random(using: &generator)
            let given =
                isPlain
                ? space.donate(in: universe()) : space.donate(in: universe(), resting: resting) { _, _ in (0, 0) }
            let block = try #require(given)
            #expect(before.freeCount(in: block) == block.count && space.freeCount(in: block) == 0, "seed \(seed)")
            #expect(block.count <= (before.freeCount + 1) / 2, "seed \(seed)")
            #expect(space.takenRanges == before.takenRanges, "seed \(seed)")
            #expect(space.freeCount + block.count == before.freeCount, "seed \(seed)")
        }
        #expect(space.donate(in: universe()) == nil)
    }
}
