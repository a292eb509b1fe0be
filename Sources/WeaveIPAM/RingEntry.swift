public import WeaveCore

/// A token of the ring with what its owner says of the addresses from it to the next token.
public struct RingEntry: Hashable, Sendable {
    /// The first address of the span.
    public var token: IPv4Address
    /// Who owns the span.
    public var peer: PeerName
    /// Goes up with each change by the owner.
    public var version: UInt32
    /// How many addresses of the span are free, according to its owner. Advice, not truth.
    public var free: UInt32

    /// Makes an entry.
    public init(token: IPv4Address, peer: PeerName, version: UInt32 = 0, free: UInt32) {
        self.token = token
        self.peer = peer
        self.version = version
        self.free = free
    }

    /// The same statement, whatever is free.
    func agrees(with other: RingEntry) -> Bool {
        token == other.token && peer == other.peer && version == other.version
    }

    var position: Int { Int(token.rawValue) }

    /// Versions stop at the top instead of starting again: a version that fell would lose to every old one.
    mutating func raise(by step: UInt32 = 1) {
        let (sum, overflow) = version.addingReportingOverflow(step)
        version = overflow ? .max : sum
    }
}

/// Bounds on what a ring from elsewhere may hold.
public enum RingLimits {
    /// Entries of one ring. A thousand peers that have traded for long have some ten thousand.
    public static let entries = 1 << 17
    /// Seeds of one ring; as many peers as a mesh could have.
    public static let seeds = 1 << 12
    /// The highest version taken from another peer. Honest versions count single changes and do not come near; what is left
    /// above leaves the owner room to overrule whoever uses it up.
    public static let version = UInt32.max - (1 << 20)
    /// How far a transfer puts the version forward, so that it beats updates of the old owner still on their way.
    static let transferStep: UInt32 = 100
}
