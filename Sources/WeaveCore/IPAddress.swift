/// An IPv4 address.
public struct IPv4Address: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The address as an integer, first octet most significant.
    public let rawValue: UInt32

    /// An address from an integer, first octet most significant.
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// `0.0.0.0`.
    public static let any = IPv4Address(rawValue: 0)

    /// Parses a dotted quad of plain decimal octets without leading zeros; nil for anything else.
    public init?(_ text: some StringProtocol) {
        var value: UInt32 = 0
        var octet: UInt32 = 0
        var digits = 0
        var dots = 0
        for character in text.utf8 {
            switch character {
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                guard digits == 0 || octet > 0 else { return nil }
                octet = octet * 10 + UInt32(character - 48)
                digits += 1
                guard octet <= 255 else { return nil }
            case UInt8(ascii: "."):
                guard digits > 0, dots < 3 else { return nil }
                value = value << 8 | octet
                (octet, digits, dots) = (0, 0, dots + 1)
            default: return nil
            }
        }
        guard digits > 0, dots == 3 else { return nil }
        rawValue = value << 8 | octet
    }

    /// The four octets, in wire order.
    public var bytes: [UInt8] {
        func byte(_ shift: UInt32) -> UInt8 { UInt8(truncatingIfNeeded: rawValue >> shift) }
        return [byte(24), byte(16), byte(8), byte(0)]
    }

    public var description: String {
        "\(rawValue >> 24).\(rawValue >> 16 & 255).\(rawValue >> 8 & 255).\(rawValue & 255)"
    }

    public static func < (left: IPv4Address, right: IPv4Address) -> Bool { left.rawValue < right.rawValue }
}

/// An IPv6 address, without a zone.
public struct IPv6Address: Hashable, Sendable, CustomStringConvertible {
    /// The address in two halves, most significant first.
    public let high: UInt64
    /// The lower half.
    public let low: UInt64

    /// An address from its halves.
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// `::`.
    public static let any = IPv6Address(high: 0, low: 0)

    /// Makes an address from exactly sixteen bytes; nil for any other number.
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == 16 else { return nil }
        high = bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
        low = bytes.suffix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// Parses the textual form of RFC 4291 (`::` and a trailing dotted quad included); nil for anything else.
    public init?(_ text: some StringProtocol) {
        let whole = String(text)
        guard let gap = whole.indices.first(where: { whole[$0...].hasPrefix("::") }) else {
            guard let groups = Self.groups(whole[...]), groups.count == 8 else { return nil }
            self.init(groups: groups)
            return
        }
        guard let head = Self.groups(whole[..<gap]),
            let tail = Self.groups(whole[whole.index(gap, offsetBy: 2)...]),
            head.count + tail.count <= 7
        else { return nil }
        self.init(groups: head + [UInt16](repeating: 0, count: 8 - head.count - tail.count) + tail)
    }

    private init(groups: [UInt16]) {
        high = groups[0..<4].reduce(0) { $0 << 16 | UInt64($1) }
        low = groups[4..<8].reduce(0) { $0 << 16 | UInt64($1) }
    }

    private static func groups(_ text: Substring) -> [UInt16]? {
        guard !text.isEmpty else { return [] }
        var groups: [UInt16] = []
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        for (index, part) in parts.enumerated() {
            if index == parts.count - 1, part.contains(".") {
                guard let quad = IPv4Address(part) else { return nil }
                groups.append(UInt16(quad.rawValue >> 16))
                groups.append(UInt16(truncatingIfNeeded: quad.rawValue))
            } else {
                guard (1...4).contains(part.utf8.count), part.utf8.allSatisfy(isHexDigit),
                    let group = UInt16(part, radix: 16)
                else { return nil }
                groups.append(group)
            }
        }
        return groups
    }

    /// The sixteen bytes, in wire order.
    public var bytes: [UInt8] {
        [high, low].flatMap { half in (0..<8).map { UInt8(truncatingIfNeeded: half >> UInt64(56 - 8 * $0)) } }
    }

    /// Whether the address is of link scope and so means nothing without an interface.
    public var isLinkLocal: Bool { high >> 54 == 0x3fa }

    /// The IPv4 address of `::ffff:a.b.c.d`, nil for every other address.
    public var mappedIPv4: IPv4Address? {
        high == 0 && low >> 32 == 0xffff ? IPv4Address(rawValue: UInt32(truncatingIfNeeded: low)) : nil
    }

    /// The canonical text of RFC 5952.
    public var description: String {
        let groups = [high, low].flatMap { half in
            (0..<4).map { UInt16(truncatingIfNeeded: half >> UInt64(48 - 16 * $0)) }
        }
        guard let run = Self.longestZeroRun(groups) else {
            return groups.map { String($0, radix: 16) }.joined(separator: ":")
        }
        let head = groups[..<run.lowerBound].map { String($0, radix: 16) }.joined(separator: ":")
        let tail = groups[run.upperBound...].map { String($0, radix: 16) }.joined(separator: ":")
        return head + "::" + tail
    }

    private static func longestZeroRun(_ groups: [UInt16]) -> Range<Int>? {
        var best: Range<Int>?
        var start = 0
        while start < groups.count {
            guard groups[start] == 0 else {
                start += 1
                continue
            }
            let end = groups[start...].firstIndex { $0 != 0 } ?? groups.count
            if end - start >= 2, end - start > best?.count ?? 0 { best = start..<end }
            start = end
        }
        return best
    }
}

/// An IPv4 or IPv6 address.
public enum IPAddress: Hashable, Sendable, CustomStringConvertible {
    case v4(IPv4Address)
    case v6(IPv6Address)

    /// Parses either form, without brackets; an IPv4-mapped IPv6 address becomes the IPv4 address.
    public init?(_ text: some StringProtocol) {
        if let address = IPv4Address(text) {
            self = .v4(address)
        } else if let address = IPv6Address(text) {
            self = address.mappedIPv4.map { .v4($0) } ?? .v6(address)
        } else {
            return nil
        }
    }

    /// The address in IPv4 form, nil for IPv6.
    public var v4: IPv4Address? { if case .v4(let address) = self { address } else { nil } }

    public var description: String {
        switch self {
        case .v4(let address): address.description
        case .v6(let address): address.description
        }
    }
}

/// An address and a port, printed `10.0.0.1:6783` or `[fd00::1]:6783`.
public struct Endpoint: Hashable, Sendable, CustomStringConvertible {
    /// Where.
    public var address: IPAddress
    /// 0...65535.
    public var port: UInt16

    /// An address with a port.
    public init(_ address: IPAddress, port: UInt16) {
        self.address = address
        self.port = port
    }

    /// Parses `a.b.c.d:port` or `[v6]:port`. The unbracketed IPv6 form that 2.8.1 puts on the wire
    /// (`fd00::1:6783`) is taken too: what follows the last colon is the port.
    public init?(_ text: some StringProtocol) {
        guard let colon = text.lastIndex(of: ":"), let port = decimal(text[text.index(after: colon)...], upTo: 65535)
        else { return nil }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        guard let address = IPAddress(host) else { return nil }
        self.init(address, port: UInt16(port))
    }

    public var description: String {
        switch address {
        case .v4(let address): "\(address):\(port)"
        case .v6(let address): "[\(address)]:\(port)"
        }
    }
}

/// Plain decimal digits without sign or needless leading zero, at most `limit`.
func decimal(_ text: some StringProtocol, upTo limit: Int) -> Int? {
    guard (1...5).contains(text.utf8.count), text.utf8.allSatisfy({ (48...57).contains($0) }),
        text.utf8.count == 1 || text.utf8.first != 48, let value = Int(text), value <= limit
    else { return nil }
    return value
}
