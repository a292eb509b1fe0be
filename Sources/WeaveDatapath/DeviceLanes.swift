import WeaveCore

/// The queues of the local device that one packet thread reads and writes: one flow keeps to one of them.
///
/// A packet thread reads each of its lanes for a batch in turn. So a flow that has a megabyte waiting delays only those
/// that share its lane, and an echo or a short answer comes by. The kernel puts a flow into the lane on which its other
/// direction was written last, so that what we write to which lane decides. Only the first frames of a flow, before
/// anything of it was written, come by a lane of the kernel's choice, and may be overtaken once.
struct DeviceLanes: Sendable {
    /// How many lanes a thread has where the device has several queues.
    static let count = 8

    let descriptors: [Int32]

    /// The share of thread `index` in the queues of a device.
    ///
    /// - Parameters:
    ///   - queues: all of them; at least one.
    ///   - index: which thread, from 0.
    ///   - threads: how many there are. With fewer queues than threads, those without one write to a queue of another.
    init(of queues: [Int32], index: Int, threads: Int) {
        let share = queues.count / threads
        if share > 0 {
            descriptors = Array(queues[index * share..<(index + 1) * share])
        } else {
            descriptors = [queues[index % queues.count]]
        }
    }

    /// Which lane a frame goes to: the same for both directions of a flow.
    @inline(__always)
    static func lane(of frame: UnsafeRawBufferPointer, among count: Int) -> Int {
        guard count > 1 else { return 0 }
        // Multiplied by the golden ratio, the upper bits depend on all.
        let mixed = unsafe key(frame) &* 0x9e37_79b1
        return Int(truncatingIfNeeded: (UInt64(mixed) &* UInt64(truncatingIfNeeded: count)) >> 32)
    }

    /// The addresses, the protocol and the ports of a flow folded into a number that does not change when source and
    /// destination change places; 0 for what is not IP.
    @inline(__always)
    private static func key(_ frame: UnsafeRawBufferPointer) -> UInt32 {
        guard frame.count >= 34 else { return 0 }
        var key: UInt32
        let transport: Int
        let proto: UInt8
        switch unsafe FrameBytes.load16(frame, 12) {
        case EtherType.ipv4:
            let first = unsafe FrameBytes.load8(frame, 14)
            proto = unsafe FrameBytes.load8(frame, 23)
            key = unsafe FrameBytes.load32(frame, 26) ^ FrameBytes.load32(frame, 30)
            // Only the first fragment has ports, and all fragments are to go one way.
            let isFragment = unsafe FrameBytes.load16(frame, 20) & 0x3fff != 0
            transport = isFragment ? .max : 14 + Int(first & 0x0f) * 4
        case EtherType.ipv6:
            guard frame.count >= 54 else { return 0 }
            proto = unsafe FrameBytes.load8(frame, 20)
            let folded = unsafe FrameBytes.load64(frame, 22) ^ FrameBytes.load64(frame, 30)
            let other = unsafe FrameBytes.load64(frame, 38) ^ FrameBytes.load64(frame, 46)
            let both = folded ^ other
            key = UInt32(truncatingIfNeeded: both ^ (both >> 32))
            transport = 54
        default: return 0
        }
        key ^= UInt32(proto) << 24
        if proto == IPProtocol.tcp || proto == IPProtocol.udp, transport <= frame.count - 4 {
            key ^= unsafe UInt32(FrameBytes.load16(frame, transport) ^ FrameBytes.load16(frame, transport + 2))
        }
        return key
    }
}
