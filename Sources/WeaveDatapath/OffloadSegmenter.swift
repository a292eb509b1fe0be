/// Cuts a super-frame that the kernel handed over whole (TCP or UDP segmentation left to us) into the frames that go
/// over the wire. Each is written straight to its place in a packet, summed in the same pass; nothing is allocated.
@unsafe
struct FrameSegmenter {
    private let frame: UnsafeRawBufferPointer
    private let ip: Int
    private let transport: Int
    private let headerEnd: Int
    private let segmentSize: Int
    private let isIPv6: Bool
    private let isTCP: Bool
    /// The sums of what all frames have in common: of the IPv4 header, and of the transport header with the addresses
    /// and the protocol of the pseudo header. Headers just written are not read again: that would wait for the stores.
    private let ipSum: UInt64
    private let transportSum: UInt64
    private var position: Int
    private var index = 0

    /// Begins to cut `frame`, which must outlive the segmenter.
    ///
    /// - Returns: nil when the frame is not what `offload` says.
    init?(_ frame: UnsafeRawBufferPointer, offload: OffloadHeader) {
        guard let kind = offload.kind, offload.segmentSize > 0,
            let ip = unsafe Self.ipStart(frame), frame.count >= ip + 20
        else { return nil }
        let version = unsafe FrameBytes.load8(frame, ip) >> 4
        let transport = Int(offload.checksumStart)
        let isTCP = kind != .udp
        let isIPv6 = version == 6
        let number = isTCP ? IPProtocol.tcp : IPProtocol.udp
        var pseudo: UInt64
        switch (version, kind) {
        case (4, .tcp4), (4, .udp):
            let length = unsafe Int(FrameBytes.load8(frame, ip) & 15) * 4
            guard length >= 20, transport == ip + length, unsafe FrameBytes.load8(frame, ip + 9) == number else {
                return nil
            }
            pseudo = unsafe OffloadChecksum.sum(UnsafeRawBufferPointer(rebasing: frame[(ip + 12)..<(ip + 20)]))
        case (6, .tcp6), (6, .udp):
            // Extension headers are walked by the kernel: what it says is the transport header is one.
            guard transport >= ip + 40, frame.count >= ip + 40 else { return nil }
            pseudo = unsafe OffloadChecksum.sum(UnsafeRawBufferPointer(rebasing: frame[(ip + 8)..<(ip + 40)]))
        default: return nil
        }
        pseudo &+= OffloadChecksum.word(Int(number))
        guard frame.count >= transport + (isTCP ? TransportHeader.tcpLength : TransportHeader.udpLength) else {
            return nil
        }
        let headerLength =
            isTCP ? unsafe Int(FrameBytes.load8(frame, transport + 12) >> 4) * 4 : TransportHeader.udpLength
        let end = transport + headerLength
        guard headerLength >= (isTCP ? TransportHeader.tcpLength : TransportHeader.udpLength), end <= frame.count,
            end - ip + Int(offload.segmentSize) <= 0xffff || frame.count - ip <= 0xffff
        else { return nil }
        unsafe self.frame = frame
        unsafe self.ip = ip
        unsafe self.transport = transport
        unsafe headerEnd = end
        unsafe segmentSize = Int(offload.segmentSize)
        unsafe self.isIPv6 = isIPv6
        unsafe self.isTCP = isTCP
        // What differs is taken out again. Each field counts once or, as the upper half of a word, 65536 times, which is
        // the same to the checksum and never less than what is taken out.
        let header = unsafe OffloadChecksum.sum(UnsafeRawBufferPointer(rebasing: frame[transport..<end]))
        let own =
            isTCP
            ? unsafe UInt64(Self.raw32(frame, transport + 4)) &+ UInt64(Self.raw16(frame, transport + 12))
                &+ UInt64(Self.raw16(frame, transport + 16))
            : unsafe UInt64(Self.raw16(frame, transport + 4)) &+ UInt64(Self.raw16(frame, transport + 6))
        unsafe transportSum = pseudo &+ header &- own
        if isIPv6 {
            unsafe ipSum = 0
        } else {
            let all = unsafe OffloadChecksum.sum(UnsafeRawBufferPointer(rebasing: frame[ip..<transport]))
            let own =
                unsafe UInt64(Self.raw16(frame, ip + 2)) &+ UInt64(Self.raw16(frame, ip + 4))
                &+ UInt64(Self.raw16(frame, ip + 10))
            unsafe ipSum = all &- own
        }
        unsafe position = end
    }

    /// The length of the next frame; 0 after the last.
    var nextLength: Int {
        guard unsafe position < frame.count || index == 0 else { return 0 }
        return unsafe headerEnd + min(segmentSize, frame.count - position)
    }

    /// Writes the next frame to the front of `place`, which has room for `nextLength` bytes.
    mutating func next(into place: UnsafeMutableRawBufferPointer) {
        let length = unsafe nextLength
        guard length > 0, place.count >= length else { return }
        let count = unsafe length - headerEnd
        let isFirst = unsafe index == 0
        let isLast = unsafe position + count == frame.count
        unsafe place.copyMemory(from: UnsafeRawBufferPointer(rebasing: frame[..<headerEnd]))
        var sum = unsafe OffloadChecksum.copy(
            UnsafeRawBufferPointer(rebasing: frame[position..<position + count]),
            to: UnsafeMutableRawBufferPointer(rebasing: place[headerEnd..<length]))
        let start = unsafe transport
        unsafe writeIPHeader(place, length: length)
        sum &+= unsafe transportSum &+ OffloadChecksum.word(length - start)
        let checksumPlace: Int
        if unsafe isTCP {
            let offset = unsafe UInt32(truncatingIfNeeded: position - headerEnd)
            let sequence = unsafe (FrameBytes.load32(frame, start + 4) &+ offset).bigEndian
            unsafe place.storeBytes(of: sequence, toByteOffset: start + 4, as: UInt32.self)
            var flags = unsafe FrameBytes.load16(frame, start + 12)
            if !isFirst { flags &= ~UInt16(TransportHeader.congestionWindowReduced) }
            if !isLast { flags &= ~UInt16(TransportHeader.finish | TransportHeader.push) }
            unsafe FrameBytes.store16(flags, place, start + 12)
            sum &+= UInt64(sequence) &+ UInt64(flags.bigEndian)
            checksumPlace = start + 16
        } else {
            unsafe FrameBytes.store16(UInt16(truncatingIfNeeded: length - start), place, start + 4)
            sum &+= OffloadChecksum.word(length - start)
            checksumPlace = start + 6
        }
        let checksum = ~OffloadChecksum.fold(sum)
        // UDP means by zero that there is no checksum; the other zero is as good.
        let stored = unsafe checksum == 0 && !isTCP ? 0xffff : checksum
        unsafe place.storeBytes(of: stored, toByteOffset: checksumPlace, as: UInt16.self)
        unsafe position += count
        unsafe index += 1
    }

    private func writeIPHeader(_ place: UnsafeMutableRawBufferPointer, length: Int) {
        let start = unsafe ip
        if unsafe isIPv6 {
            unsafe FrameBytes.store16(UInt16(truncatingIfNeeded: length - start - 40), place, start + 4)
            return
        }
        let total = OffloadChecksum.word(length - start)
        let identification = unsafe FrameBytes.load16(frame, start + 4) &+ UInt16(truncatingIfNeeded: index)
        let sum = unsafe ipSum &+ total &+ UInt64(identification.bigEndian)
        unsafe FrameBytes.store16(UInt16(truncatingIfNeeded: length - start), place, start + 2)
        unsafe FrameBytes.store16(identification, place, start + 4)
        unsafe place.storeBytes(of: ~OffloadChecksum.fold(sum), toByteOffset: start + 10, as: UInt16.self)
    }

    @inline(__always)
    private static func raw16(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt16 {
        unsafe bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self)
    }

    @inline(__always)
    private static func raw32(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt32 {
        unsafe bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
    }

    /// Where the IP header begins: behind the Ethernet header and at most two tags.
    private static func ipStart(_ frame: UnsafeRawBufferPointer) -> Int? {
        var start = SleeveLayout.ethernetHeaderLength
        for _ in 0...RouterGuard.maximumTags {
            guard frame.count >= start else { return nil }
            let type = unsafe FrameBytes.load16(frame, start - 2)
            if type == EtherType.ipv4 || type == EtherType.ipv6 { return start }
            guard EtherType.isTag(type) else { return nil }
            start += 4
        }
        return nil
    }
}

/// Lengths and flags of the transport headers.
enum TransportHeader {
    /// Without options.
    static let tcpLength = 20
    static let udpLength = 8
    /// FIN and PSH are about the end of the data, CWR about its beginning.
    static let finish: UInt8 = 0x01
    static let push: UInt8 = 0x08
    static let acknowledge: UInt8 = 0x10
    static let echo: UInt8 = 0x40
    static let congestionWindowReduced: UInt8 = 0x80
}
