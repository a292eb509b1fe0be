import WeaveCore

@testable import WeaveIPAM

/// What simulated allocators say to each other.
enum AllocatorPayload: Sendable {
    /// To one peer.
    case message(PeerMessage)
    /// To every peer, from its origin.
    case broadcast(StateMessage)
    /// The periodic exchange: the sender is not told.
    case gossip(StateMessage)
}

/// Something said that has arrived.
struct AllocatorArrival: Sendable {
    var from: PeerName
    var to: PeerName
    var payload: AllocatorPayload
}

/// How what allocators say gets from one to another. The simulation knows no more of the network than this, so a mesh of whole
/// peers fits beneath it as well as plain memory.
protocol AllocatorTransport {
    /// What peer number so and so, from 1 on, is called.
    func name(of number: Int) -> PeerName

    /// What a network that asks for states itself is to send for a peer from now on.
    mutating func publish(_ state: StateMessage, of peer: PeerName)

    /// Whether the peers that are present become others without the simulation's doing.
    var discoversPresence: Bool { get }

    /// Sends to one peer.
    ///
    /// - Returns: why that is not possible; nil when it is on its way.
    mutating func unicast(_ message: PeerMessage, from: PeerName, to: PeerName, now: MonotonicTime) -> String?

    /// Sends to every peer that can be reached.
    mutating func broadcast(_ state: StateMessage, from: PeerName, now: MonotonicTime)

    /// Tells a few neighbours.
    mutating func gossip(_ state: StateMessage, from: PeerName, now: MonotonicTime)

    /// Exchanges what `state` gives between all pairs that meet for the first time since they were apart.
    mutating func introduce(now: MonotonicTime, state: (PeerName) -> StateMessage?)

    /// When the next arrival, or work of the network's own, is due.
    var nextArrival: MonotonicTime? { get }

    /// What has arrived by `now`.
    mutating func arrivals(by now: MonotonicTime) -> [AllocatorArrival]

    /// The peers that `peer` knows to be in the mesh.
    func present(at peer: PeerName) -> Set<PeerName>

    /// These peers run, in groups that cannot reach each other.
    mutating func setGroups(_ groups: [Set<PeerName>], now: MonotonicTime)
}

/// A network in memory: delays, what was on its way is lost when peers part, some messages are lost or come twice.
struct MemoryTransport: AllocatorTransport {
    private var generator: SeededGenerator
    private var groups: [PeerName: Int] = [:]
    /// Pairs that have exchanged states since they last came together.
    private var introduced: Set<[PeerName]> = []
    private var queue: [(due: MonotonicTime, order: UInt64, arrival: AllocatorArrival)] = []
    private var head = 0
    private var order: UInt64 = 0
    /// Keeps the messages of one way in order.
    private var latest: [[PeerName]: MonotonicTime] = [:]
    private let loss: Double

    init(seed: UInt64, loss: Double = 0.01) {
        generator = SeededGenerator(seed: seed)
        self.loss = loss
    }

    func name(of number: Int) -> PeerName { testPeer(number) }

    mutating func publish(_ state: StateMessage, of peer: PeerName) {}

    var discoversPresence: Bool { false }

    private func isJoined(_ one: PeerName, _ other: PeerName) -> Bool {
        groups[one].map { $0 == groups[other] } ?? false
    }

    private mutating func send(_ from: PeerName, _ to: PeerName, _ payload: AllocatorPayload, _ now: MonotonicTime) {
        guard Double.random(in: 0..<1, using: &generator) >= loss else { return }
        let delay = Duration.milliseconds(Int64.random(in: 1...60, using: &generator))
        let due = max(now + delay, latest[[from, to]] ?? .zero)
        latest[[from, to]] = due
        let copies = Double.random(in: 0..<1, using: &generator) < 0.02 ? 2 : 1
        for _ in 0..<copies { insert(due, AllocatorArrival(from: from, to: to, payload: payload)) }
    }

    private mutating func insert(_ due: MonotonicTime, _ arrival: AllocatorArrival) {
        order += 1
        var place = queue.count
        while place > head, queue[place - 1].due > due { place -= 1 }
        queue.insert((due, order, arrival), at: place)
    }

    mutating func unicast(_ message: PeerMessage, from: PeerName, to: PeerName, now: MonotonicTime) -> String? {
        guard isJoined(from, to) else { return "unknown relay destination: \(to)" }
        send(from, to, .message(message), now)
        return nil
    }

    mutating func broadcast(_ state: StateMessage, from: PeerName, now: MonotonicTime) {
        for to in groups.keys.sorted() where to != from && isJoined(from, to) { send(from, to, .broadcast(state), now) }
    }

    mutating func gossip(_ state: StateMessage, from: PeerName, now: MonotonicTime) {
        let others = present(at: from).subtracting([from]).sorted().shuffled(using: &generator)
        for to in others.prefix(4) { send(from, to, .gossip(state), now) }
    }

    mutating func introduce(now: MonotonicTime, state: (PeerName) -> StateMessage?) {
        let names = groups.keys.sorted()
        introduced = introduced.filter { isJoined($0[0], $0[1]) }
        for (index, one) in names.enumerated() {
            for other in names[(index + 1)...] where isJoined(one, other) && introduced.insert([one, other]).inserted {
                if let state = state(one) { send(one, other, .gossip(state), now) }
                if let state = state(other) { send(other, one, .gossip(state), now) }
            }
        }
    }

    var nextArrival: MonotonicTime? { head < queue.count ? queue[head].due : nil }

    mutating func arrivals(by now: MonotonicTime) -> [AllocatorArrival] {
        var arrived: [AllocatorArrival] = []
        while head < queue.count, queue[head].due <= now {
            let arrival = queue[head].arrival
            if isJoined(arrival.from, arrival.to) { arrived.append(arrival) }
            head += 1
        }
        if head > 1024 {
            queue.removeFirst(head)
            head = 0
        }
        return arrived
    }

    func present(at peer: PeerName) -> Set<PeerName> { Set(groups.keys.filter { isJoined(peer, $0) }) }

    mutating func setGroups(_ new: [Set<PeerName>], now: MonotonicTime) {
        groups = [:]
        for (index, group) in new.enumerated() { for peer in group { groups[peer] = index } }
    }
}
