/// Loads and stores of big-endian fields in raw buffers. Callers have checked the length before.
@usableFromInline
enum FrameBytes {
    @usableFromInline @inline(__always)
    static func load8(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt8 {
        unsafe bytes.loadUnaligned(fromByteOffset: offset, as: UInt8.self)
    }

    @usableFromInline @inline(__always)
    static func load16(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt16 {
        unsafe UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }

    @usableFromInline @inline(__always)
    static func load32(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt32 {
        unsafe UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    @usableFromInline @inline(__always)
    static func load64(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt64 {
        unsafe UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    /// A MAC address or a peer name.
    @usableFromInline @inline(__always)
    static func load48(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt64 {
        unsafe UInt64(load32(bytes, offset)) << 16 | UInt64(load16(bytes, offset + 4))
    }

    @usableFromInline @inline(__always)
    static func store16(_ value: UInt16, _ bytes: UnsafeMutableRawBufferPointer, _ offset: Int) {
        unsafe bytes.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt16.self)
    }

    @usableFromInline @inline(__always)
    static func store32(_ value: UInt32, _ bytes: UnsafeMutableRawBufferPointer, _ offset: Int) {
        unsafe bytes.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt32.self)
    }

    @usableFromInline @inline(__always)
    static func store64(_ value: UInt64, _ bytes: UnsafeMutableRawBufferPointer, _ offset: Int) {
        unsafe bytes.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt64.self)
    }

    /// Stores the low 48 bits.
    @usableFromInline @inline(__always)
    static func store48(_ value: UInt64, _ bytes: UnsafeMutableRawBufferPointer, _ offset: Int) {
        unsafe store32(UInt32(truncatingIfNeeded: value >> 16), bytes, offset)
        unsafe store16(UInt16(truncatingIfNeeded: value), bytes, offset + 4)
    }

    /// The sum of big-endian 16-bit words from `start` up to `end`, not folded; an odd last byte is padded with zero.
    /// For the short headers and error messages of this module: at most 64 KiB, so the sum cannot overflow.
    static func sum16(_ bytes: UnsafeRawBufferPointer, from start: Int, to end: Int) -> UInt64 {
        var sum: UInt64 = 0
        var offset = start
        while offset + 1 < end {
            sum += UInt64(unsafe load16(bytes, offset))
            offset += 2
        }
        if offset < end { sum += UInt64(unsafe load8(bytes, offset)) << 8 }
        return sum
    }

    /// The Internet checksum for a sum of words.
    static func checksum(folding sum: UInt64) -> UInt16 {
        var folded = sum
        while folded > 0xffff { folded = (folded & 0xffff) + (folded >> 16) }
        return ~UInt16(truncatingIfNeeded: folded)
    }
}
