import Glibc

/// Merges the frames of one batch into super-frames, by the rules of the kernel's own receive path: consecutive
/// segments of one flow whose headers differ in nothing that cutting them again would not restore. A container's stack
/// then handles one large packet where 40 arrived.
///
/// Frames stay where they are: a super-frame is a list of pieces for `writev`, and only the header of its first frame
/// is changed. Within a flow nothing is reordered. What is merged has a checksum that was found right, so nothing that
/// was damaged is passed off as whole.
@safe
struct FrameCoalescer: ~Copyable {
    /// The most segments of a super-frame: what older kernels take of UDP, and as many as 64 KiB hold of usual size.
    static let maximumSegments = 64
    /// How many flows of a batch are told apart; another one that falls on the same place only ends a merge.
    static let flowCount = 64
    /// The largest IP packet, and IPv6 payload.
    private static let maximumLength = 0xffff

    /// One frame in the chain of a super-frame.
    @safe private struct Piece {
        var base: UnsafeMutableRawPointer?
        /// What is handed on of it: the whole frame for the first, the payload for the others.
        var count: Int32
        var next: Int32
    }

    /// What is handed on at once: one frame, or several that were merged.
    private struct Item {
        var first: Int32
        var last: Int32
        var segments: Int32 = 1
        /// Whether a frame may still be added, and whether the checksum of the first was found right.
        var isOpen: Bool
        var isVerified = false
        var endsWithPush = false
        /// The difference of the IPv4 identifications: -1 before it is known.
        var step: Int8 = -1
        var form = FlowForm()
        var segmentSize: Int32 = 0
        var nextSequence: UInt32 = 0
        var lastIdentification: UInt16 = 0
        /// The length of the frame, as merged.
        var length: Int32
    }

    let capacity: Int
    private let hasHeader: Bool
    private let coalescesTCP: Bool
    private let coalescesUDP: Bool
    private let pieces: PacketList<Piece>
    private let items: PacketList<Item>
    private let flows: UnsafeMutablePointer<Int32>
    private let vectors: UnsafeMutablePointer<iovec>
    private let header = PacketSlab(capacity: PacketSlab.alignment)
    private var pieceCount = 0
    private var itemCount = 0

    /// - Parameters:
    ///   - capacity: the most frames between two calls of `flush`.
    ///   - hasHeader: an `OffloadHeader` goes before each frame; without one nothing is merged.
    ///   - tcp: the reader takes TCP super-frames.
    ///   - udp: the reader takes UDP super-frames.
    init(capacity: Int, hasHeader: Bool, tcp: Bool, udp: Bool) {
        self.capacity = max(capacity, 1)
        self.hasHeader = hasHeader
        coalescesTCP = hasHeader && tcp
        coalescesUDP = hasHeader && udp
        pieces = PacketList(capacity: self.capacity)
        items = PacketList(capacity: self.capacity)
        unsafe flows = .allocate(capacity: Self.flowCount)
        unsafe flows.initialize(repeating: -1, count: Self.flowCount)
        unsafe vectors = .allocate(capacity: Self.maximumSegments + 1)
    }

    deinit {
        unsafe flows.deallocate()
        unsafe vectors.deallocate()
    }

    /// Whether `flush` has to come before the next `add`.
    var isFull: Bool { pieceCount == capacity }
    var isEmpty: Bool { pieceCount == 0 }

    /// Takes a frame, which stays where it is, unchanged by others, until `flush`.
    mutating func add(_ frame: UnsafeMutableRawBufferPointer) {
        precondition(!isFull, "a full coalescer is flushed first")
        let bytes = UnsafeRawBufferPointer(frame)
        guard let flow = unsafe FlowForm(bytes) else {
            // A fragment, or a packet with options, may belong to any flow: nothing may pass it.
            if hasHeader, unsafe FlowForm.isInternet(bytes) { closeAll() }
            return unsafe append(frame, FlowForm(), isOpen: false)
        }
        guard flow.isTCP ? coalescesTCP : coalescesUDP else {
            return unsafe append(frame, flow, isOpen: false)
        }
        let slot = flow.hash & (Self.flowCount - 1)
        let index = unsafe flows[slot]
        if index >= 0, unsafe merge(frame, flow, into: Int(index)) { return }
        let mayGrow = unsafe flow.mayBegin(bytes)
        unsafe flows[slot] = mayGrow ? Int32(truncatingIfNeeded: itemCount) : -1
        unsafe append(frame, flow, isOpen: mayGrow)
    }

    /// Hands everything on in order and begins anew.
    ///
    /// - Parameter write: Takes the pieces of a frame, the offload header included, how many frames were merged in it,
    ///   and its length without the offload header. The pieces are valid during the call.
    mutating func flush(_ write: (_ parts: UnsafeMutableBufferPointer<iovec>, _ frames: Int, _ length: Int) -> Void) {
        for index in 0..<itemCount {
            let item = unsafe items.pointer[index]
            var count = 0
            if hasHeader {
                let offload = item.segments > 1 ? finish(item) : .none
                unsafe offload.write(to: header.bytes)
                unsafe vectors[0] = unsafe iovec(iov_base: header.bytes.baseAddress, iov_len: OffloadHeader.length)
                count = 1
            }
            var piece = item.first
            while piece >= 0 {
                let part = unsafe pieces.pointer[Int(piece)]
                unsafe vectors[count] = unsafe iovec(iov_base: part.base, iov_len: Int(part.count))
                count += 1
                piece = part.next
            }
            unsafe write(
                UnsafeMutableBufferPointer(start: vectors, count: count), Int(item.segments), Int(item.length))
        }
        closeAll()
        pieceCount = 0
        itemCount = 0
    }

    private func closeAll() {
        unsafe flows.update(repeating: -1, count: Self.flowCount)
    }

    private mutating func append(_ frame: UnsafeMutableRawBufferPointer, _ flow: FlowForm, isOpen: Bool) {
        let piece = Int32(truncatingIfNeeded: pieceCount)
        let length = Int32(truncatingIfNeeded: isOpen ? flow.end : frame.count)
        unsafe (pieces.pointer + pieceCount).initialize(
            to: unsafe Piece(base: frame.baseAddress, count: length, next: -1))
        pieceCount += 1
        var item = Item(first: piece, last: piece, isOpen: isOpen, length: length)
        if isOpen {
            let bytes = UnsafeRawBufferPointer(frame)
            item.form = flow
            item.segmentSize = Int32(truncatingIfNeeded: flow.payloadLength)
            if flow.isTCP {
                item.nextSequence =
                    unsafe FrameBytes.load32(bytes, flow.transport + 4)
                    &+ UInt32(truncatingIfNeeded: flow.payloadLength)
            }
            if !flow.isIPv6 { item.lastIdentification = unsafe FrameBytes.load16(bytes, 18) }
        }
        unsafe (items.pointer + itemCount).initialize(to: item)
        itemCount += 1
    }

    /// Adds a frame to an item; false when it does not continue it. Either way the flow goes on from here.
    private mutating func merge(
        _ frame: UnsafeMutableRawBufferPointer, _ flow: FlowForm, into index: Int
    ) -> Bool {
        let item = unsafe items.pointer + index
        guard unsafe item.pointee.isOpen, unsafe flow.hasShape(of: item.pointee.form) else { return false }
        let first = unsafe pieces.pointer[Int(item.pointee.first)]
        let head = unsafe UnsafeRawBufferPointer(start: first.base, count: Int(first.count))
        let bytes = UnsafeRawBufferPointer(frame)
        let size = unsafe Int(item.pointee.segmentSize)
        guard flow.payloadLength > 0, flow.payloadLength <= size,
            unsafe Int(item.pointee.length) + flow.payloadLength - flow.lengthBase <= Self.maximumLength,
            unsafe flow.continues(head, bytes)
        else { return false }
        if flow.isTCP, unsafe FrameBytes.load32(bytes, flow.transport + 4) != item.pointee.nextSequence {
            return false
        }
        if !flow.isIPv6 {
            let identification = unsafe FrameBytes.load16(bytes, 18)
            let step = unsafe identification &- item.pointee.lastIdentification
            let isAtomic = unsafe FrameBytes.load16(bytes, 20) & 0x4000 != 0
            let known = unsafe item.pointee.step
            guard step == 1 || step == 0 && isAtomic, known < 0 || Int(known) == Int(step) else { return false }
            unsafe item.pointee.step = Int8(truncatingIfNeeded: step)
            unsafe item.pointee.lastIdentification = identification
        }
        if unsafe !item.pointee.isVerified {
            guard unsafe item.pointee.form.hasValidChecksums(head) else { return false }
            unsafe item.pointee.isVerified = true
        }
        guard unsafe flow.hasValidChecksums(bytes) else { return false }
        let piece = Int32(truncatingIfNeeded: pieceCount)
        unsafe (pieces.pointer + pieceCount).initialize(
            to: unsafe Piece(
                base: frame.baseAddress.map { unsafe $0 + flow.headerEnd },
                count: Int32(truncatingIfNeeded: flow.payloadLength), next: -1))
        pieceCount += 1
        unsafe pieces.pointer[Int(item.pointee.last)].next = piece
        unsafe item.pointee.last = piece
        unsafe item.pointee.segments += 1
        unsafe item.pointee.length += Int32(truncatingIfNeeded: flow.payloadLength)
        unsafe item.pointee.nextSequence &+= UInt32(truncatingIfNeeded: flow.payloadLength)
        let push = unsafe flow.isTCP && FrameBytes.load8(bytes, flow.transport + 13) & TransportHeader.push != 0
        unsafe item.pointee.endsWithPush = push
        let segments = unsafe Int(item.pointee.segments)
        if push || flow.payloadLength < size || segments == Self.maximumSegments {
            unsafe item.pointee.isOpen = false
        }
        return true
    }

    /// Makes the header of the first frame that of the super-frame; returns what goes before it.
    private func finish(_ item: Item) -> OffloadHeader {
        let form = item.form
        let first = unsafe pieces.pointer[Int(item.first)]
        let head = unsafe UnsafeMutableRawBufferPointer(start: first.base, count: Int(first.count))
        let length = Int(item.length)
        let transportLength = length - form.transport
        var pseudo: UInt64
        if form.isIPv6 {
            unsafe FrameBytes.store16(UInt16(truncatingIfNeeded: transportLength), head, 18)
            pseudo = unsafe OffloadChecksum.sum(UnsafeRawBufferPointer(rebasing: head[22..<54]))
        } else {
            unsafe FrameBytes.store16(UInt16(truncatingIfNeeded: length - 14), head, 16)
            unsafe FrameBytes.store16(0, head, 24)
            let sum = unsafe OffloadChecksum.sum(UnsafeRawBufferPointer(rebasing: head[14..<34]))
            unsafe head.storeBytes(of: ~OffloadChecksum.fold(sum), toByteOffset: 24, as: UInt16.self)
            pseudo = unsafe OffloadChecksum.sum(UnsafeRawBufferPointer(rebasing: head[26..<34]))
        }
        let number = form.isTCP ? IPProtocol.tcp : IPProtocol.udp
        pseudo &+= OffloadChecksum.word(transportLength) &+ OffloadChecksum.word(Int(number))
        let place = form.isTCP ? 16 : 6
        unsafe head.storeBytes(
            of: OffloadChecksum.fold(pseudo), toByteOffset: form.transport + place, as: UInt16.self)
        let kind: OffloadHeader.Kind
        if form.isTCP {
            kind = form.isIPv6 ? .tcp6 : .tcp4
            if item.endsWithPush {
                let flags = unsafe FrameBytes.load8(UnsafeRawBufferPointer(head), form.transport + 13)
                unsafe head.storeBytes(
                    of: flags | TransportHeader.push, toByteOffset: form.transport + 13, as: UInt8.self)
            }
        } else {
            kind = .udp
            unsafe FrameBytes.store16(UInt16(truncatingIfNeeded: transportLength), head, form.transport + 4)
        }
        return OffloadHeader(
            kind: kind, headerLength: form.headerEnd, segmentSize: Int(item.segmentSize),
            checksumStart: form.transport, checksumOffset: place)
    }
}

/// Where the parts of a TCP or UDP frame are that could be merged: untagged, without IP options or extension headers,
/// not a fragment.
struct FlowForm: BitwiseCopyable {
    private(set) var isIPv6 = false
    private(set) var isTCP = false
    private(set) var transport = 0
    private(set) var headerEnd = 0
    /// Where the IP packet ends; what follows is padding.
    private(set) var end = 0
    private(set) var hash = 0

    /// Nothing to merge.
    init() {}

    /// Nil for a frame of another form.
    @inline(__always)
    init?(_ frame: UnsafeRawBufferPointer) {
        guard frame.count >= 42 else { return nil }
        let type = unsafe FrameBytes.load16(frame, 12)
        let number: UInt8
        var mixed: UInt64
        if type == EtherType.ipv4 {
            // Version 4, five words of header, no fragment.
            guard unsafe FrameBytes.load8(frame, 14) == 0x45, unsafe FrameBytes.load16(frame, 20) & 0xbfff == 0 else {
                return nil
            }
            end = unsafe 14 + Int(FrameBytes.load16(frame, 16))
            number = unsafe FrameBytes.load8(frame, 23)
            transport = 34
            mixed = unsafe FrameBytes.load64(frame, 26)
        } else if type == EtherType.ipv6 {
            guard frame.count >= 62, unsafe FrameBytes.load8(frame, 14) >> 4 == 6 else { return nil }
            isIPv6 = true
            end = unsafe 54 + Int(FrameBytes.load16(frame, 18))
            number = unsafe FrameBytes.load8(frame, 20)
            transport = 54
            mixed = unsafe FrameBytes.load64(frame, 22) ^ FrameBytes.load64(frame, 30) &* 3
            mixed ^= unsafe FrameBytes.load64(frame, 38) &* 5 ^ FrameBytes.load64(frame, 46) &* 7
        } else {
            return nil
        }
        guard end <= frame.count else { return nil }
        switch number {
        case IPProtocol.tcp:
            guard end >= transport + 20 else { return nil }
            isTCP = true
            let length = unsafe Int(FrameBytes.load8(frame, transport + 12) >> 4) * 4
            headerEnd = transport + length
            guard length >= 20, headerEnd <= end else { return nil }
        case IPProtocol.udp:
            headerEnd = transport + 8
            guard end >= headerEnd, unsafe Int(FrameBytes.load16(frame, transport + 4)) == end - transport else {
                return nil
            }
        default: return nil
        }
        mixed ^= unsafe UInt64(FrameBytes.load32(frame, transport)) &* 0x1_0000_0001
        hash = flatHash(mixed) & 0xffff_ffff
    }

    /// Whether a frame is IP at all.
    static func isInternet(_ frame: UnsafeRawBufferPointer) -> Bool {
        guard frame.count >= 14 else { return false }
        let type = unsafe FrameBytes.load16(frame, 12)
        return type == EtherType.ipv4 || type == EtherType.ipv6 || EtherType.isTag(type)
    }

    var payloadLength: Int { end - headerEnd }
    /// What of the frame the 16-bit length of IP does not count.
    var lengthBase: Int { isIPv6 ? 54 : 14 }

    func hasShape(of other: FlowForm) -> Bool {
        hash == other.hash && isIPv6 == other.isIPv6 && isTCP == other.isTCP && headerEnd == other.headerEnd
    }

    /// Whether others may be merged to a frame: it has a payload, and nothing that happens once.
    @inline(__always)
    func mayBegin(_ frame: UnsafeRawBufferPointer) -> Bool {
        guard payloadLength > 0 else { return false }
        if isTCP {
            return unsafe FrameBytes.load8(frame, transport + 13) & ~TransportHeader.echo == TransportHeader.acknowledge
        }
        return unsafe FrameBytes.load16(frame, transport + 6) != 0
    }

    /// Whether the headers of a frame with this form are those of `head`, with what differs from segment to segment
    /// left out: lengths, identification, checksums, sequence number, PSH.
    @inline(__always)
    func continues(_ head: UnsafeRawBufferPointer, _ frame: UnsafeRawBufferPointer) -> Bool {
        unsafe sameLink(head, frame) && (isIPv6 ? sameIPv6(head, frame) : sameIPv4(head, frame))
            && (isTCP ? sameTCP(head, frame) : FrameBytes.load16(frame, transport + 6) != 0)
    }

    private func sameLink(_ head: UnsafeRawBufferPointer, _ frame: UnsafeRawBufferPointer) -> Bool {
        unsafe FrameBytes.load64(head, 0) == FrameBytes.load64(frame, 0)
            && FrameBytes.load64(head, 8) == FrameBytes.load64(frame, 8)
    }

    /// `sameLink` has compared up to the traffic class (IPv4) or half the flow label (IPv6).
    private func sameIPv4(_ head: UnsafeRawBufferPointer, _ frame: UnsafeRawBufferPointer) -> Bool {
        unsafe FrameBytes.load32(head, 20) == FrameBytes.load32(frame, 20)
            && FrameBytes.load64(head, 26) == FrameBytes.load64(frame, 26)
            && FrameBytes.load32(head, 34) == FrameBytes.load32(frame, 34)
    }

    private func sameIPv6(_ head: UnsafeRawBufferPointer, _ frame: UnsafeRawBufferPointer) -> Bool {
        guard unsafe FrameBytes.load16(head, 16) == FrameBytes.load16(frame, 16),
            unsafe FrameBytes.load16(head, 20) == FrameBytes.load16(frame, 20)
        else { return false }
        for offset in stride(from: 22, to: 54, by: 8) {
            guard unsafe FrameBytes.load64(head, offset) == FrameBytes.load64(frame, offset) else { return false }
        }
        return unsafe FrameBytes.load32(head, 54) == FrameBytes.load32(frame, 54)
    }

    /// The acknowledgement, flags, window, urgent pointer and options. The first has ACK and at most ECE.
    private func sameTCP(_ head: UnsafeRawBufferPointer, _ frame: UnsafeRawBufferPointer) -> Bool {
        let start = transport
        let push = UInt32(TransportHeader.push) << 16
        guard unsafe FrameBytes.load32(head, start + 8) == FrameBytes.load32(frame, start + 8),
            unsafe (FrameBytes.load32(head, start + 12) ^ FrameBytes.load32(frame, start + 12)) & ~push == 0,
            unsafe FrameBytes.load16(head, start + 18) == FrameBytes.load16(frame, start + 18)
        else { return false }
        for offset in stride(from: start + 20, to: headerEnd, by: 4) {
            guard unsafe FrameBytes.load32(head, offset) == FrameBytes.load32(frame, offset) else { return false }
        }
        return true
    }

    /// Whether the checksums of the IPv4 header and of the transport are right.
    @inline(__always)
    func hasValidChecksums(_ frame: UnsafeRawBufferPointer) -> Bool {
        var sum = OffloadChecksum.word(end - transport)
        sum &+= OffloadChecksum.word(Int(isTCP ? IPProtocol.tcp : IPProtocol.udp))
        if isIPv6 {
            for offset in stride(from: 22, to: 54, by: 8) { sum &+= unsafe OffloadChecksum.words(frame, offset) }
        } else {
            // The addresses are the last eight of 20 bytes.
            let addresses = unsafe OffloadChecksum.words(frame, 26)
            let first = unsafe OffloadChecksum.words(frame, 14)
            let rest = unsafe UInt64(frame.loadUnaligned(fromByteOffset: 22, as: UInt32.self))
            guard OffloadChecksum.fold(first &+ rest &+ addresses) == 0xffff else { return false }
            sum &+= addresses
        }
        sum &+= unsafe OffloadChecksum.sum(UnsafeRawBufferPointer(rebasing: frame[transport..<end]))
        return OffloadChecksum.fold(sum) == 0xffff
    }
}
