/// An IPv4 address with a prefix length, such as `10.32.0.1/12`. Host bits are kept as given.
public struct IPv4CIDR: Hashable, Sendable, CustomStringConvertible {
    /// With the host bits as given.
    public let address: IPv4Address
    /// 0...32.
    public let prefixLength: Int

    /// Makes a CIDR; nil when the prefix length is not 0...32.
    public init?(_ address: IPv4Address, prefixLength: Int) {
        guard (0...32).contains(prefixLength) else { return nil }
        self.address = address
        self.prefixLength = prefixLength
    }

    /// Parses `a.b.c.d/n`; nil for anything else.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let address = IPv4Address(parts[0]), let length = decimal(parts[1], upTo: 32) else {
            return nil
        }
        self.init(address, prefixLength: length)
    }

    /// The bits of the network part set, the others clear.
    public var mask: UInt32 { prefixLength == 0 ? 0 : ~0 << UInt32(32 - prefixLength) }

    /// The first address of the range.
    public var network: IPv4Address { IPv4Address(rawValue: address.rawValue & mask) }

    /// The last address of the range, for a subnet its broadcast address.
    public var last: IPv4Address { IPv4Address(rawValue: address.rawValue | ~mask) }

    /// The same range with the host bits cleared.
    public var masked: IPv4CIDR { IPv4CIDR(network, prefixLength: prefixLength) ?? self }

    /// Whether `other` lies in the range.
    public func contains(_ other: IPv4Address) -> Bool { (other.rawValue ^ address.rawValue) & mask == 0 }

    /// Whether the two ranges share an address.
    public func overlaps(_ other: IPv4CIDR) -> Bool { contains(other.network) || other.contains(network) }

    public var description: String { "\(address)/\(prefixLength)" }
}
