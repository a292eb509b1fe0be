public import WeaveCore

/// An IPv4 or IPv6 address with a prefix length, such as `10.32.0.1/12` or `fd00::1/64`. Host bits are kept as given.
public struct IPPrefix: Hashable, Sendable, CustomStringConvertible {
    public let address: IPAddress
    /// 0...32 for IPv4, 0...128 for IPv6.
    public let length: Int

    /// Makes a prefix; nil when the length does not fit the family.
    public init?(_ address: IPAddress, length: Int) {
        guard (0...(address.v4 == nil ? 128 : 32)).contains(length) else { return nil }
        self.address = address
        self.length = length
    }

    /// The same as an IPv4 CIDR.
    public init(_ cidr: IPv4CIDR) {
        address = .v4(cidr.address)
        length = cidr.prefixLength
    }

    /// Parses `address/length`; nil for anything else.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let address = IPAddress(parts[0]), (1...3).contains(parts[1].utf8.count),
            parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }), let length = Int(parts[1])
        else { return nil }
        self.init(address, length: length)
    }

    /// The same range with the host bits cleared.
    public var masked: IPPrefix {
        switch address {
        case .v4(let v4):
            let mask: UInt32 = length == 0 ? 0 : ~0 << UInt32(32 - length)
            return IPPrefix(.v4(IPv4Address(rawValue: v4.rawValue & mask)), length: length) ?? self
        case .v6(let v6):
            let high: UInt64 = length >= 64 ? ~0 : length == 0 ? 0 : ~0 << UInt64(64 - length)
            let low: UInt64 = length <= 64 ? 0 : ~0 << UInt64(128 - length)
            return IPPrefix(.v6(IPv6Address(high: v6.high & high, low: v6.low & low)), length: length) ?? self
        }
    }

    /// The IPv4 form, nil for IPv6.
    public var v4: IPv4CIDR? { address.v4.flatMap { IPv4CIDR($0, prefixLength: length) } }

    public var description: String { "\(address)/\(length)" }
}
