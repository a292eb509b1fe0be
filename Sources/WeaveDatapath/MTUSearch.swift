/// The search for the largest overlay packet that a path takes, as 2.8.1 does it (sections 4.2 and 4.3).
///
/// The kernel says what the first hop takes; that is tried first, and when no peer answers, values between the largest
/// known to be good and the smallest known to be bad are tried by halving. What `SleeveLink` adds (more probes at
/// once, values below the floor, growth) uses the methods of the last section; without them this is the recorded
/// sequence, probe for probe.
public struct MTUSearch: Sendable, Equatable {
    /// Assumed to be good in the beginning: Linux' smallest path MTU.
    public static let floor = 552
    /// How often one candidate is sent: with doubling timeouts 2.55 s in all.
    public static let attempts = 8
    /// How long the first probe of a candidate may take; each further one twice as long.
    public static let firstTimeout: Duration = .milliseconds(10)
    /// The smallest candidate: what every IPv4 path takes is more, and less carries nothing useful.
    public static let smallestCandidate = 64
    /// The overlay MTU whose probe would be taken for a fragmentation test.
    static let ambiguousCandidate = SpecialFrame.fragmentationTestLength - SleeveLayout.ethernetHeaderLength

    /// What to do after an event.
    public enum Step: Sendable, Hashable {
        /// Nothing.
        case wait
        /// Send a probe for `candidate` and come back with `onTimeout` after `timeout` unless it is answered.
        case probe(candidate: Int, timeout: Duration)
        /// The search has ended with this MTU; no timeout is wanted any more.
        case finished(mtu: Int)
    }

    /// What an underlay packet has beyond the overlay packet inside it.
    public let overhead: Int
    /// The overlay MTU in use: optimistic while searching.
    public private(set) var mtu = SleeveLayout.initialMTU
    /// The largest UDP payload in use.
    public private(set) var maximumPayload = SleeveLayout.maximumPacketLength
    /// The value being tried; nil when no search runs.
    public private(set) var candidate: Int?
    /// The largest value taken for good.
    public private(set) var highestGood = 0
    /// The smallest value taken for bad.
    public private(set) var lowestBad = 0
    /// How often the candidate was sent.
    public private(set) var testsSent = 0

    /// A link that has not been measured.
    public init(encrypted: Bool) { overhead = SleeveLayout.overhead(encrypted: encrypted) }

    /// Whether a search runs.
    public var isSearching: Bool { candidate != nil }

    /// The kernel refused a packet with DF: the path takes at most `pathMTU` bytes, IP header included.
    public mutating func onMessageTooBig(pathMTU: Int) -> Step {
        let limit = limit(forPathMTU: pathMTU)
        if let candidate, limit >= candidate { return .wait }
        highestGood = Self.floor
        lowestBad = limit + 1
        use(limit)
        return start(limit)
    }

    /// The peer received a probe for `value`.
    public mutating func onVerified(_ value: Int) -> Step {
        guard value == candidate else { return .wait }
        highestGood = value
        return next()
    }

    /// The last probe was not answered in time.
    public mutating func onTimeout() -> Step {
        guard let candidate else { return .wait }
        if testsSent < Self.attempts { return probe(candidate) }
        lowestBad = candidate
        return next()
    }

    /// The overlay MTU that a path MTU leaves, within what can be probed.
    public func limit(forPathMTU pathMTU: Int) -> Int {
        let largest = SleeveLayout.maximumPacketLength + SleeveLayout.udpOverhead
        let limit = max(min(pathMTU, largest) - overhead, Self.smallestCandidate)
        return limit == Self.ambiguousCandidate ? limit - 1 : limit
    }

    private mutating func next() -> Step {
        guard highestGood + 1 < lowestBad else { return finish() }
        let middle = (highestGood + lowestBad) / 2
        guard middle == Self.ambiguousCandidate else { return start(middle) }
        lowestBad = middle
        return next()
    }

    private mutating func start(_ value: Int) -> Step {
        candidate = value
        testsSent = 0
        return probe(value)
    }

    private mutating func probe(_ value: Int) -> Step {
        let timeout = Self.firstTimeout * (1 << testsSent)
        testsSent += 1
        return .probe(candidate: value, timeout: timeout)
    }

    private mutating func finish() -> Step {
        candidate = nil
        use(highestGood)
        return .finished(mtu: highestGood)
    }

    private mutating func use(_ value: Int) {
        mtu = value
        maximumPayload = LinkParameters.maximumPayload(mtu: value, overhead: overhead)
    }

    // MARK: - Beyond 2.8.1

    /// Starts a search between a good and a bad value with `candidate`, leaving the MTU in use as it is.
    mutating func search(from good: Int, below bad: Int, candidate: Int) -> Step {
        highestGood = good
        lowestBad = bad
        guard good + 1 < bad else { return finish() }
        return start(candidate == Self.ambiguousCandidate ? candidate - 1 : candidate)
    }

    /// Takes into account what other probes showed: `good` arrived; `bad`, when given, did not. Goes on to another
    /// candidate when the one being tried lies outside the new bounds.
    mutating func narrow(good: Int, bad: Int?) -> Step {
        guard let candidate else { return .wait }
        highestGood = max(highestGood, good)
        if let bad { lowestBad = min(lowestBad, bad) }
        return candidate <= highestGood || candidate >= lowestBad ? next() : .wait
    }

    /// A value that was taken for bad arrived after all: all values up to `ceiling` are open again.
    mutating func reopen(good: Int, ceiling: Int) -> Step {
        highestGood = max(highestGood, good)
        lowestBad = max(ceiling, good) + 1
        return next()
    }

    /// Ends a search without a result, using `value` from now on.
    mutating func abandon(using value: Int) {
        candidate = nil
        use(value)
    }

    /// Nothing limits the path: as before the first measurement.
    mutating func becomeUnlimited() { self = MTUSearch(overhead: overhead) }

    private init(overhead: Int) { self.overhead = overhead }
}
