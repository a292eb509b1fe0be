import Glibc
import WeaveCore

/// Frames on their way to the local device: those of a batch are merged into super-frames where they can be, and each
/// is written in one call.
@safe struct Injection: ~Copyable {
    private let lanes: DeviceLanes
    private let hasHeader: Bool
    private let counts: PacketCounts
    private var coalescer: FrameCoalescer

    init(setup: PacketThreadSetup, counts: PacketCounts) {
        lanes = setup.lanes
        hasHeader = setup.hasHeader
        self.counts = counts
        coalescer = FrameCoalescer(
            capacity: PacketLoop.recordBatch, hasHeader: setup.hasHeader, tcp: setup.coalescesTCP,
            udp: setup.coalescesUDP)
    }

    /// Takes a frame that stays where it is until `flush`.
    @inline(__always)
    mutating func add(_ frame: UnsafeMutableRawBufferPointer) {
        if coalescer.isFull { flush() }
        unsafe coalescer.add(frame)
    }

    /// Writes what is waiting.
    mutating func flush() {
        guard !coalescer.isEmpty else { return }
        let (lanes, counts, first) = (lanes.descriptors, counts, hasHeader ? 1 : 0)
        unsafe coalescer.flush { parts, frames, length in
            let frame = unsafe UnsafeRawBufferPointer(start: parts[first].iov_base, count: parts[first].iov_len)
            let descriptor = unsafe lanes[DeviceLanes.lane(of: frame, among: lanes.count)]
            let written = unsafe writev(descriptor, parts.baseAddress, Int32(truncatingIfNeeded: parts.count))
            guard written >= 0 else { return counts.add(.injectErrors) }
            counts.add(.framesInjected)
            counts.add(.bytesInjected, length)
            if frames > 1 { counts.add(.segmentsCoalesced, frames) }
        }
    }

    /// Writes one frame at once, after those that are waiting.
    mutating func write(_ frame: UnsafeMutableRawBufferPointer) {
        unsafe add(frame)
        flush()
    }
}
