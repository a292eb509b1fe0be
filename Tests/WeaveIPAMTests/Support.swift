import Testing
import WeaveCore

@testable import WeaveIPAM

/// Peer number `number` of a test.
func testPeer(_ number: Int) -> PeerName { PeerName(truncating: UInt64(number) << 40 | 0x0200_0000) }

func cidr(_ text: String) -> IPv4CIDR { IPv4CIDR(text) ?? IPv4CIDR.none }

extension IPv4CIDR {
    /// Stands for text in a test that is wrong; nothing lies in it.
    fileprivate static var none: IPv4CIDR { IPv4CIDR(.any, prefixLength: 32) ?? .none }
}

func ip(_ text: String) -> IPv4Address { IPv4Address(text) ?? .any }

func seconds(_ value: Double) -> AllocatorTime {
    AllocatorTime(.zero + .seconds(value), unixSeconds: 1_600_000_000 + Int64(value))
}

/// One allocator with what it has saved, answered and sent.
struct TestPeer {
    var allocator: Allocator
    var stored: StoredState?
    var replies: [RequestID: AllocatorReply] = [:]
    var unicasts: [(to: PeerName, message: PeerMessage)] = []
    var broadcasts = 0
    var logs: [String] = []
    var transactions: [RingTransaction] = []
    private var lastID: UInt64 = 0

    init(
        _ number: Int, _ universe: String = "10.0.0.0/24", start: AllocatorConfiguration.Start = .consensus,
        quorum: Int = 1, policy: AllocatorPolicy = .standard, preClaims: [AllocatorConfiguration.PreClaim] = [],
        stored: StoredState? = nil
    ) throws {
        allocator = try Allocator(
            AllocatorConfiguration(
                peer: testPeer(number), uid: UInt64(1000 + number), nickname: "host\(number)", universe: cidr(universe),
                start: start, quorum: quorum, preClaims: preClaims, policy: policy),
            generator: SeededGenerator(seed: UInt64(number)))
        self.stored = stored
        carryOut(allocator.onStart(stored: stored, now: seconds(0)))
    }

    var name: PeerName { allocator.peer }

    mutating func carryOut(_ directives: [AllocatorDirective]) {
        for (index, directive) in directives.enumerated() {
            switch directive {
            case .persist(let transaction):
                #expect(index == 0, "what is to be durable comes first")
                transactions.append(transaction)
                var state = stored ?? StoredState(peer: transaction.peer, ring: nil, owned: [:])
                state.apply(transaction)
                stored = state
            case .unicast(let peer, let message): unicasts.append((peer, message))
            case .broadcast: broadcasts += 1
            case .complete(let id, let reply):
                #expect(replies[id] == nil, "a request is answered once")
                replies[id] = reply
            case .log(_, let text): logs.append(text)
            }
        }
    }

    /// Carries an event out and gives the reply to it, nil while it waits.
    mutating func ask(_ event: (inout Allocator, RequestID) -> [AllocatorDirective]) -> AllocatorReply? {
        let id = nextID()
        carryOut(event(&allocator, id))
        return replies[id]
    }

    mutating func nextID() -> RequestID {
        lastID += 1
        return RequestID(lastID)
    }

    mutating func allocate(_ ident: String, _ subnet: String = "10.0.0.0/24", at time: Double = 0) -> AllocatorReply? {
        ask { $0.onAllocate($1, ident: ident, subnet: cidr(subnet), isContainer: true, now: seconds(time)) }
    }

    mutating func allocated(_ ident: String, _ subnet: String = "10.0.0.0/24", at time: Double = 0) -> String? {
        guard case .address(let cidr)? = allocate(ident, subnet, at: time) else { return nil }
        return cidr.address.description
    }

    mutating func claim(_ ident: String, _ address: String, at time: Double = 0) -> AllocatorReply? {
        ask { $0.onClaim($1, ident: ident, cidr: cidr(address), isContainer: true, now: seconds(time)) }
    }

    mutating func delete(_ ident: String, at time: Double = 0) -> AllocatorReply? {
        ask { $0.onDelete($1, ident: ident, now: seconds(time)) }
    }

    /// Takes in the state of another peer.
    @discardableResult
    mutating func hear(_ other: TestPeer, at time: Double = 0, periodic: Bool = false) -> IPAMError? {
        let message = other.allocator.state(unixSeconds: seconds(time).unixSeconds)
        let (directives, error) = allocator.onState(message, from: periodic ? nil : other.name, now: seconds(time))
        carryOut(directives)
        return error
    }

    @discardableResult
    mutating func receive(_ message: PeerMessage, from sender: PeerName, at time: Double = 0) -> IPAMError? {
        let (directives, error) = allocator.onMessage(message, from: sender, now: seconds(time))
        carryOut(directives)
        return error
    }

    mutating func tick(at time: Double) { carryOut(allocator.onTick(now: seconds(time))) }

    /// Space requests sent, and to whom.
    var spaceRequests: [PeerName] {
        unicasts.compactMap { if case .spaceRequest = $0.message { $0.to } else { nil } }
    }
}

/// Delivers all unicasts between the peers until there are none left; at most so many.
func exchange(_ peers: inout [TestPeer], at time: Double = 0, atMost limit: Int = 1000) {
    var delivered = 0
    while let from = peers.indices.first(where: { !peers[$0].unicasts.isEmpty }), delivered < limit {
        let (to, message) = peers[from].unicasts.removeFirst()
        guard let target = peers.firstIndex(where: { $0.name == to }) else { continue }
        peers[target].receive(message, from: peers[from].name, at: time)
        delivered += 1
    }
    #expect(delivered < limit, "peers go on talking for ever")
}

/// Whether two rings say the same, whatever they hold free.
func agree(_ left: Ring, _ right: Ring) -> Bool {
    left.entries.count == right.entries.count && zip(left.entries, right.entries).allSatisfy { $0.agrees(with: $1) }
}
