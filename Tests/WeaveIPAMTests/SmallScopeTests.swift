import Testing
import WeaveCore

@testable import WeaveIPAM

/// Every history of a small world, tried out: three peers with two addresses each.
private struct SmallRingWorld: Hashable {
    var rings: [Ring]
    /// What each peer has given to containers.
    var used: [Set<Int>]
    /// Rings that were not believed. Here everybody speaks the truth.
    var refusals = 0

    static let peers = (1...3).map(testPeer)
    static let universe = AddressRange(0x0a00_0000, 0x0a00_0006)

    init() throws {
        used = [[], [], []]
        rings = try Self.peers.map { try Ring(universe: Self.universe, peer: $0) }
        for index in rings.indices { try rings[index].divide(among: Self.peers) }
    }

    /// What one peer can do, with itself or with another.
    enum Move: CaseIterable {
        case allocate, release, giveLow, giveHigh, hear
    }

    func isFree(_ index: Int, _ value: Int) -> Bool {
        (try? rings[index].owner(of: IPv4Address(value))) == Self.peers[index] && !used[index].contains(value)
    }

    func free(_ index: Int) -> [Int] { (Self.universe.start..<Self.universe.end).filter { isFree(index, $0) } }

    /// The world after a move; nil when it cannot be made.
    func after(_ move: Move, _ index: Int, _ other: Int, _ policy: MergePolicy) -> SmallRingWorld? {
        var world = self
        switch move {
        case .allocate:
            guard index == other, let value = free(index).first else { return nil }
            world.used[index].insert(value)
        case .release:
            guard index == other, let value = used[index].min() else { return nil }
            world.used[index].remove(value)
        case .giveLow, .giveHigh:
            let choices = free(index)
            guard index != other, let value = move == .giveLow ? choices.first : choices.last else { return nil }
            let range = AddressRange(value, value + 1)
            guard (try? world.rings[index].grant(range, to: Self.peers[other])) != nil else { return nil }
        case .hear:
            guard index != other else { return nil }
            let inUse: ([AddressRange]) -> Bool = { ranges in
                ranges.contains { range in !(range.start..<range.end).allSatisfy { isFree(index, $0) } }
            }
            if (try? world.rings[index].merge(rings[other], policy: policy, isInUse: inUse)) == nil {
                world.refusals += 1
            }
        }
        return world == self ? nil : world
    }

    /// What is wrong with the world; nil when nothing.
    func fault(countingRefusals: Bool) -> String? {
        if countingRefusals, refusals > 0 { return "a true ring was refused" }
        for ring in rings { if (try? ring.checkInvariants()) == nil { return "a ring breaks the rules" } }
        for value in Self.universe.start..<Self.universe.end {
            let address = IPv4Address(value)
            let owners = rings.filter { (try? $0.owner(of: address)) == $0.peer }
            if owners.count > 1 { return "\(address) is owned by \(owners.map(\.peer))" }
            let users = used.indices.filter { used[$0].contains(value) }
            if users.count > 1 { return "\(address) is in use on \(users.count) peers" }
            if let user = users.first, (try? rings[user].owner(of: address)) != Self.peers[user] {
                return "\(address) is in use where it is not owned"
            }
        }
        return nil
    }
}

/// Three participants and what is on its way between them.
private struct SmallConsensusWorld: Hashable {
    var nodes: [Consensus]
    /// One message at a time on each of the six ways; a newer one replaces an older.
    var ways: [[NodeID: NodeClaims]?]
    var proposals = [0, 0, 0]

    init(quorum: Int) {
        nodes = (0..<3).map { Consensus(node: NodeID(peer: testPeer($0 + 1), uid: UInt64($0)), quorum: quorum) }
        ways = Array(repeating: nil, count: 9)
    }

    mutating func send(_ index: Int) {
        for other in 0..<3 where other != index { ways[index * 3 + other] = nodes[index].known }
    }

    func next(maximumProposals: Int, proposers: Int = 3) -> [SmallConsensusWorld] {
        var worlds: [SmallConsensusWorld] = []
        for index in 0..<proposers where proposals.reduce(0, +) < maximumProposals {
            var world = self
            world.proposals[index] += 1
            try? world.nodes[index].propose()
            world.send(index)
            world.dropStale()
            worlds.append(world)
        }
        for way in ways.indices {
            guard let message = ways[way] else { continue }
            var world = self
            world.ways[way] = nil
            if world.nodes[way % 3].update(message), world.nodes[way % 3].think() { world.send(way % 3) }
            world.dropStale()
            worlds.append(world)
        }
        return worlds
    }

    /// What is no news now will never be, as knowledge only grows: to deliver it or not is the same.
    private mutating func dropStale() {
        for way in ways.indices {
            guard let message = ways[way] else { continue }
            var receiver = nodes[way % 3]
            if !receiver.update(message) { ways[way] = nil }
        }
    }

    var isSplit: Bool {
        let values = nodes.compactMap { $0.agreement?.value.sorted() }
        return Set(values).count > 1
    }
}

@Suite("Every history of a small world") struct SmallScopeTests {
    /// All worlds that can be reached in so many moves; stops at the first that is wrong.
    private func explore(_ policy: MergePolicy, depth: Int, countingRefusals: Bool = true) throws -> (
        worlds: Int, fault: String?
    ) {
        var seen: Set<SmallRingWorld> = [try SmallRingWorld()]
        var edge = seen
        for _ in 0..<depth {
            var next: Set<SmallRingWorld> = []
            for world in edge {
                for index in 0..<3 {
                    for other in 0..<3 {
                        for move in SmallRingWorld.Move.allCases {
                            guard let new = world.after(move, index, other, policy) else { continue }
                            guard seen.insert(new).inserted else { continue }
                            if let fault = new.fault(countingRefusals: countingRefusals) {
                                return (seen.count, "\(fault) after \(move) by \(index) with \(other)")
                            }
                            next.insert(new)
                        }
                    }
                }
            }
            edge = next
        }
        return (seen.count, nil)
    }

    #if DEBUG
        private static let depth = 5
        private static let proposers = 2
    #else
        private static let depth = 6
        private static let proposers = 3
    #endif

    @Test("three peers allocate, release, give and hear in every order: each address has one owner")
    func rings() throws {
        for policy in [MergePolicy.standard, .weave281] {
            let (worlds, fault) = try explore(policy, depth: Self.depth)
            print("ring worlds in \(Self.depth) moves: \(worlds)")
            #expect(fault == nil)
            #expect(worlds > 5000)
        }
    }

    @Test("the checker notices when the merge does not look at versions")
    func mutation() throws {
        var broken = MergePolicy.standard
        broken.checksVersions = false
        let (worlds, fault) = try explore(broken, depth: Self.depth, countingRefusals: false)
        print("found after \(worlds) worlds: \(fault ?? "nothing")")
        #expect(fault != nil)
    }

    @Test("three participants never agree on two values, whatever is said, lost and overtaken")
    func consensus() {
        var seen: Set<SmallConsensusWorld> = [SmallConsensusWorld(quorum: 2)]
        var edge = Array(seen)
        var agreements = 0
        while let world = edge.popLast() {
            for next in world.next(maximumProposals: 2, proposers: Self.proposers) where seen.insert(next).inserted {
                if next.isSplit { Issue.record("two values were agreed on") }
                if next.nodes.contains(where: { $0.agreement != nil }) { agreements += 1 }
                edge.append(next)
            }
        }
        print(
            "all consensus worlds with 2 proposals by \(Self.proposers) peers: \(seen.count), with an agreement: \(agreements)"
        )
        #expect(agreements > 100)
    }

    @Test("the checker notices when a quorum is no majority")
    func minority() {
        var seen: Set<SmallConsensusWorld> = [SmallConsensusWorld(quorum: 1)]
        var edge = Array(seen)
        var isSplit = false
        while let world = edge.popLast(), seen.count < 20_000, !isSplit {
            for next in world.next(maximumProposals: 2) where seen.insert(next).inserted {
                isSplit = isSplit || next.isSplit
                edge.append(next)
            }
        }
        #expect(isSplit)
    }
}
