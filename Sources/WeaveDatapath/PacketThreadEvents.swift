import CLinux
import Glibc
import Synchronization
import WeaveCore

/// What a packet thread tells the control thread.
enum PacketEvent: Sendable {
    /// A special frame arrived from the other end of a link.
    case special(link: UInt64, SpecialFrame, from: Endpoint)
    /// The kernel refused a packet with DF for its size.
    case tooBig(link: UInt64)
    /// An ICMP message or the kernel says that the path to this address (network byte order) takes less.
    case pathLimit(address: UInt32)
    /// The kernel refused a packet for another reason.
    case sendFailed(link: UInt64, code: Int32)
    /// A MAC address was seen for the first time.
    case discovered(MACAddress, at: PeerName)
    /// A MAC address is at another peer than before.
    case moved(MACAddress, from: PeerName, to: PeerName)
    /// A frame was captured whose source is at another peer.
    case foreignSource(MACAddress, to: MACAddress, at: PeerName)
    /// A packet of a link was damaged.
    case damaged(link: UInt64, from: Endpoint, text: String)
    /// A datagram shorter than a name.
    case short(from: Endpoint)
    /// A frame was dropped for its size.
    case dropped(link: UInt64, FrameDrop, length: Int, limit: Int)
    /// The local device was removed.
    case deviceLost
    /// The kernel refuses to segment datagrams: they are sent one by one from now on.
    case segmentationRefused(code: Int32)
}

/// The way from packet threads to the control thread. What does not fit is lost, and counted by the sender.
final class PacketEventQueue: Sendable {
    /// Some milliseconds' worth of the worst flood; the control thread empties it in less.
    static let limit = 1024

    private let events = Mutex<[PacketEvent]>([])
    let wakeup: Wakeup

    init(wakeup: Wakeup) { self.wakeup = wakeup }

    /// Adds events, and returns how many were lost.
    func post(_ new: [PacketEvent]) -> Int {
        let taken = events.withLock { events in
            let taken = min(new.count, Self.limit - events.count)
            events.append(contentsOf: new.prefix(taken))
            return taken
        }
        if taken > 0 { wakeup.signal() }
        return new.count - taken
    }

    func takeAll() -> [PacketEvent] {
        events.withLock { events in
            let all = events
            events = []
            return all
        }
    }
}

/// An event descriptor: wakes a thread that polls it.
final class Wakeup: Sendable {
    let descriptor: Int32

    init() { descriptor = weave_wakeup_create() }

    deinit { if descriptor >= 0 { close(descriptor) } }

    func signal() {
        var one: UInt64 = 1
        _ = unsafe write(descriptor, &one, MemoryLayout<UInt64>.size)
    }

    func clear() {
        var count: UInt64 = 0
        _ = unsafe read(descriptor, &count, MemoryLayout<UInt64>.size)
    }
}

/// The time since the system started.
func monotonicNow() -> MonotonicTime {
    var time = timespec()
    _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return MonotonicTime(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
}

/// A plain thread with a name. It inherits the network namespace of the thread that starts it.
final class PlainThread: Sendable {
    private let handle: pthread_t

    private final class Body: Sendable {
        let name: String
        let run: @Sendable () -> Void
        init(name: String, run: @escaping @Sendable () -> Void) {
            self.name = name
            self.run = run
        }
    }

    /// Starts a thread that runs `run`; nil when the system has none to give.
    init?(name: String, run: @escaping @Sendable () -> Void) {
        let body = unsafe Unmanaged.passRetained(Body(name: name, run: run))
        var thread = pthread_t()
        let status = unsafe pthread_create(
            &thread, nil,
            { argument in
                guard let argument = unsafe argument else { return nil }
                let body = unsafe Unmanaged<Body>.fromOpaque(argument).takeRetainedValue()
                unsafe weave_name_thread(body.name)
                body.run()
                return nil
            }, body.toOpaque())
        guard status == 0 else {
            unsafe body.release()
            return nil
        }
        handle = thread
    }

    /// Waits for the end of the thread. A thread that is to wait for itself is let go instead.
    func join() {
        if pthread_equal(handle, pthread_self()) != 0 {
            pthread_detach(handle)
        } else {
            pthread_join(handle, nil)
        }
    }
}
