import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveIPAM

@Suite("Recordings of whole allocators") struct AllocatorVectorTests {
    @Test("there are recordings")
    func complete() throws {
        let all = try Vectors.load("ipam-allocator")
        #expect(all.count >= 27)
        #expect(all.allSatisfy { $0.kind == "allocator-run" })
    }

    @Test(
        "allocators go through the recorded states and messages", arguments: recorded("ipam-allocator", "allocator-run")
    )
    func run(_ recording: Vectors.Case) throws {
        var replay = try AllocatorReplay(recording)
        for (number, step) in try field(recording.json, "steps", as: [[String: Any]].self).enumerated() {
            try replay.run(step, "step \(number) of \(recording)")
        }
    }
}

/// The allocators of one recording. Messages between them are those recorded, not ours, so each step is judged alone.
private struct AllocatorReplay {
    private let nodes: [[String: Any]]
    private var allocators: [Allocator?]
    private var stored: [StoredState?]
    private var seconds: Int64
    private let startSeconds: Int64
    private var requests: [RequestID: (op: String, ident: String, argument: String)] = [:]
    private var completed: [[String: String]] = []
    private var unicasts: [(PeerName, PeerMessage)] = []
    private var broadcasts = 0
    private var transferred: Int?
    private let unreachable: Bool

    init(_ recording: Vectors.Case) throws {
        nodes = try field(recording.json, "nodes")
        allocators = nodes.map { _ in nil }
        stored = nodes.map { _ in nil }
        startSeconds = try #require(Int64(try field(recording.json, "time_at_start", as: String.self)))
        seconds = startSeconds
        unreachable = recording.name.contains("cannot be reached")
    }

    private var now: AllocatorTime {
        AllocatorTime(.zero + .seconds(seconds - startSeconds), unixSeconds: seconds)
    }

    private func configuration(_ json: [String: Any]) throws -> AllocatorConfiguration {
        let seed = try peerNames(json["seed"])
        let isObserver = try field(json, "observer", as: Bool.self)
        var configuration = AllocatorConfiguration(
            peer: try peerName(json["peer"]), uid: try #require(UInt64(try field(json, "uid", as: String.self))),
            nickname: try field(json, "nickname"), universe: try IPv4CIDR.parse(try field(json, "universe")),
            start: isObserver ? .observer : seed.isEmpty ? .consensus : .seed(seed), quorum: try field(json, "quorum"),
            policy: .weave281)
        for claim in try field(json, "pre_claims", as: [[String: Any]].self) {
            configuration.preClaims.append(
                AllocatorConfiguration.PreClaim(
                    ident: try field(claim, "ident"), isContainer: try field(claim, "is_container"),
                    cidr: try IPv4CIDR.parse(try field(claim, "cidr"))))
        }
        return configuration
    }

    mutating func run(_ step: [String: Any], _ place: String) throws {
        let op = try field(step, "op", as: String.self)
        if op == "time-passes" {
            seconds += Int64(try field(step, "seconds", as: Int.self))
            return
        }
        let index = try field(step, "at", as: Int.self)
        (completed, unicasts, broadcasts, transferred) = ([], [], 0, nil)
        if op == "start" || op == "restart" {
            if op == "start" { stored[index] = nil }
            allocators[index] = try Allocator(configuration(nodes[index]), generator: SeededGenerator(seed: 7))
        }
        var allocator = try #require(allocators[index])
        let id = RequestID(UInt64(requests.count + 1))
        let outcome = try apply(op, step, id, &allocator, stored[index])
        carryOut(outcome.directives, index, &allocator)
        allocators[index] = allocator
        if op == "free" || op == "delete" { expectReply(id, step["error"] as? String, place) }
        if op.hasPrefix("receive") { #expect(outcome.error == step["error"] as? String, "\(place)") }
        if op == "takeover" { #expect(transferred == step["transferred"] as? Int, "\(place)") }
        if op == "lookup" {
            let range = try IPv4CIDR.parse(try field(step, "cidr")).range
            let found = allocator.addresses(of: try field(step, "ident"), in: range).map(\.description)
            #expect(found == step["result"] as? [String] ?? [], "\(place)")
        }
        try expect(step, allocator, place)
    }

    private mutating func apply(
        _ op: String, _ step: [String: Any], _ id: RequestID, _ allocator: inout Allocator, _ stored: StoredState?
    ) throws -> (directives: [AllocatorDirective], error: String?) {
        let ident = step["ident"] as? String ?? ""
        if ["allocate", "claim"].contains(op) { requests[id] = (op, ident, try field(step, "cidr")) }
        if ["free", "delete", "takeover"].contains(op) { requests[id] = (op, ident, "") }
        switch op {
        case "start", "restart": return (allocator.onStart(stored: stored, now: now), nil)
        case "allocate":
            let subnet = try IPv4CIDR.parse(try field(step, "cidr"))
            return (allocator.onAllocate(id, ident: ident, subnet: subnet, isContainer: true, now: now), nil)
        case "claim":
            let cidr = try IPv4CIDR.parse(try field(step, "cidr"))
            let acceptsUnknown = step["no_error_on_unknown"] as? Bool ?? false
            return (
                allocator.onClaim(
                    id, ident: ident, cidr: cidr, isContainer: true, acceptsUnknown: acceptsUnknown, now: now), nil
            )
        case "lookup": return ([], nil)
        case "free":
            return (allocator.onFree(id, ident: ident, address: try address(step["address"]), now: now), nil)
        case "delete": return (allocator.onDelete(id, ident: ident, now: now), nil)
        case "tick": return (allocator.onTick(now: now), nil)
        case "shutdown": return (allocator.onShutdown(now: now), nil)
        case "takeover": return (allocator.onTakeover(id, of: try field(step, "peer"), now: now), nil)
        case "container-died": return (allocator.onContainerDied(ident, now: now), nil)
        case "container-started": return (allocator.onContainerStarted(ident, now: now), nil)
        case "container-destroyed": return (allocator.onContainerDestroyed(ident, now: now), nil)
        case "prune":
            let running = Set(try field(step, "idents", as: [String].self))
            return (allocator.onPrune(keeping: running, now: now), nil)
        case "receive-broadcast", "receive-gossip":
            let message = try StateMessage.decode(try hexBytes(step["bytes"]))
            let sender = op == "receive-gossip" ? nil : try name(of: step["from"])
            let (directives, error) = allocator.onState(message, from: sender, now: now)
            return (directives, error?.message)
        case "receive-unicast":
            let message = try PeerMessage.decode(try hexBytes(step["bytes"]))
            let (directives, error) = allocator.onMessage(message, from: try name(of: step["from"]), now: now)
            return (directives, error?.message)
        default:
            Issue.record("\(op) is not tested")
            return ([], nil)
        }
    }

    private func name(of index: Any?) throws -> PeerName { try peerName(nodes[try #require(index as? Int)]["peer"]) }

    private mutating func carryOut(_ directives: [AllocatorDirective], _ index: Int, _ allocator: inout Allocator) {
        for directive in directives {
            switch directive {
            case .persist(let transaction):
                var state = stored[index] ?? StoredState(peer: transaction.peer, ring: nil, owned: [:])
                state.apply(transaction)
                stored[index] = state
            case .unicast(let peer, let message):
                unicasts.append((peer, message))
                if unreachable {
                    let more = allocator.onUnicastFailed(
                        to: peer, message, reason: "unknown relay destination: \(peer)", now: now)
                    carryOut(more, index, &allocator)
                }
            case .broadcast: broadcasts += 1
            case .complete(let id, let reply): note(id, reply)
            case .log: break
            }
        }
    }

    private mutating func note(_ id: RequestID, _ reply: AllocatorReply) {
        guard let (op, ident, argument) = requests[id] else { return }
        var record = ["op": op, "ident": ident, "argument": argument, "id": "\(id.value)"]
        switch reply {
        case .address(let cidr): record["address"] = cidr.address.description
        case .failed(let error): record["error"] = error.message
        case .transferred(let count): transferred = count
        case .done: break
        }
        completed.append(record)
    }

    private func expectReply(_ id: RequestID, _ error: String?, _ place: String) {
        let reply = completed.first { $0["id"] == "\(id.value)" }
        #expect(reply != nil, "\(place)")
        #expect(reply?["error"] == error, "\(place)")
    }

    private func expect(_ step: [String: Any], _ allocator: Allocator, _ place: String) throws {
        let ended = completed.filter { ["allocate", "claim"].contains($0["op"] ?? "") }
        let wanted = try field(step, "completed", as: [[String: Any]].self)
        #expect(ended.count == wanted.count, "\(place)")
        for json in wanted {
            let isThere = ended.contains { record in
                ["op", "ident", "argument", "address", "error"].allSatisfy { record[$0] == json[$0] as? String }
            }
            #expect(isThere, "\(place): \(json) among \(ended)")
        }
        try expectSent(try field(step, "sent"), allocator, place)
        try expectState(try field(step, "state"), allocator, place)
    }

    private func expectSent(_ sent: [[String: Any]], _ allocator: Allocator, _ place: String) throws {
        var expected: [(PeerName, PeerMessage)] = []
        var expectedBroadcasts = 0
        for message in sent {
            let bytes = try hexBytes(message["bytes"])
            if message["type"] as? String == "broadcast" {
                expectedBroadcasts += 1
                let state = try stateMessage(message["decoded"])
                #expect(sorted(try StateMessage.decode(bytes)) == state, "\(place)")
                #expect(sorted(allocator.state(unixSeconds: seconds)) == state, "\(place)")
                #expect(sorted(try StateMessage.decode(allocator.state(unixSeconds: seconds).encode())) == state)
            } else {
                let decoded = try peerMessage(message["decoded"])
                #expect(try PeerMessage.decode(bytes) == decoded, "\(place)")
                expected.append((try peerName(message["to"]), decoded))
            }
        }
        #expect(broadcasts == expectedBroadcasts, "\(place)")
        #expect(unicasts.map(\.0) == expected.map(\.0), "\(place)")
        #expect(unicasts.map(\.1) == expected.map(\.1), "\(place)")
    }

    private func expectState(_ state: [String: Any], _ allocator: Allocator, _ place: String) throws {
        #expect(allocator.ring.entries == (try entries(state["entries"])), "\(place)")
        #expect(allocator.ring.seeds == (try peerNames(state["seeds"])), "\(place)")
        #expect(allocator.space.takenRanges == (try ranges(state["space_owned"])), "\(place)")
        #expect(allocator.space.freeRanges == (try ranges(state["space_free"])), "\(place)")
        var owned: [String: OwnedAddresses] = [:]
        for json in try field(state, "addresses", as: [[String: Any]].self) {
            owned[try field(json, "ident")] = OwnedAddresses(
                isContainer: try field(json, "is_container"),
                cidrs: try field(json, "cidrs", as: [String].self).map { try IPv4CIDR.parse($0) })
        }
        #expect(allocator.owned == owned, "\(place)")
        var nicknames: [PeerName: String] = [:]
        for pair in try field(state, "nicknames", as: [[String]].self) { nicknames[try peerName(pair[0])] = pair[1] }
        #expect(allocator.nicknames == nicknames, "\(place)")
        let pending = allocator.pendingCounts
        #expect([pending.primes, pending.claims, pending.allocations] == state["pending"] as? [Int], "\(place)")
        #expect(allocator.isAwaitingConsensus == state["awaiting_consensus"] as? Bool, "\(place)")
        if state["paxos"] is [Any] {
            #expect(sorted(try #require(allocator.consensus).known) == (try knowledge(state["paxos"])), "\(place)")
        } else if state.keys.contains("paxos") {
            #expect(allocator.consensus == nil, "\(place)")
        }
    }
}
