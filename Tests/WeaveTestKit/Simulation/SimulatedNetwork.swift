import WeaveCore

/// What the simulated network does to packets.
public struct NetworkConditions: Sendable {
    /// One way, uniformly chosen for each packet. Datagrams overtake each other; streams keep their order.
    public var delay: ClosedRange<Duration>
    /// The share of packets lost. A stream sends again after `retransmission`, a datagram is gone.
    public var loss: Double
    /// How long a stream waits before it sends a lost packet again.
    public var retransmission: Duration
    /// The share of datagrams that arrive twice.
    public var duplication: Double

    public init(
        delay: ClosedRange<Duration> = .milliseconds(1)...(.milliseconds(40)), loss: Double = 0,
        retransmission: Duration = .milliseconds(200), duplication: Double = 0
    ) {
        self.delay = delay
        self.loss = loss
        self.retransmission = retransmission
        self.duplication = duplication
    }

    public static let calm = NetworkConditions()
    public static let rough = NetworkConditions(
        delay: .milliseconds(1)...(.milliseconds(300)), loss: 0.05, duplication: 0.02)

    /// The delay of a stream's packet, retransmissions included.
    func streamDelay(_ generator: inout SeededGenerator) -> Duration {
        var total = randomDelay(&generator)
        var attempts = 0
        while attempts < 8, chance(loss, &generator) {
            total += retransmission * (1 << min(attempts, 4))
            attempts += 1
        }
        return total
    }

    /// The delays of the copies of a datagram that arrive.
    func datagramDelays(_ generator: inout SeededGenerator) -> [Duration] {
        guard !chance(loss, &generator) else { return [] }
        let first = randomDelay(&generator)
        return chance(duplication, &generator) ? [first, randomDelay(&generator)] : [first]
    }

    private func randomDelay(_ generator: inout SeededGenerator) -> Duration {
        let (low, high) = (delay.lowerBound.wholeNanoseconds, delay.upperBound.wholeNanoseconds)
        return .nanoseconds(Int64.random(in: low...high, using: &generator))
    }
}

/// True with the given probability.
func chance(_ probability: Double, _ generator: inout SeededGenerator) -> Bool {
    probability > 0 && Double.random(in: 0..<1, using: &generator) < probability
}

/// Which hosts cannot reach each other at present: hosts of different groups.
struct Partition {
    private var groups: [Int]

    init(hosts: Int) { groups = Array(repeating: 0, count: hosts) }

    mutating func assign(_ host: Int, group: Int) { groups[host] = group }
    mutating func heal() { groups = Array(repeating: 0, count: groups.count) }
    func separates(_ a: Int, _ b: Int) -> Bool { groups[a] != groups[b] }
}
