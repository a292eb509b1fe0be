/// How much a log line matters.
public enum SleeveLogLevel: Sendable, Hashable, CaseIterable {
    case debug, info, warning, error
}

/// What a `SleeveLink` asks its shell to do, in order.
public enum SleeveDirective: Sendable, Hashable {
    /// Send a special frame in a packet of its own to the remote address of the latest parameters. With
    /// `dontFragment` the packet has DF set, and a refusal by the kernel comes back as `onMessageTooBig`.
    case send(SpecialFrame, dontFragment: Bool)
    /// Send a message over the mesh connection.
    case sendControl(SleeveControl)
    /// Our heartbeats arrive at the other end. Once in the life of a link.
    case established
    /// The link has ended; nothing follows.
    case failed(reason: String)
    /// Packet threads use these from now on.
    case parameters(LinkParameters)
    /// A line for the log, without the link's prefix `sleeve ->[address|name(nick)]: `.
    case log(SleeveLogLevel, String)
}

/// Why the kernel did not take a packet, other than for its size.
public struct SendFailure: Sendable, Hashable {
    /// The error number.
    public var code: Int32
    /// What failed and why, such as `write ip4 10.0.0.1->10.0.0.2: write: operation not permitted`.
    public var text: String

    public init(code: Int32, text: String) {
        self.code = code
        self.text = text
    }

    /// Whether the cause may go away by itself: the heartbeat timeout decides then. Linux error numbers.
    public var isTransient: Bool { Self.transientCodes.contains(code) }

    /// EPERM (a firewall rule), EINTR, EIO, EAGAIN, ENOMEM, EACCES, EMSGSIZE, ENETDOWN, ENETUNREACH, ECONNRESET,
    /// ENOBUFS, ETIMEDOUT, ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, EADDRNOTAVAIL (an address that comes back), EINVAL
    /// (a route that changes under us).
    private static let transientCodes: Set<Int32> = [
        1, 4, 5, 11, 12, 13, 22, 90, 99, 100, 101, 104, 105, 110, 111, 112, 113,
    ]
}
