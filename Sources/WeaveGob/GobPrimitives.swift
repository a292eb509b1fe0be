/// The integers everything else is made of.
extension [UInt8] {
    mutating func appendGobUnsigned(_ value: UInt64) {
        if value < 128 {
            append(UInt8(truncatingIfNeeded: value))
            return
        }
        let count = 8 - value.leadingZeroBitCount / 8
        append(UInt8(truncatingIfNeeded: -count))
        for index in (0..<count).reversed() { append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index))) }
    }

    mutating func appendGobSigned(_ value: Int64) {
        let bits = UInt64(bitPattern: value)
        appendGobUnsigned(value < 0 ? ~bits << 1 | 1 : bits << 1)
    }

    mutating func appendGobBytes(_ bytes: some Collection<UInt8>) {
        appendGobUnsigned(UInt64(bytes.count))
        append(contentsOf: bytes)
    }

    /// The IEEE 754 bits with the bytes reversed, so that the zeros at their end cost nothing.
    mutating func appendGobFloat(_ value: Double) { appendGobUnsigned(value.bitPattern.byteSwapped) }

    /// Appends `body` as one message.
    mutating func appendGobMessage(_ body: [UInt8]) { appendGobBytes(body) }
}

/// Reads primitives out of one message.
struct GobCursor: Sendable {
    private let bytes: [UInt8]
    private(set) var position: Int
    let end: Int

    init(_ bytes: [UInt8], from start: Int, to end: Int) {
        self.bytes = bytes
        position = start
        self.end = end
    }

    var remaining: Int { end - position }

    static let integerOutOfRange = GobError(.malformed, "gob: encoded unsigned integer out of range")
    static let ended = GobError(.truncated, "EOF")
    static let wrongArrayLength = GobError(.malformed, "gob: length mismatch in decodeArray")

    /// The most elements a list may claim to have, whatever follows.
    private static let maximumCount: UInt64 = 1 << 33

    @inline(__always)
    mutating func readUnsigned() throws(GobError) -> UInt64 {
        guard position < end else { throw Self.ended }
        let first = bytes[position]
        position += 1
        if first < 128 { return UInt64(first) }
        return try readLong(first)
    }

    private mutating func readLong(_ first: UInt8) throws(GobError) -> UInt64 {
        let count = 256 - Int(first)
        guard count <= 8 else { throw Self.integerOutOfRange }
        guard count <= remaining else {
            throw GobError(.malformed, "gob: invalid uint data length \(count): exceeds input size \(remaining)")
        }
        var value: UInt64 = 0
        for index in position..<position + count { value = value << 8 | UInt64(bytes[index]) }
        position += count
        return value
    }

    mutating func readSigned() throws(GobError) -> Int64 {
        let value = try readUnsigned()
        return Int64(bitPattern: value & 1 == 0 ? value >> 1 : ~(value >> 1))
    }

    mutating func readFloat() throws(GobError) -> Double { Double(bitPattern: try readUnsigned().byteSwapped) }

    /// A count of bytes and the bytes, not copied; `kind` is for the message.
    mutating func readSlice(_ kind: StaticString) throws(GobError) -> ArraySlice<UInt8> {
        let count = try readUnsigned()
        guard count <= UInt64(remaining) else { throw GobError(.malformed, "gob: bad \(kind) slice length: 0") }
        defer { position += Int(count) }
        return bytes[position..<position + Int(count)]
    }

    /// The number of elements of a list, each of which takes a byte at least.
    mutating func readCount(_ kind: StaticString) throws(GobError) -> Int {
        let count = try readUnsigned()
        guard count <= Self.maximumCount else {
            throw GobError(.malformed, "gob: slice too big: \(count) elements")
        }
        guard count <= UInt64(remaining) else { throw Self.tooLong(kind, count) }
        return Int(count)
    }

    /// The number of pairs of a map. One of 2^63 or more is negative for Go, which then reads none.
    mutating func readMapCount() throws(GobError) -> Int {
        let count = try readUnsigned()
        guard count <= UInt64(Int.max) else { return 0 }
        guard count <= UInt64(remaining) else { throw Self.tooLong("map", count) }
        return Int(count)
    }

    /// The number of the field that follows `field` in a structure of `count`; nil at the end of the structure.
    @inline(__always)
    mutating func readField(after field: Int, of count: Int) throws(GobError) -> Int? {
        // A message may end without the terminators of the structures that are open.
        guard position < end else { return nil }
        let delta = try readUnsigned()
        guard delta > 0 else { return nil }
        guard delta < UInt64(count - field) else {
            throw GobError(.malformed, "gob: bad data: field numbers out of bounds")
        }
        return field + Int(delta)
    }

    private static func tooLong(_ kind: StaticString, _ count: UInt64) -> GobError {
        GobError(.malformed, "gob: decoding \(kind): length exceeds input size (\(count) elements)")
    }
}

extension FixedWidthInteger {
    /// Whether the number is one of an integer type of `bits` bits with the same signedness.
    func fits(_ bits: Int) -> Bool {
        guard bits < Self.bitWidth else { return true }
        let high = self >> Self(bits - (Self.isSigned ? 1 : 0))
        return high == 0 || (Self.isSigned && high == ~0)
    }
}
