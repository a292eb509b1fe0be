import CLinux
import Glibc
import Synchronization
import WeaveCore

/// What packet threads share with the control thread and each other.
final class PacketFabric: Sendable {
    let ourself: PeerName
    let snapshots: SnapshotBox
    /// Locked once per batch.
    let macs: Mutex<MACTable>
    let events: PacketEventQueue
    let isStopping = Atomic<Bool>(false)

    init(ourself: PeerName, events: PacketEventQueue) {
        self.ourself = ourself
        self.events = events
        snapshots = SnapshotBox(ForwardingSnapshot(routes: .alone(ourself), links: []))
        macs = Mutex(MACTable(ourself: ourself))
    }
}

/// What one packet thread is given.
struct PacketThreadSetup: Sendable {
    var index: Int
    var threads: Int
    /// The queues that this thread writes, and reads unless they are another's.
    var lanes: DeviceLanes
    /// Whether this thread reads the device; not when the device has fewer queues than there are threads.
    var captures: Bool
    var hasHeader: Bool
    var coalescesTCP: Bool
    var coalescesUDP: Bool
    var sockets: UDPSocketPair
    var usesSegmentation: Bool
    var wakeup: Wakeup
    var counts: SharedCounts
}

/// The loop of one packet thread: waits for the device and the sockets, and carries frames from one to the other in
/// batches. Nothing in it allocates, locks, logs or retains per packet; the exceptions are reports.
@safe struct PacketLoop: ~Copyable {
    /// How many frames, and about how many bytes, are captured in one go.
    static let captureBatch = 64
    static let captureLength = 128 * 1024
    /// How many frames received are handled in one go: what is received has at most a few thousand.
    static let recordBatch = 1024

    let setup: PacketThreadSetup
    let fabric: PacketFabric
    let counts: PacketCounts
    let reports: PacketReports
    let wakeup: Wakeup
    let poller: PacketPoller
    let receiver: PacketReceiver

    var generation: UInt64 = 0
    var snapshot: ForwardingSnapshot
    var routes: ForwardingRoutes
    var floods: [PeerName: [Int]] = [:]
    var output: PacketOutput
    var now = MonotonicTime.zero
    /// How many frames and messages the batch had so far, and how many bytes.
    var batchCount = 0
    var batchBytes = 0
    private var pacing = BatchPacing()
    private var polling = PollingBudget()
    private var hasLostDevice = false

    let captureSlab = PacketSlab(capacity: PacketLoop.captureLength + TAPDevice.maximumFrameLength + 4096)
    var captured = PacketList<CapturedFrame>(capacity: PacketLoop.captureBatch)
    var received = PacketList<ReceivedFrame>(capacity: PacketLoop.recordBatch)
    let scratch = PacketSlab(capacity: 2 * PacketLoop.segmentRoom)
    var injection: Injection

    init(setup: PacketThreadSetup, fabric: PacketFabric, poller: PacketPoller, receiver: PacketReceiver) {
        self.poller = poller
        self.receiver = receiver
        self.setup = setup
        self.fabric = fabric
        wakeup = setup.wakeup
        counts = setup.counts.own
        reports = PacketReports(queue: fabric.events, counts: counts)
        let first = ForwardingSnapshot(routes: .alone(fabric.ourself), links: [])
        snapshot = first
        routes = first.routes
        output = PacketOutput(
            ourself: fabric.ourself, sockets: setup.sockets, usesSegmentation: setup.usesSegmentation,
            snapshot: first, counts: counts, reports: reports)
        injection = Injection(setup: setup, counts: counts)
        for (descriptor, tag) in Self.watched(setup) { poller.add(descriptor, tag) }
    }

    private enum Tag {
        static let wakeup: UInt32 = 1, receiving: UInt32 = 2, whole: UInt32 = 3
        /// The first lane of the device; the others follow.
        static let capture: UInt32 = 4
    }

    private static func watched(_ setup: PacketThreadSetup) -> [(Int32, UInt32)] {
        let lanes = setup.captures ? setup.lanes.descriptors : []
        let others = [
            (setup.wakeup.descriptor, Tag.wakeup), (setup.sockets.receiving, Tag.receiving),
            (setup.sockets.dontFragment, Tag.whole),
        ]
        return others.filter { $0.0 >= 0 } + lanes.enumerated().map { ($1, Tag.capture + UInt32($0)) }
    }

    /// Runs until the fabric stops.
    mutating func run() {
        output.adopt(snapshot)
        let ready = PacketList<weave_ready>(capacity: Int(WEAVE_POLLER_BATCH.rawValue))
        weave_sharpen_timers()
        while !fabric.isStopping.load(ordering: .relaxed) {
            var polled: Int64 = 0
            let allowance = polling.allowance(at: now).wholeNanoseconds
            let count = unsafe weave_poller_wait(poller.descriptor, ready.pointer, allowance, &polled)
            if count < 0, count != -EINTR { break }
            polling.spend(.nanoseconds(polled))
            now = monotonicNow()
            batchCount = 0
            batchBytes = 0
            reports.now = now
            refresh()
            for index in 0..<max(Int(count), 0) {
                let event = ready[index]
                handle(event.tag, failed: event.failed != 0)
            }
            output.flush()
            reports.post()
            setup.counts.publish()
            if pacing.note(batchCount, bytes: batchBytes, now: now) { rest() }
        }
    }

    private func rest() {
        var time = timespec(tv_sec: 0, tv_nsec: Int(BatchPacing.rest.wholeNanoseconds))
        _ = unsafe nanosleep(&time, nil)
    }

    private mutating func handle(_ tag: UInt32, failed: Bool) {
        switch tag {
        case Tag.wakeup: wakeup.clear()
        case Tag.receiving:
            if failed { drainErrors(setup.sockets.receiving) }
            receive(setup.sockets.receiving)
        case Tag.whole:
            if failed { drainErrors(setup.sockets.dontFragment) }
            // Only without steering does anything arrive here.
            receive(setup.sockets.dontFragment)
        default:
            if failed { giveUpDevice() } else { capture(setup.lanes.descriptors[Int(tag - Tag.capture)]) }
        }
    }

    /// The device is gone; waiting for it would end at once, for ever.
    @inline(never)
    private mutating func giveUpDevice() {
        guard !hasLostDevice else { return }
        hasLostDevice = true
        for lane in setup.lanes.descriptors { poller.remove(lane) }
        reports.add(.deviceLost)
    }

    private mutating func refresh() {
        guard let latest = fabric.snapshots.refresh(&generation) else { return }
        snapshot = latest
        routes = latest.routes
        floods.removeAll(keepingCapacity: true)
        output.adopt(latest)
    }

    /// The links to which a broadcast of another peer goes on. Computed once for each peer and snapshot.
    @inline(never)
    mutating func floodHops(from source: PeerName) -> [Int] {
        if let known = floods[source] { return known }
        let hops = snapshot.hops(from: source)
        // Names off the wire are looked up only when the topology has them: the number is bounded by it.
        floods[source] = hops
        return hops
    }

    /// What the kernel says about packets sent earlier. At most so many in one go: they are about the same few paths.
    private func drainErrors(_ descriptor: Int32) {
        for _ in 0..<PacketReports.limit {
            var error = weave_socket_error()
            guard unsafe weave_udp_next_error(descriptor, &error) == 1 else { return }
            if error.code == UInt32(EMSGSIZE) { reports.complain(.pathLimit(address: error.address)) }
        }
    }
}

/// Waits for the descriptors of one packet thread.
final class PacketPoller: Sendable {
    let descriptor: Int32

    /// Nil when the system has no descriptors left.
    init?() {
        descriptor = weave_poller_create()
        if descriptor < 0 { return nil }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    func add(_ watched: Int32, _ tag: UInt32) { _ = weave_poller_add(descriptor, watched, tag) }
    func remove(_ watched: Int32) { _ = weave_poller_remove(descriptor, watched) }
}
