/// Sizes of the sleeve's packets, in bytes (sleeve specification, sections 1 and 4.1).
///
///     plain:   sender name 6 | records
///     sealed:  sender name 6 | DF bit and sequence 8 | tag 16 | records, encrypted
///     record:  source peer 6 | destination peer 6 | frame length 2 | frame
public enum SleeveLayout {
    /// The name of the peer that put the packet on the wire.
    public static let senderNameLength = 6
    /// The DF bit and the sequence number of a sealed packet.
    public static let sequenceLength = 8
    /// The authenticator of a sealed packet.
    public static let tagLength = 16
    /// What precedes the records of a plain packet.
    public static let plainHeaderLength = senderNameLength
    /// What precedes the records of a sealed packet.
    public static let sealedHeaderLength = senderNameLength + sequenceLength + tagLength
    /// What precedes each frame: source peer, destination peer, length.
    public static let recordHeaderLength = 14
    /// The Ethernet header of the frame inside.
    public static let ethernetHeaderLength = 14
    /// The IPv4 and UDP headers outside.
    public static let udpOverhead = 28
    /// The largest UDP payload over IPv4, and so the largest packet.
    public static let maximumPacketLength = 65507
    /// The overlay MTU before anything is known of the path.
    public static let initialMTU = 65535
    /// The most frames that one batch takes before the sender looks at its other work.
    public static let maximumFramesPerBatch = 100

    /// What precedes the records of a packet.
    @inlinable
    public static func headerLength(encrypted: Bool) -> Int { encrypted ? sealedHeaderLength : plainHeaderLength }

    /// How much larger than an overlay IP packet the underlay IP packet is that carries it: 62 or 86.
    @inlinable
    public static func overhead(encrypted: Bool) -> Int {
        udpOverhead + headerLength(encrypted: encrypted) + recordHeaderLength + ethernetHeaderLength
    }

    /// The largest frame that a packet of at most `limit` bytes carries.
    @inlinable
    public static func maximumFrameLength(limit: Int, encrypted: Bool) -> Int {
        limit - headerLength(encrypted: encrypted) - recordHeaderLength
    }
}
