/// A 48-bit Ethernet address.
public struct MACAddress: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The address as an integer, first byte on the wire most significant; only the low 48 bits are ever set.
    public let rawValue: UInt64

    /// `ff:ff:ff:ff:ff:ff`.
    public static let broadcast = MACAddress(truncating: 0xffff_ffff_ffff)

    /// The destination of spanning-tree frames, the one group address an overlay never carries.
    public static let spanningTree = MACAddress(truncating: 0x0180_c200_0000)

    /// Makes an address from the low 48 bits of `value`.
    @inlinable
    public init(truncating value: UInt64) { rawValue = value & 0xffff_ffff_ffff }

    /// Makes an address from exactly six bytes; nil for any other number.
    public init?(bytes: some Collection<UInt8>) {
        guard let name = PeerName(bytes: bytes) else { return nil }
        rawValue = name.rawValue
    }

    /// Parses `aa:bb:cc:dd:ee:ff`; nil for anything else.
    public init?(_ text: String) {
        guard text.split(separator: ":").count == 6,
            text.utf8.allSatisfy({ isHexDigit($0) || $0 == UInt8(ascii: ":") }),
            let name = try? PeerName(parsing: text)
        else { return nil }
        rawValue = name.rawValue
    }

    /// The address of the bridge of a peer: the same 48 bits.
    public init(_ name: PeerName) { rawValue = name.rawValue }

    /// Whether the group bit is set: broadcast and multicast.
    @inlinable
    public var isGroup: Bool { rawValue & 0x0100_0000_0000 != 0 }

    /// The address as six bytes, in wire order.
    public var bytes: [UInt8] { PeerName(truncating: rawValue).bytes }

    public var description: String { hexGroups(rawValue) }

    public static func < (left: MACAddress, right: MACAddress) -> Bool { left.rawValue < right.rawValue }
}
