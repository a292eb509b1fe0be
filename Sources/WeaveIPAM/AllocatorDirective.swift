public import WeaveCore

/// The time as an allocator needs it: how much has passed, and what the calendar says.
public struct AllocatorTime: Sendable, Hashable {
    public var monotonic: MonotonicTime
    /// Seconds since 1970.
    public var unixSeconds: Int64

    /// Makes a time.
    public init(_ monotonic: MonotonicTime, unixSeconds: Int64) {
        self.monotonic = monotonic
        self.unixSeconds = unixSeconds
    }
}

/// A request to an allocator, numbered by whoever makes it.
public struct RequestID: Hashable, Sendable {
    public let value: UInt64

    /// Makes a number.
    public init(_ value: UInt64) { self.value = value }
}

/// The end of a request.
public enum AllocatorReply: Sendable, Hashable {
    /// The address given, with the prefix length of the subnet it was asked for in.
    case address(IPv4CIDR)
    /// Done, with nothing to tell.
    case done
    /// So many addresses were taken over.
    case transferred(Int)
    /// Refused or cancelled.
    case failed(IPAMError)
}

/// What an allocator wants done, in this order. What must be durable before others hear of it is saved first.
public enum AllocatorDirective: Sendable {
    /// Save this, as a whole or not at all. Nothing after it may happen when that fails.
    case persist(RingTransaction)
    /// Send to one peer, and say so with `onUnicastFailed` when there is no way.
    case unicast(PeerName, PeerMessage)
    /// Send the state as it is then to every peer.
    case broadcast
    /// Answer a request.
    case complete(RequestID, AllocatorReply)
    /// Tell people.
    case log(LogLevel, String)

    /// How much a message matters.
    public enum LogLevel: Sendable, Hashable { case debug, info, warning, error }
}
