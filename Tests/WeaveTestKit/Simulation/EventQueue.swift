import WeaveCore

/// Events in the order of their time; those of one time in the order in which they were added, so that a run replays.
struct EventQueue<Event> {
    private struct Entry {
        var time: MonotonicTime
        var order: UInt64
        var event: Event

        func precedes(_ other: Entry) -> Bool { (time, order) < (other.time, other.order) }
    }

    private var heap: [Entry] = []
    private var added: UInt64 = 0

    var count: Int { heap.count }
    var nextTime: MonotonicTime? { heap.first?.time }

    mutating func add(_ event: Event, at time: MonotonicTime) {
        added += 1
        heap.append(Entry(time: time, order: added, event: event))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].precedes(heap[parent]) else { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    mutating func next() -> (time: MonotonicTime, event: Event)? {
        guard let first = heap.first, let last = heap.popLast() else { return nil }
        if !heap.isEmpty {
            heap[0] = last
            siftDown()
        }
        return (first.time, first.event)
    }

    private mutating func siftDown() {
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < heap.count else { return }
            if child + 1 < heap.count, heap[child + 1].precedes(heap[child]) { child += 1 }
            guard heap[child].precedes(heap[parent]) else { return }
            heap.swapAt(child, parent)
            parent = child
        }
    }
}
