/// The 48-bit identity of a peer, printed like an Ethernet address (`7a:00:00:00:00:01`).
///
/// `PeerName.unknown` (all zero) stands for "no peer": it is never the name of a real one.
public struct PeerName: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The name as an integer; only the low 48 bits are ever set.
    public let rawValue: UInt64

    /// The number of bytes a name takes on the wire.
    public static let byteCount = 6

    /// The name that stands for "no peer".
    public static let unknown = PeerName(truncating: 0)

    private static let mask: UInt64 = 0xffff_ffff_ffff

    /// Makes a name from the low 48 bits of `value`; higher bits are dropped.
    public init(truncating value: UInt64) {
        rawValue = value & Self.mask
    }

    /// Makes a name from an integer off the wire; nil when it does not fit 48 bits.
    public init?(exactly value: UInt64) {
        guard value <= Self.mask else { return nil }
        rawValue = value
    }

    /// Makes a name from exactly six bytes, most significant first; nil for any other number of bytes.
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        rawValue = bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// Parses six groups of one or two hex digits joined by colons; one `::` may stand for a run of zero bytes
    /// as long as at most four groups remain. White space before a group is ignored, and so is a zero byte with all that
    /// follows it: 2.8.1 takes such text too.
    ///
    /// - Throws: `InvalidPeerName` with the text that was given.
    public init(parsing text: String) throws(InvalidPeerName) {
        guard let value = Self.parse(text) else { throw InvalidPeerName(text: text) }
        rawValue = value
    }

    /// The name as six bytes, most significant first.
    public var bytes: [UInt8] {
        func byte(_ shift: UInt64) -> UInt8 { UInt8(truncatingIfNeeded: rawValue >> shift) }
        return [byte(40), byte(32), byte(24), byte(16), byte(8), byte(0)]
    }

    public var description: String { hexGroups(rawValue) }

    public static func < (left: PeerName, right: PeerName) -> Bool { left.rawValue < right.rawValue }

    private static func parse(_ text: String) -> UInt64? {
        let trimmed = withoutLeadingSpace(text.prefix { $0 != "\0" })
        if let gap = firstDoubleColon(in: trimmed) {
            guard let head = groups(trimmed[..<gap]),
                let tail = groups(trimmed[trimmed.index(gap, offsetBy: 2)...]),
                (1...4).contains(head.count + tail.count)
            else { return nil }
            let zeros = [UInt8](repeating: 0, count: 6 - head.count - tail.count)
            return (head + zeros + tail).reduce(0) { $0 << 8 | UInt64($1) }
        }
        guard let all = groups(trimmed), all.count == 6 else { return nil }
        return all.reduce(0) { $0 << 8 | UInt64($1) }
    }

    private static func withoutLeadingSpace(_ text: Substring) -> Substring {
        text.drop { $0 == " " || $0 == "\t" || $0 == "\n" || $0 == "\r" }
    }

    private static func firstDoubleColon(in text: Substring) -> Substring.Index? {
        text.indices.first { text[$0...].hasPrefix("::") }
    }

    /// The bytes of colon-separated groups; empty text is no groups; nil for anything malformed.
    private static func groups(_ text: Substring) -> [UInt8]? {
        guard !text.isEmpty else { return [] }
        var bytes: [UInt8] = []
        for part in text.split(separator: ":", omittingEmptySubsequences: false) {
            let group = withoutLeadingSpace(part)
            guard (1...2).contains(group.utf8.count), group.utf8.allSatisfy(isHexDigit),
                let byte = UInt8(group, radix: 16)
            else { return nil }
            bytes.append(byte)
        }
        return bytes
    }
}

/// Text that is not the name of a peer.
public struct InvalidPeerName: Error, Equatable, CustomStringConvertible {
    /// What was given.
    public let text: String

    public var description: String { "invalid peer name format: \"\(text)\"" }
}

func isHexDigit(_ character: UInt8) -> Bool {
    switch character {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
        UInt8(ascii: "A")...UInt8(ascii: "F"):
        return true
    default: return false
    }
}

/// The low 48 bits of `value` as six lower-case hex pairs joined by colons.
func hexGroups(_ value: UInt64) -> String {
    func digit(_ nibble: UInt64) -> UInt8 { UInt8(truncatingIfNeeded: nibble < 10 ? 48 + nibble : 87 + nibble) }
    var text: [UInt8] = []
    text.reserveCapacity(17)
    for shift in stride(from: UInt64(40), through: 0, by: -8) {
        if shift != 40 { text.append(UInt8(ascii: ":")) }
        text.append(digit(value >> (shift + 4) & 15))
        text.append(digit(value >> shift & 15))
    }
    return String(decoding: text, as: UTF8.self)
}
