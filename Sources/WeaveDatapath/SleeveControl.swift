/// A message about the sleeve's path, sent over the mesh connection (section 2.2).
public enum SleeveControl: Sendable, Hashable {
    /// A heartbeat with our connection uid arrived.
    case connectionEstablished
    /// A fragmentation test arrived.
    case fragmentationReceived
    /// A probe for this overlay MTU arrived. Never sent with 0.
    case pathMTUVerified(UInt16)

    /// A control message that is ignored; its text is for the log.
    public struct Unusable: Error, Equatable, CustomStringConvertible {
        public let description: String
    }

    /// The tag inside the overlay's envelope.
    public var tag: UInt8 {
        switch self {
        case .connectionEstablished: 1
        case .fragmentationReceived: 2
        case .pathMTUVerified: 3
        }
    }

    /// What follows the tag.
    public var body: [UInt8] {
        guard case .pathMTUVerified(let mtu) = self else { return [] }
        return [UInt8(truncatingIfNeeded: mtu >> 8), UInt8(truncatingIfNeeded: mtu)]
    }

    /// Reads a message; bytes beyond its fields are ignored.
    ///
    /// - Throws: `Unusable` for an unknown tag or a truncated body: log it and carry on.
    public init(tag: UInt8, body: some Collection<UInt8>) throws(Unusable) {
        switch tag {
        case 1: self = .connectionEstablished
        case 2: self = .fragmentationReceived
        case 3:
            let bytes = Array(body.prefix(2))
            guard bytes.count == 2 else { throw Unusable(description: "Received truncated MTUTestAck") }
            self = .pathMTUVerified(UInt16(bytes[0]) << 8 | UInt16(bytes[1]))
        default: throw Unusable(description: "Ignoring unknown control message tag: \(tag)")
        }
    }
}
