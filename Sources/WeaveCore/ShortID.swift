/// A 12-bit number that stands for a peer in fast-datapath tunnel ids. Random, not derived from the name; two peers
/// may pick the same one, and then the peer with the higher name moves.
public struct ShortID: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// 0...4095.
    public let rawValue: UInt16

    /// How many short ids there are.
    public static let count = 4096

    /// Makes a short id from a number; nil when it does not fit 12 bits.
    public init?(exactly value: some BinaryInteger) {
        guard value >= 0, value < Self.count else { return nil }
        rawValue = UInt16(value)
    }

    /// Parses plain decimal digits, leading zeros allowed: the form in the features of a peer. Nil for anything else.
    public init?(_ text: some StringProtocol) {
        guard !text.isEmpty else { return nil }
        var value: UInt16 = 0
        for character in text.utf8 {
            guard (48...57).contains(character) else { return nil }
            value = value * 10 + UInt16(character - 48)
            guard value < Self.count else { return nil }
        }
        rawValue = value
    }

    /// A uniformly random short id.
    public static func random(using generator: inout some RandomNumberGenerator) -> ShortID {
        ShortID(unchecked: UInt16(truncatingIfNeeded: generator.next()) & 0xfff)
    }

    private init(unchecked value: UInt16) { rawValue = value }

    public var description: String { String(rawValue) }

    public static func < (left: ShortID, right: ShortID) -> Bool { left.rawValue < right.rawValue }
}
