import Synchronization
import WeaveCore

/// What packet threads count beside the frames they drop.
public enum PacketCounter: Int, Sendable, Hashable, CaseIterable {
    /// Frames read from the local device; a super-frame is one.
    case framesCaptured
    case bytesCaptured
    /// Frames written to the local device; a super-frame is one.
    case framesInjected
    case bytesInjected
    /// Segments that were put together into super-frames.
    case segmentsCoalesced
    /// Segments cut from super-frames.
    case segmentsCut
    case datagramsSent
    case bytesSent
    /// Calls of the kernel that sent them.
    case sendCalls
    case datagramsReceived
    case bytesReceived
    /// Calls of the kernel that received them.
    case receiveCalls
    /// Frames sent on to another peer.
    case framesRelayed
    /// IPv4 frames cut into fragments.
    case framesFragmented
    /// Sources that were told what MTU the path has.
    case tooBigAnswers
    /// Datagrams shorter than a name.
    case shortDatagrams
    /// Datagrams of a peer without a link.
    case unknownSenders
    /// Datagrams that did not open.
    case undecryptable
    /// Datagrams that had been accepted before, or came too late to know.
    case replays
    /// Datagrams that do not consist of whole records.
    case malformedDatagrams
    /// Datagrams longer than there was room for.
    case truncatedDatagrams
    /// Datagrams that the kernel refused to send.
    case sendErrors
    /// Datagrams that did not fit the socket's buffer for too long.
    case sendOverruns
    /// Frames that the local device refused.
    case injectErrors
    /// Reports to the control thread for which its queue had no room.
    case lostReports
    /// Control messages of peers that say nothing usable.
    case ignoredControls
    /// Control messages of peers that came faster than they were read.
    case lostControls

    /// The name of the counter.
    public var label: String {
        String(describing: self).reduce(into: "") { text, letter in
            if letter.isUppercase { text += "_" }
            text += letter.lowercased()
        }
    }
}

/// What packet threads have done, as a value.
public struct PacketStatistics: Sendable, Equatable {
    private var counts = [UInt64](repeating: 0, count: PacketCounts.length)

    public init() {}

    /// How often something happened.
    public subscript(counter: PacketCounter) -> UInt64 { counts[counter.rawValue] }

    /// How many frames were dropped for a reason.
    public subscript(drop: FrameDrop) -> UInt64 { counts[PacketCounter.allCases.count + drop.rawValue] }

    /// All frames dropped.
    public var dropped: UInt64 { FrameDrop.allCases.reduce(0) { $0 + self[$1] } }

    mutating func add(_ shared: SharedCounts) {
        for index in counts.indices { counts[index] &+= shared.load(index) }
    }
}

/// The counts of one thread, as the thread itself sees them: plain additions. The memory belongs to `SharedCounts`.
@safe struct PacketCounts {
    static let length = PacketCounter.allCases.count + FrameDrop.allCases.count
    fileprivate let counts: UnsafeMutablePointer<UInt64>

    @inline(__always)
    func add(_ counter: PacketCounter, _ count: Int = 1) {
        unsafe counts[counter.rawValue] &+= UInt64(truncatingIfNeeded: count)
    }

    @inline(__always)
    func add(_ drop: FrameDrop) { unsafe counts[PacketCounter.allCases.count + drop.rawValue] &+= 1 }
}

/// The counts of one thread as others see them.
///
/// Unchecked: `counts` is used by the one thread that owns the object's work, the copy in `published` is reached only
/// through atomics, and both live as long as the object.
@safe final class SharedCounts: @unchecked Sendable {
    private let counts: UnsafeMutablePointer<UInt64>
    private let published: UnsafeMutablePointer<Atomic<UInt64>>

    init() {
        unsafe counts = .allocate(capacity: PacketCounts.length)
        unsafe counts.initialize(repeating: 0, count: PacketCounts.length)
        unsafe published = .allocate(capacity: PacketCounts.length)
        for index in 0..<PacketCounts.length { unsafe (published + index).initialize(to: Atomic(0)) }
    }

    deinit {
        unsafe counts.deallocate()
        unsafe published.deinitialize(count: PacketCounts.length)
        unsafe published.deallocate()
    }

    /// The counts for the one thread that changes them.
    var own: PacketCounts { unsafe PacketCounts(counts: counts) }

    /// Shows the counts to readers. Called by the thread that changes them.
    func publish() {
        for index in 0..<PacketCounts.length {
            unsafe published[index].store(counts[index], ordering: .relaxed)
        }
    }

    func load(_ index: Int) -> UInt64 { unsafe published[index].load(ordering: .relaxed) }
}
