import CLinux
import Glibc
import Synchronization
import WeaveCore

/// Reports of one packet thread, collected during a batch. Bounded: what a flood causes is cut short.
final class PacketReports {
    /// Enough for what one batch has to tell at a normal time.
    static let limit = 64
    /// Reports about damage and drops that a peer can cause at will: so many in a second.
    static let complaintsPerSecond = 4

    private var events: [PacketEvent] = []
    private var complaints = 0
    private var complaintWindow = MonotonicTime.zero
    /// The time of the batch.
    var now = MonotonicTime.zero
    private let queue: PacketEventQueue
    private let counts: PacketCounts

    init(queue: PacketEventQueue, counts: PacketCounts) {
        self.queue = queue
        self.counts = counts
        events.reserveCapacity(Self.limit)
    }

    @inline(never)
    func add(_ event: PacketEvent) {
        guard events.count < Self.limit else { return counts.add(.lostReports) }
        events.append(event)
    }

    /// Adds what is only worth a line in the log, unless there were many already.
    @inline(never)
    func complain(_ event: @autoclosure () -> PacketEvent) {
        if now >= complaintWindow {
            complaintWindow = now + .seconds(1)
            complaints = 0
        }
        guard complaints < Self.complaintsPerSecond else { return }
        complaints += 1
        add(event())
    }

    func post() {
        guard !events.isEmpty else { return }
        let lost = queue.post(events)
        if lost > 0 { counts.add(.lostReports, lost) }
        events.removeAll(keepingCapacity: true)
    }
}

/// Packets on their way out: built one after another in a slab, sealed in place, and sent in as few calls as the kernel
/// allows.
///
/// Small frames for one neighbour share a packet as long as no time is lost by it: nothing waits for another frame.
/// Packets of one size to one neighbour lie side by side, so that UDP_SEGMENT can send them as one piece of memory.
@safe struct PacketOutput: ~Copyable {
    /// Room for the packets of one batch: eight super-frames.
    static let slabLength = 768 * 1024
    /// After so many bytes what there is is sent: they are still in the processor's cache.
    static let flushLength = 192 * 1024
    /// More packets than this are not collected.
    static let maximumPackets = 2048
    /// Small frames are collected in packets of at most this length.
    static let packedLength = 8192
    /// How many datagrams the kernel takes in one piece, and how many bytes.
    static let maximumSegments = 64
    /// How long, in milliseconds, a full socket may hold up the thread before packets are dropped.
    static let fullSocketPatience: Int32 = 5

    // Not private: the compiler (6.3) loses track of a private element type of a noncopyable list.
    struct Packet {
        var offset: Int32
        var length: Int32
        var reserved: Int32
        var entry: Int32
        var dontFragment: Bool
    }

    private let slab = PacketSlab(capacity: PacketOutput.slabLength)
    private var top = 0
    private var packets = PacketList<Packet>(capacity: PacketOutput.maximumPackets)
    /// For each link and kind the packet that takes more frames, -1 for none.
    private var open = PacketList<Int32>(capacity: 2)
    private var messages = PacketList<weave_outgoing>(capacity: Int(WEAVE_SEND_BATCH.rawValue))
    private var messageEntries = PacketList<Int32>(capacity: Int(WEAVE_SEND_BATCH.rawValue))
    private let ourself: PeerName
    private let sockets: UDPSocketPair
    private let counts: PacketCounts
    private let reports: PacketReports
    private var snapshot: ForwardingSnapshot
    private var usesSegmentation: Bool

    init(
        ourself: PeerName, sockets: UDPSocketPair, usesSegmentation: Bool, snapshot: ForwardingSnapshot,
        counts: PacketCounts, reports: PacketReports
    ) {
        self.ourself = ourself
        self.sockets = sockets
        self.usesSegmentation = usesSegmentation
        self.snapshot = snapshot
        self.counts = counts
        self.reports = reports
    }

    /// Goes over to another snapshot. Nothing may be waiting.
    mutating func adopt(_ snapshot: ForwardingSnapshot) {
        flush()
        self.snapshot = snapshot
        open = PacketList(capacity: max(snapshot.count * 2, 2))
        for _ in 0..<snapshot.count * 2 { open.append(-1) }
    }

    // MARK: - Building

    /// The place for a frame of `length` bytes for a neighbour, behind its record's header; nil when it does not fit
    /// a packet, which is counted.
    mutating func place(
        _ length: Int, entry index: Int, dontFragment: Bool, source: PeerName, destination: PeerName
    ) -> UnsafeMutableRawBufferPointer? {
        let entry = unsafe snapshot.entry(index)
        let maximum = unsafe entry.pointee.parameters.maximumPayload
        let header = unsafe entry.pointee.headerLength
        let record = SleeveLayout.recordHeaderLength + length
        let limit = dontFragment ? maximum : SleeveLayout.maximumPacketLength
        let slot = index * 2 + (dontFragment ? 1 : 0)
        guard header + record <= limit else {
            tooBig(length, limit: limit, entry: index)
            return nil
        }
        let current = Int(open[slot])
        if current >= 0 {
            var packet = packets[current]
            if Int(packet.length) + record <= min(Int(packet.reserved), maximum) {
                let start = Int(packet.offset + packet.length)
                packet.length += Int32(truncatingIfNeeded: record)
                packets[current] = packet
                return unsafe writeRecord(at: start, length, source: source, destination: destination)
            }
        }
        let needed = header + record
        // A packet that is half full already takes no second frame of its size: then it gets no more than it needs,
        // and the next one begins right behind it.
        let reserved = needed * 2 > maximum ? needed : max(needed, min(maximum, Self.packedLength))
        if top + reserved > slab.capacity || packets.isFull { flush() }
        let start = top
        top += reserved
        open[slot] = reserved > needed ? Int32(truncatingIfNeeded: packets.count) : -1
        packets.append(
            Packet(
                offset: Int32(truncatingIfNeeded: start), length: Int32(truncatingIfNeeded: needed),
                reserved: Int32(truncatingIfNeeded: reserved), entry: Int32(truncatingIfNeeded: index),
                dontFragment: dontFragment))
        unsafe FrameBytes.store48(ourself.rawValue, slab.bytes, start)
        return unsafe writeRecord(at: start + header, length, source: source, destination: destination)
    }

    @inline(__always)
    private func writeRecord(
        at start: Int, _ length: Int, source: PeerName, destination: PeerName
    ) -> UnsafeMutableRawBufferPointer {
        unsafe FrameBytes.store48(source.rawValue, slab.bytes, start)
        unsafe FrameBytes.store48(destination.rawValue, slab.bytes, start + 6)
        unsafe FrameBytes.store16(UInt16(truncatingIfNeeded: length), slab.bytes, start + 12)
        return unsafe slab.slice(start + SleeveLayout.recordHeaderLength, length)
    }

    @inline(never)
    private func tooBig(_ length: Int, limit: Int, entry index: Int) {
        counts.add(FrameDrop.tooBig)
        let link = unsafe snapshot.entry(index).pointee.withLink { $0.id }
        reports.complain(.dropped(link: link, .tooBig, length: length, limit: limit))
    }

    /// Whether enough is waiting to be sent while it is still in the cache.
    var isDue: Bool { top >= Self.flushLength }

    // MARK: - Sending

    /// Seals and sends all packets.
    mutating func flush() {
        guard packets.count > 0 else { return }
        for index in 0..<packets.count {
            let packet = packets[index]
            open[Int(packet.entry) * 2 + (packet.dontFragment ? 1 : 0)] = -1
            let entry = unsafe snapshot.entry(Int(packet.entry))
            guard unsafe entry.pointee.isEncrypted else { continue }
            let bytes = unsafe slab.slice(Int(packet.offset), Int(packet.length))
            if unsafe !entry.pointee.seal(bytes, dontFragment: packet.dontFragment) { packets[index].length = 0 }
        }
        collect(dontFragment: true)
        collect(dontFragment: false)
        packets.removeAll()
        top = 0
    }

    private mutating func collect(dontFragment: Bool) {
        var index = 0
        while index < packets.count {
            let first = packets[index]
            index += 1
            guard first.dontFragment == dontFragment, first.length > 0 else { continue }
            var total = first.length
            var segments = 1
            let entry = unsafe snapshot.entry(Int(first.entry))
            if usesSegmentation, unsafe Int(first.length) <= entry.pointee.parameters.maximumPayload {
                var last = first.length
                while index < packets.count, segments < Self.maximumSegments, last == first.length {
                    let next = packets[index]
                    guard next.entry == first.entry, next.dontFragment == dontFragment,
                        next.offset == first.offset + total, next.length <= first.length, next.length > 0,
                        Int(total + next.length) <= SleeveLayout.maximumPacketLength
                    else { break }
                    last = next.length
                    total += next.length
                    segments += 1
                    index += 1
                }
            }
            let segment = segments > 1 ? UInt16(truncatingIfNeeded: first.length) : 0
            unsafe append(entry, Int(first.entry), offset: Int(first.offset), length: Int(total), segment: segment)
            counts.add(.datagramsSent, segments)
            counts.add(.bytesSent, Int(total))
            unsafe entry.pointee.withLink {
                $0.datagramsSent.wrappingAdd(UInt64(segments), ordering: .relaxed)
                $0.bytesSent.wrappingAdd(UInt64(total), ordering: .relaxed)
            }
            if messages.isFull { dispatch(dontFragment: dontFragment) }
        }
        dispatch(dontFragment: dontFragment)
    }

    private mutating func append(
        _ entry: UnsafePointer<LinkEntry>, _ index: Int, offset: Int, length: Int, segment: UInt16
    ) {
        unsafe messages.append(
            weave_outgoing(
                offset: UInt32(truncatingIfNeeded: offset), length: UInt32(truncatingIfNeeded: length),
                address: entry.pointee.address,
                source: entry.pointee.source, port: entry.pointee.port, segment_size: segment))
        messageEntries.append(Int32(truncatingIfNeeded: index))
    }

    private mutating func dispatch(dontFragment: Bool) {
        let descriptor = dontFragment ? sockets.dontFragment : sockets.receiving
        var done = 0
        var retried = false
        while done < messages.count {
            counts.add(.sendCalls)
            let sent = unsafe weave_udp_send(
                descriptor, slab.base, messages.pointer + done, UInt32(messages.count - done))
            if sent > 0 {
                done += Int(sent)
                retried = false
                continue
            }
            switch -sent {
            case EINTR: continue
            case EAGAIN, ENOBUFS:
                guard !retried, Self.waitForRoom(descriptor) else {
                    counts.add(.sendOverruns, messages.count - done)
                    done = messages.count
                    continue
                }
                retried = true
            case let code where messages[done].segment_size > 0:
                sendOneByOne(descriptor, done, refusedWith: code)
                done += 1
            case let code:
                // The error may be that of an earlier packet, which this call was told of: try again once.
                if retried {
                    report(code, entry: Int(messageEntries[done]))
                    done += 1
                }
                retried.toggle()
            }
        }
        messages.removeAll()
        messageEntries.removeAll()
    }

    private static func waitForRoom(_ descriptor: Int32) -> Bool {
        var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        return unsafe poll(&wait, 1, fullSocketPatience) > 0
    }

    /// The kernel refused several datagrams in one piece: because of their size, the device, or an earlier error.
    @inline(never)
    private mutating func sendOneByOne(_ descriptor: Int32, _ index: Int, refusedWith code: Int32) {
        let whole = messages[index]
        var offset: UInt32 = 0
        var failed = false
        while offset < whole.length {
            var part = whole
            part.offset += offset
            part.length = min(UInt32(whole.segment_size), whole.length - offset)
            part.segment_size = 0
            offset += part.length
            counts.add(.sendCalls)
            var sent = unsafe weave_udp_send(descriptor, slab.base, &part, 1)
            if sent == -EAGAIN, Self.waitForRoom(descriptor) {
                sent = unsafe weave_udp_send(descriptor, slab.base, &part, 1)
            }
            if sent < 0 {
                if !failed { report(-sent, entry: Int(messageEntries[index])) }
                failed = true
                // The others are as long.
                if sent == -EMSGSIZE { return }
            }
        }
        // EIO: the device cannot. EINVAL: this kernel cannot, if what it did not take in one piece it took in many.
        if code == EIO || code == EOPNOTSUPP || code == EINVAL && !failed {
            usesSegmentation = false
            reports.add(.segmentationRefused(code: code))
        }
    }

    @inline(never)
    private func report(_ code: Int32, entry index: Int) {
        counts.add(.sendErrors)
        let link = unsafe snapshot.entry(index).pointee.withLink { $0.id }
        if code == EMSGSIZE {
            reports.add(.tooBig(link: link))
        } else {
            reports.complain(.sendFailed(link: link, code: code))
        }
    }
}
