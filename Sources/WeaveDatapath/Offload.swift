/// What the kernel says before a frame on a TAP device (`virtio_net_hdr`, ten bytes in host byte order): which work was
/// left to us when we read, which we leave to it when we write.
struct OffloadHeader: BitwiseCopyable, Sendable, Equatable {
    /// The length of the header in bytes.
    static let length = 10
    /// A frame with nothing left to do.
    static let none = OffloadHeader()

    /// Which kind of super-frame.
    enum Kind: UInt8, Sendable {
        case tcp4 = 1
        case tcp6 = 4
        /// UDP over IPv4 or IPv6: every segment is a datagram.
        case udp = 5
    }

    private static let needsChecksumFlag: UInt8 = 1
    /// TCP said "congestion window reduced": told by the first segment alone.
    private static let congestionBit: UInt8 = 0x80

    private var flags: UInt8 = 0
    private var type: UInt8 = 0
    /// How long all headers are together; a hint that is not relied on.
    private(set) var headerLength: UInt16 = 0
    /// How many bytes of payload each segment has, the last excepted.
    private(set) var segmentSize: UInt16 = 0
    /// Where the transport header begins.
    private(set) var checksumStart: UInt16 = 0
    /// Where in the transport header the checksum is.
    private(set) var checksumOffset: UInt16 = 0

    init() {}

    /// Of a super-frame that the kernel is to cut, or to hand on whole.
    init(kind: Kind, headerLength: Int, segmentSize: Int, checksumStart: Int, checksumOffset: Int) {
        flags = Self.needsChecksumFlag
        type = kind.rawValue
        self.headerLength = UInt16(truncatingIfNeeded: headerLength)
        self.segmentSize = UInt16(truncatingIfNeeded: segmentSize)
        self.checksumStart = UInt16(truncatingIfNeeded: checksumStart)
        self.checksumOffset = UInt16(truncatingIfNeeded: checksumOffset)
    }

    /// Of a frame whose checksum is left to the reader.
    init(checksumStart: Int, checksumOffset: Int) {
        flags = Self.needsChecksumFlag
        self.checksumStart = UInt16(truncatingIfNeeded: checksumStart)
        self.checksumOffset = UInt16(truncatingIfNeeded: checksumOffset)
    }

    /// Reads the header at the front of `raw`; `none` when that is too short for one.
    init(_ raw: UnsafeRawBufferPointer) {
        guard raw.count >= Self.length else { return }
        flags = unsafe raw[0]
        type = unsafe raw[1]
        headerLength = unsafe raw.loadUnaligned(fromByteOffset: 2, as: UInt16.self)
        segmentSize = unsafe raw.loadUnaligned(fromByteOffset: 4, as: UInt16.self)
        checksumStart = unsafe raw.loadUnaligned(fromByteOffset: 6, as: UInt16.self)
        checksumOffset = unsafe raw.loadUnaligned(fromByteOffset: 8, as: UInt16.self)
    }

    /// Writes the header to the front of `raw`, which has room for it.
    func write(to raw: UnsafeMutableRawBufferPointer) {
        unsafe raw.storeBytes(of: flags, toByteOffset: 0, as: UInt8.self)
        unsafe raw.storeBytes(of: type, toByteOffset: 1, as: UInt8.self)
        unsafe raw.storeBytes(of: headerLength, toByteOffset: 2, as: UInt16.self)
        unsafe raw.storeBytes(of: segmentSize, toByteOffset: 4, as: UInt16.self)
        unsafe raw.storeBytes(of: checksumStart, toByteOffset: 6, as: UInt16.self)
        unsafe raw.storeBytes(of: checksumOffset, toByteOffset: 8, as: UInt16.self)
    }

    /// Whether the frame has to be cut by a `FrameSegmenter`.
    var isSuperFrame: Bool { type != 0 }
    /// The kind of super-frame; nil for a plain frame and for kinds that we never offer to take.
    var kind: Kind? { Kind(rawValue: type & ~Self.congestionBit) }
    /// Whether the transport checksum is that of the pseudo header only.
    var needsChecksum: Bool { flags & Self.needsChecksumFlag != 0 }

    /// Completes the transport checksum of a plain frame in place, when that was left to us.
    ///
    /// - Returns: false for a header that does not fit the frame, which must be dropped.
    func completeChecksum(of frame: UnsafeMutableRawBufferPointer) -> Bool {
        guard needsChecksum else { return true }
        let start = Int(checksumStart)
        let place = start + Int(checksumOffset)
        guard start >= SleeveLayout.ethernetHeaderLength, place + 2 <= frame.count else { return false }
        // The field holds the sum of the pseudo header, so that the sum over everything includes it.
        let sum = unsafe OffloadChecksum.sum(UnsafeRawBufferPointer(rebasing: frame[start...]))
        let checksum = ~OffloadChecksum.fold(sum)
        unsafe frame.storeBytes(of: checksum == 0 ? 0xffff : checksum, toByteOffset: place, as: UInt16.self)
        return true
    }
}

/// Internet checksums of whole payloads. Sums are in host byte order, which the checksum does not mind: they are
/// loaded and stored without swapping, and constants are swapped instead.
enum OffloadChecksum {
    /// The partial sums of a pass over payload: 32-bit words in lanes of 64 bits, so that no carry is lost. Four that do
    /// not wait for each other, for 64 bytes at a time.
    private struct Lanes {
        var low = SIMD4<UInt64>()
        var high = SIMD4<UInt64>()
        var otherLow = SIMD4<UInt64>()
        var otherHigh = SIMD4<UInt64>()

        @inline(__always)
        mutating func add(_ block: SIMD4<UInt64>, _ other: SIMD4<UInt64>) {
            let mask = SIMD4<UInt64>(repeating: 0xffff_ffff)
            low &+= block & mask
            high &+= block &>> 32
            otherLow &+= other & mask
            otherHigh &+= other &>> 32
        }

        @inline(__always)
        var sum: UInt64 { ((low &+ high) &+ (otherLow &+ otherHigh)).wrappedSum() }
    }

    /// The sum of all 16-bit words, an odd last byte padded with zero; not folded. At most a few MB.
    @inline(__always)
    static func sum(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var lanes = Lanes()
        var offset = 0
        let end = bytes.count
        while offset &+ 64 <= end {
            let block = unsafe bytes.loadUnaligned(fromByteOffset: offset, as: SIMD4<UInt64>.self)
            let other = unsafe bytes.loadUnaligned(fromByteOffset: offset &+ 32, as: SIMD4<UInt64>.self)
            lanes.add(block, other)
            offset &+= 64
        }
        return unsafe lanes.sum &+ tail(bytes, from: offset)
    }

    /// Copies `bytes` to the front of `place`, which has room, and returns their `sum`: one pass over the memory.
    @inline(__always)
    static func copy(_ bytes: UnsafeRawBufferPointer, to place: UnsafeMutableRawBufferPointer) -> UInt64 {
        var lanes = Lanes()
        var offset = 0
        let end = bytes.count
        while offset &+ 64 <= end {
            let block = unsafe bytes.loadUnaligned(fromByteOffset: offset, as: SIMD4<UInt64>.self)
            let other = unsafe bytes.loadUnaligned(fromByteOffset: offset &+ 32, as: SIMD4<UInt64>.self)
            unsafe place.storeBytes(of: block, toByteOffset: offset, as: SIMD4<UInt64>.self)
            unsafe place.storeBytes(of: other, toByteOffset: offset &+ 32, as: SIMD4<UInt64>.self)
            lanes.add(block, other)
            offset &+= 64
        }
        if offset < end {
            unsafe UnsafeMutableRawBufferPointer(rebasing: place[offset..<end])
                .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[offset..<end]))
        }
        return unsafe lanes.sum &+ tail(bytes, from: offset)
    }

    /// What the eight bytes at `offset` add to a sum.
    @inline(__always)
    static func words(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt64 {
        let words = unsafe bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        return (words & 0xffff_ffff) &+ (words >> 32)
    }

    @inline(__always)
    private static func tail(_ bytes: UnsafeRawBufferPointer, from start: Int) -> UInt64 {
        var sum: UInt64 = 0
        var offset = start
        let end = bytes.count
        while offset &+ 8 <= end {
            sum &+= unsafe words(bytes, offset)
            offset &+= 8
        }
        if offset &+ 4 <= end {
            sum &+= unsafe UInt64(bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
            offset &+= 4
        }
        if offset &+ 2 <= end {
            sum &+= unsafe UInt64(bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
            offset &+= 2
        }
        if offset < end { sum &+= unsafe UInt64(UInt16(littleEndian: UInt16(bytes[offset]))) }
        return sum
    }

    /// A sum folded to 16 bits, in host byte order, not complemented.
    @inline(__always)
    static func fold(_ sum: UInt64) -> UInt16 {
        var folded = (sum & 0xffff_ffff) &+ (sum >> 32)
        folded = (folded & 0xffff) &+ (folded >> 16)
        folded = (folded & 0xffff) &+ (folded >> 16)
        folded = (folded & 0xffff) &+ (folded >> 16)
        return UInt16(truncatingIfNeeded: folded)
    }

    /// What a 16-bit number of a pseudo header adds to a sum.
    @inline(__always)
    static func word(_ value: Int) -> UInt64 { UInt64(UInt16(truncatingIfNeeded: value).bigEndian) }
}
