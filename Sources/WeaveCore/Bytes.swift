/// Reads big-endian fields from the front of a byte array. Each read checks what is left and moves on only when it
/// succeeds.
public struct ByteReader: Sendable {
    private let bytes: ArraySlice<UInt8>
    private var position: Int

    /// A reader of `bytes`, which are not copied.
    public init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        position = bytes.startIndex
    }

    /// A reader of `bytes`, which are not copied.
    public init(_ bytes: [UInt8]) { self.init(bytes[...]) }

    /// A reader of a copy of `bytes`.
    public init(_ bytes: some Collection<UInt8>) { self.init(Array(bytes)) }

    /// How many bytes are left.
    public var remaining: Int { bytes.endIndex - position }

    /// The bytes not read yet.
    public var rest: ArraySlice<UInt8> { bytes[position...] }

    /// The next byte, nil at the end.
    public mutating func readUInt8() -> UInt8? {
        guard position < bytes.endIndex else { return nil }
        defer { position += 1 }
        return bytes[position]
    }

    /// The next two bytes as an integer, nil when fewer are left.
    public mutating func readUInt16() -> UInt16? {
        guard let value = readInteger(2) else { return nil }
        return UInt16(truncatingIfNeeded: value)
    }

    /// The next four bytes as an integer, nil when fewer are left.
    public mutating func readUInt32() -> UInt32? {
        guard let value = readInteger(4) else { return nil }
        return UInt32(truncatingIfNeeded: value)
    }

    /// The next eight bytes as an integer, nil when fewer are left.
    public mutating func readUInt64() -> UInt64? { readInteger(8) }

    /// The next `count` bytes (0...8) as an integer, nil when fewer are left or `count` is another number.
    public mutating func readInteger(_ count: Int) -> UInt64? {
        guard (0...8).contains(count), count <= remaining else { return nil }
        var value: UInt64 = 0
        for index in position..<position + count { value = value << 8 | UInt64(bytes[index]) }
        position += count
        return value
    }

    /// The next `count` bytes without copying them, nil when fewer are left or `count` is negative.
    public mutating func readBytes(_ count: Int) -> ArraySlice<UInt8>? {
        guard count >= 0, count <= remaining else { return nil }
        defer { position += count }
        return bytes[position..<position + count]
    }

    /// The next name, nil when fewer than six bytes are left.
    public mutating func readPeerName() -> PeerName? {
        guard let value = readInteger(PeerName.byteCount) else { return nil }
        return PeerName(truncating: value)
    }
}

extension Array where Element == UInt8 {
    /// Appends the low `count` bytes of `value`, most significant first.
    public mutating func appendInteger(_ value: some FixedWidthInteger, byteCount count: Int) {
        let wide = UInt64(truncatingIfNeeded: value)
        for index in (0..<count).reversed() { append(UInt8(truncatingIfNeeded: wide >> UInt64(8 * index))) }
    }

    /// Parses pairs of hex digits; nil for anything else.
    public init?(hex text: some StringProtocol) {
        let digits = Array(text.utf8)
        guard digits.count % 2 == 0, digits.allSatisfy(isHexDigit) else { return nil }
        func value(_ digit: UInt8) -> UInt8 { digit <= 57 ? digit - 48 : (digit | 32) - 87 }
        self = stride(from: 0, to: digits.count, by: 2).map { value(digits[$0]) << 4 | value(digits[$0 + 1]) }
    }

    /// The bytes as lower-case hex.
    public var hex: String {
        let digits = Array<UInt8>("0123456789abcdef".utf8)
        var text: [UInt8] = []
        text.reserveCapacity(count * 2)
        for byte in self {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }
}
