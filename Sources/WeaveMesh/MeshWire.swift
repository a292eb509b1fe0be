/// Bytes from a peer that cannot be read, in the words of 2.8.1 where it reports the same.
struct MeshWireError: Error, Equatable, CustomStringConvertible {
    let message: String

    init(_ message: String) { self.message = message }

    var description: String { message }

    static let ended = MeshWireError("EOF")
    static let endedInside = MeshWireError("unexpected EOF")
    static let integerOutOfRange = MeshWireError("gob: encoded unsigned integer out of range")
    static let unknownType = MeshWireError("gob: unknown type id or corrupted data")
}

/// Reads the primitives of gob out of a stretch of bytes. Gossip envelopes and topology are read with it directly: they
/// are most of what a busy mesh reads, and most of it is skipped.
struct MeshWireCursor {
    let bytes: [UInt8]
    private(set) var position: Int
    let end: Int

    init(_ bytes: [UInt8]) { self.init(bytes, from: 0, to: bytes.count) }

    init(_ bytes: [UInt8], from start: Int, to end: Int) {
        self.bytes = bytes
        position = start
        self.end = end
    }

    var remaining: Int { end - position }

    @inline(__always)
    mutating func unsigned() throws(MeshWireError) -> UInt64 {
        guard position < end else { throw MeshWireError.endedInside }
        let first = bytes[position]
        position += 1
        return first < 128 ? UInt64(first) : try longUnsigned(first)
    }

    private mutating func longUnsigned(_ first: UInt8) throws(MeshWireError) -> UInt64 {
        let count = 256 - Int(first)
        guard count <= 8 else { throw MeshWireError.integerOutOfRange }
        guard count <= remaining else {
            throw MeshWireError("gob: invalid uint data length \(count): exceeds input size \(remaining)")
        }
        var value: UInt64 = 0
        for index in position..<position + count { value = value << 8 | UInt64(bytes[index]) }
        position += count
        return value
    }

    mutating func signed() throws(MeshWireError) -> Int64 {
        let value = try unsigned()
        return Int64(bitPattern: value & 1 == 0 ? value >> 1 : ~(value >> 1))
    }

    /// A count and as many bytes: where they are.
    mutating func range(_ kind: StaticString) throws(MeshWireError) -> Range<Int> {
        let count = try unsigned()
        guard count <= UInt64(remaining) else { throw MeshWireError("gob: bad \(kind) slice length: \(count)") }
        defer { position += Int(count) }
        return position..<position + Int(count)
    }

    /// The next message of the stream: a cursor over its body. Nil at the end of the stream.
    mutating func message() throws(MeshWireError) -> MeshWireCursor? {
        guard remaining > 0 else { return nil }
        guard bytes[position] < 128 || remaining > 256 - Int(bytes[position]) else { throw MeshWireError.endedInside }
        let length = try unsigned()
        guard length > 0 else { return nil }
        guard length <= UInt64(remaining) else { throw MeshWireError.endedInside }
        defer { position += Int(length) }
        return MeshWireCursor(bytes, from: position, to: position + Int(length))
    }

    mutating func skip(_ count: UInt64) throws(MeshWireError) {
        guard count <= UInt64(remaining) else { throw MeshWireError.endedInside }
        position += Int(count)
    }
}

/// The numbers of the types that every gob stream knows.
enum MeshWireType {
    static let bool = 1
    static let int = 2
    static let uint = 3
    static let float = 4
    static let bytes = 5
    static let string = 6
    static let complex = 7

    static func name(_ id: Int64) -> String {
        switch id {
        case 1: "bool"
        case 2: "int"
        case 3: "uint"
        case 4: "float"
        case 5: "bytes"
        case 6: "string"
        case 7: "complex"
        default: "unknown type"
        }
    }
}

extension [UInt8] {
    mutating func appendWireUnsigned(_ value: UInt64) {
        if value < 128 {
            append(UInt8(truncatingIfNeeded: value))
            return
        }
        let count = 8 - value.leadingZeroBitCount / 8
        append(UInt8(truncatingIfNeeded: -count))
        for index in (0..<count).reversed() { append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index))) }
    }

    /// How many bytes `appendWireUnsigned` takes.
    static func wireUnsignedLength(_ value: UInt64) -> Int { value < 128 ? 1 : 9 - value.leadingZeroBitCount / 8 }
}
