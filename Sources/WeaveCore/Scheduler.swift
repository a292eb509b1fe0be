/// The deadlines of one instance: a small map from timer to due time. Arming a timer again moves it.
///
/// The shell sleeps until `nextDeadline` and then takes what is due with `popDue`. Timers due at the same time come
/// out in the order in which they were armed, so a simulation replays exactly. Every call but `cancelAll` costs the
/// logarithm of the number of timers at most, spread over many calls.
public struct Scheduler<Timer: Hashable & Sendable>: Sendable {
    /// When a timer is due, and the number of the call that armed it.
    private struct Moment: Sendable, Comparable {
        var due: MonotonicTime
        var order: UInt64

        static func < (left: Moment, right: Moment) -> Bool {
            left.due != right.due ? left.due < right.due : left.order < right.order
        }
    }

    private struct Entry: Sendable {
        var moment: Moment
        var timer: Timer
    }

    /// The timers armed.
    private var moments: [Timer: Moment] = [:]
    /// A binary heap, earliest first. Timers that were moved or disarmed leave an entry behind, which is dropped when it
    /// comes to the top, or when such entries outnumber the others. The top is always armed.
    private var heap: [Entry] = []
    private var armed: UInt64 = 0

    /// A scheduler with no timer armed.
    public init() {}

    /// The number of timers armed.
    public var count: Int { moments.count }

    /// When the earliest timer is due; nil when none is armed.
    public var nextDeadline: MonotonicTime? { heap.first?.moment.due }

    /// Arms `timer` for `due`, moving it when it is armed already.
    public mutating func arm(_ timer: Timer, at due: MonotonicTime) {
        armed &+= 1
        let moment = Moment(due: due, order: armed)
        let wasArmed = moments.updateValue(moment, forKey: timer) != nil
        heap.append(Entry(moment: moment, timer: timer))
        rise(heap.count - 1)
        if wasArmed { tidy() }
    }

    /// Arms `timer` for `due` unless it is armed already: the way to coalesce a burst into its first event's deadline.
    public mutating func armIfIdle(_ timer: Timer, at due: MonotonicTime) {
        if moments[timer] == nil { arm(timer, at: due) }
    }

    /// Disarms `timer`; nothing happens when it is not armed.
    public mutating func cancel(_ timer: Timer) {
        if moments.removeValue(forKey: timer) != nil { tidy() }
    }

    /// Disarms every timer for which `predicate` holds.
    public mutating func cancelAll(where predicate: (Timer) -> Bool) {
        moments = moments.filter { !predicate($0.key) }
        rebuild()
    }

    /// Whether `timer` is armed.
    public func isArmed(_ timer: Timer) -> Bool { moments[timer] != nil }

    /// When `timer` is due; nil when it is not armed.
    public func deadline(of timer: Timer) -> MonotonicTime? { moments[timer]?.due }

    /// Removes and returns the timer that was due first, when one is due by `now`.
    public mutating func popDue(_ now: MonotonicTime) -> Timer? {
        guard let first = heap.first, first.moment.due <= now else { return nil }
        moments[first.timer] = nil
        tidy()
        return first.timer
    }

    /// Entries left behind that are put up with before the heap is made anew.
    private static var slack: Int { 32 }

    private mutating func tidy() {
        if heap.count > 2 * moments.count + Self.slack { return rebuild() }
        while let top = heap.first, moments[top.timer] != top.moment {
            let last = heap.removeLast()
            guard !heap.isEmpty else { return }
            heap[0] = last
            sink(0)
        }
    }

    private mutating func rebuild() {
        heap.removeAll { moments[$0.timer] != $0.moment }
        for index in stride(from: heap.count / 2 - 1, through: 0, by: -1) { sink(index) }
    }

    private mutating func rise(_ start: Int) {
        var index = start
        let entry = heap[index]
        while index > 0, entry.moment < heap[(index - 1) / 2].moment {
            heap[index] = heap[(index - 1) / 2]
            index = (index - 1) / 2
        }
        heap[index] = entry
    }

    private mutating func sink(_ start: Int) {
        var index = start
        let entry = heap[index]
        while 2 * index + 1 < heap.count {
            var child = 2 * index + 1
            if child + 1 < heap.count, heap[child + 1].moment < heap[child].moment { child += 1 }
            guard heap[child].moment < entry.moment else { break }
            heap[index] = heap[child]
            index = child
        }
        heap[index] = entry
    }
}
