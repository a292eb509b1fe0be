public import WeaveCore

/// The addresses from `start` up to, not including, `end`.
///
/// Bounds are integers of more than 32 bits, so that a range may end at the top of the address space.
public struct AddressRange: Hashable, Sendable, CustomStringConvertible {
    /// The first address as an integer, 0...2^32.
    public let start: Int
    /// One past the last address, `start`...2^32.
    public let end: Int

    /// The number of all addresses.
    static let top = 1 << 32

    /// Makes a range; nil when the bounds are the wrong way round or no addresses.
    public init?(start: Int, end: Int) {
        guard start >= 0, start <= end, end <= Self.top else { return nil }
        self.start = start
        self.end = end
    }

    /// The range between two addresses, `end` not included; nil when they are the wrong way round.
    public init?(_ start: IPv4Address, _ end: IPv4Address) {
        self.init(start: Int(start.rawValue), end: Int(end.rawValue))
    }

    /// The range of one address.
    public init(_ address: IPv4Address) {
        start = Int(address.rawValue)
        end = start + 1
    }

    /// A range known to be good: bounds are forced into order, never trusted.
    init(_ start: Int, _ end: Int) {
        self.start = min(max(start, 0), Self.top)
        self.end = min(max(end, self.start), Self.top)
    }

    /// The number of addresses.
    public var count: Int { end - start }
    /// Whether there is no address in the range.
    public var isEmpty: Bool { start == end }
    /// The first address; meaningless for an empty range at the top.
    public var first: IPv4Address { IPv4Address(start) }

    /// Whether `address` lies in the range.
    public func contains(_ address: IPv4Address) -> Bool {
        let value = Int(address.rawValue)
        return start <= value && value < end
    }

    /// Whether all of `other` lies in the range.
    public func contains(_ other: AddressRange) -> Bool { start <= other.start && other.end <= end }

    /// Whether the two share an address.
    public func overlaps(_ other: AddressRange) -> Bool { start < other.end && other.start < end }

    /// What the two share; empty when nothing.
    public func intersection(_ other: AddressRange) -> AddressRange {
        let low = max(start, other.start)
        return AddressRange(low, max(low, min(end, other.end)))
    }

    /// `10.0.0.0-10.0.0.255`: both ends belong to the range.
    public var description: String { "\(IPv4Address(start))-\(IPv4Address(end - 1))" }

    /// `10.0.0.0/24` for a number of addresses that is a power of two, else the form with two ends. As in 2.8.1 nobody
    /// looks at whether the start is aligned.
    public var shortDescription: String {
        guard count > 0, count & (count - 1) == 0 else { return description }
        return "\(IPv4Address(start))/\(32 - count.trailingZeroBitCount)"
    }

    /// The biggest block in this range that is a CIDR: at least a quarter of it.
    public var biggestCIDR: AddressRange {
        guard count > 0 else { return self }
        let size = 1 << (Int.bitWidth - 1 - count.leadingZeroBitCount)
        let offset = start & (size - 1)
        if offset == 0 { return AddressRange(start, start + size) }
        if size - offset <= count - size {
            return AddressRange(start + size - offset, start + 2 * size - offset)
        }
        let half = size / 2
        let begin = half >= offset ? start + half - offset : start + size - offset
        return AddressRange(begin, begin + half)
    }

    /// The fewest CIDRs that together are this range.
    public var cidrs: [IPv4CIDR] {
        var blocks: [IPv4CIDR] = []
        var cursor = start
        while cursor < end {
            var size = cursor == 0 ? Self.top : cursor & -cursor
            while size > end - cursor { size >>= 1 }
            if let block = IPv4CIDR(IPv4Address(cursor), prefixLength: 32 - size.trailingZeroBitCount) {
                blocks.append(block)
            }
            cursor += size
        }
        return blocks
    }

    /// Ranges that touch, joined. `ranges` are in order.
    public static func joined(_ ranges: [AddressRange]) -> [AddressRange] {
        var joined: [AddressRange] = []
        for range in ranges {
            if let last = joined.last, last.end == range.start {
                joined[joined.count - 1] = AddressRange(last.start, range.end)
            } else {
                joined.append(range)
            }
        }
        return joined
    }
}

extension IPv4Address {
    /// The address of an integer; higher bits are dropped.
    init(_ value: Int) { self.init(rawValue: UInt32(truncatingIfNeeded: value)) }

    /// Parses a dotted quad, with the words of 2.8.1 for anything else. IPv6 text is refused: 2.8.1 takes it for 0.0.0.0.
    ///
    /// - Throws: `IPAMError` of code `invalidText`.
    public static func parse(_ text: String) throws(IPAMError) -> IPv4Address {
        guard let address = IPAddress(text)?.v4 else {
            throw IPAMError(.invalidText, "invalid IP Address: \(text)")
        }
        return address
    }
}

extension IPv4CIDR {
    /// The smallest subnet that has room for hosts beside its first and last address.
    public static let minimumSubnetSize = 4

    /// Parses `a.b.c.d/n`, host bits kept.
    ///
    /// - Throws: `IPAMError` of code `invalidText`.
    public static func parse(_ text: String) throws(IPAMError) -> IPv4CIDR {
        if let cidr = IPv4CIDR(text) { return cidr }
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        if parts.count == 2, IPv6Address(parts[0]) != nil, let length = Int(parts[1]), (0...128).contains(length) {
            throw IPAMError(.invalidText, "invalid Non-IPv4 address not supported: \(text)")
        }
        throw IPAMError(.invalidText, "invalid CIDR address: \(text)")
    }

    /// Parses a subnet: no host bits, and at least four addresses.
    ///
    /// - Throws: `IPAMError` of code `invalidText`.
    public static func parseSubnet(_ text: String) throws(IPAMError) -> IPv4CIDR {
        let cidr = try parse(text)
        guard cidr.prefixLength > 0, cidr.size >= minimumSubnetSize else {
            throw IPAMError(.invalidText, "invalid subnet - smaller than minimum size \(minimumSubnetSize): \(text)")
        }
        guard cidr.isSubnet else {
            throw IPAMError(.invalidText, "invalid subnet - bits after network prefix are not all zero: \(text)")
        }
        return cidr
    }

    /// The number of addresses.
    public var size: Int { 1 << (32 - prefixLength) }

    /// Whether no host bit is set.
    public var isSubnet: Bool { Int(address.rawValue) & (size - 1) == 0 }

    /// As many addresses as the prefix spans, from the address on.
    public var range: AddressRange { AddressRange(Int(address.rawValue), Int(address.rawValue) + size) }

    /// The range without its first and last address, which name the network and its broadcast (RFC 1122).
    public var hostRange: AddressRange {
        let start = Int(address.rawValue)
        return AddressRange(start + 1, start + size - 1)
    }
}
