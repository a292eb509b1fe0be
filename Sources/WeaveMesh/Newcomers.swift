import WeaveCore

/// Which new neighbours are told at once what there is, and which are compared with later.
///
/// A peer that joins wants to know everybody, and whoever takes it in tells it. But when a peer makes many connections
/// together, as when all of a mesh start, everything that could be told on each of them is old a moment later, and each
/// hears it from all others. So only the first few are told; of the rest, some are asked to compare when the storm is
/// over. That finds whatever has not come round by itself.
struct Newcomers: Sendable {
    /// So many of a storm are told at once. It is over when nobody comes for `pause`, and counts anew after `longest`.
    static let atOnce = 4
    static let pause = Duration.seconds(1)
    static let longest = Duration.seconds(5)
    /// Long enough for records to have gone round.
    static let patience = Duration.seconds(3)

    private var began = MonotonicTime(nanoseconds: .min / 2)
    private var last = MonotonicTime(nanoseconds: .min / 2)
    private var told = 0
    private var waiting: [ConnectionID] = []

    /// A neighbour came that may know what is not known here; whether to tell it now. If not, call `choose` after
    /// `patience`.
    mutating func mayTell(_ id: ConnectionID, now: MonotonicTime) -> Bool {
        if now >= last + Self.pause || now >= began + Self.longest { (began, told) = (now, 0) }
        last = now
        guard told >= Self.atOnce else {
            told += 1
            return true
        }
        waiting.append(id)
        return false
    }

    /// Takes up to `count` by chance of those that wait, and lets the rest go.
    mutating func choose(_ count: Int, using generator: inout SeededGenerator) -> [ConnectionID] {
        var chosen: [ConnectionID] = []
        while chosen.count < count, !waiting.isEmpty {
            chosen.append(waiting.swapRemove(Int.random(in: waiting.indices, using: &generator)))
        }
        waiting = []
        return chosen
    }

    var count: Int { waiting.count }

    mutating func forget(_ id: ConnectionID) { waiting.removeAll { $0 == id } }
}

extension Array {
    /// Removes an element by putting the last one in its place.
    fileprivate mutating func swapRemove(_ index: Int) -> Element {
        swapAt(index, count - 1)
        return removeLast()
    }
}
