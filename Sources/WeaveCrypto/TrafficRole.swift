/// Which side of a TCP connection this peer is. It keeps the two directions' nonces apart.
public enum TrafficRole: Sendable, Equatable {
    /// This peer made the connection.
    case dialler
    /// This peer was connected to.
    case acceptor

    /// The role of the peer at the other end.
    public var opposite: TrafficRole { self == .dialler ? .acceptor : .dialler }

    /// The first byte of the nonces of what this side *sends* over UDP (overlay-sleeve.md 8.2).
    var packetNonceByte: UInt8 { self == .dialler ? 0x80 : 0x00 }

    /// The first byte of the nonces of what this side *sends* over TCP (mesh.md 2.3). The bit that sets it apart
    /// from packets lets both share one key.
    var streamNonceByte: UInt8 { packetNonceByte | 0x40 }
}
