/// Who lists whom, as a matrix of bits: a row for each slot of the peer table. Rows change one at a time, when a
/// record does, so that a search never looks at records.
struct TopologyGraph: Sendable {
    /// Which links count.
    enum Kind: Sendable {
        /// All that the near end lists: gossip takes them.
        case all
        /// Those both ends list as established: frames take them.
        case established
    }

    private(set) var wordsPerRow = 0
    private(set) var present = SlotSet()
    private(set) var count = 0
    /// Grows with each change of links that are established at one end at least, and of the peers.
    private(set) var establishedChanges: UInt64 = 0
    /// Row a: the peers that a lists.
    private var listed: [UInt64] = []
    /// Row a: the peers that a lists as established.
    private var established: [UInt64] = []
    /// Row a: the peers that list a as established.
    private var establishedBy: [UInt64] = []

    /// Adds a peer without links.
    mutating func insert(_ slot: Int) {
        grow(toHold: slot)
        present.insert(slot)
        count += 1
        establishedChanges += 1
    }

    /// Removes a peer and the links from and to it.
    mutating func remove(_ slot: Int) {
        setRow(slot, listed: SlotSet(), established: SlotSet())
        let word = slot >> 6
        let keep: UInt64 = ~(1 << UInt64(slot & 63))
        for row in present.members {
            listed[row * wordsPerRow + word] &= keep
            established[row * wordsPerRow + word] &= keep
        }
        for index in slot * wordsPerRow..<(slot + 1) * wordsPerRow { establishedBy[index] = 0 }
        present.remove(slot)
        count -= 1
        establishedChanges += 1
    }

    /// Replaces the links from one peer. All members of the sets must be present.
    mutating func setRow(_ slot: Int, listed new: SlotSet, established newEstablished: SlotSet) {
        let base = slot * wordsPerRow
        let own: UInt64 = 1 << UInt64(slot & 63)
        for word in 0..<wordsPerRow {
            listed[base + word] = word < new.words.count ? new.words[word] : 0
            let after = word < newEstablished.words.count ? newEstablished.words[word] : 0
            var changed = established[base + word] ^ after
            if changed != 0 { establishedChanges += 1 }
            established[base + word] = after
            while changed != 0 {
                let other = word << 6 | changed.trailingZeroBitCount
                establishedBy[other * wordsPerRow + slot >> 6] ^= own
                changed &= changed &- 1
            }
        }
    }

    /// Whether `slot` lists `other`.
    func lists(_ slot: Int, _ other: Int) -> Bool {
        listed[slot * wordsPerRow + other >> 6] >> UInt64(other & 63) & 1 == 1
    }

    /// The peers that `slot` lists.
    func row(_ slot: Int) -> SlotSet { SlotSet(words: Array(listed[slot * wordsPerRow..<(slot + 1) * wordsPerRow])) }

    /// How many peers `slot` lists.
    func rowCount(_ slot: Int) -> Int {
        (slot * wordsPerRow..<(slot + 1) * wordsPerRow).reduce(0) { $0 + listed[$1].nonzeroBitCount }
    }

    func establishedRow(_ slot: Int) -> SlotSet {
        SlotSet(words: Array(established[slot * wordsPerRow..<(slot + 1) * wordsPerRow]))
    }

    /// One word of the row of links from `slot` that count.
    @inline(__always)
    func usable(_ slot: Int, _ word: Int, _ kind: Kind) -> UInt64 {
        let index = slot * wordsPerRow + word
        return kind == .all ? listed[index] : established[index] & establishedBy[index]
    }

    private mutating func grow(toHold slot: Int) {
        guard slot >= wordsPerRow << 6 else { return }
        var words = max(1, wordsPerRow)
        while slot >= words << 6 { words *= 2 }
        func widen(_ rows: [UInt64]) -> [UInt64] {
            var wide = [UInt64](repeating: 0, count: words * words << 6)
            for row in 0..<wordsPerRow << 6 {
                for word in 0..<wordsPerRow { wide[row * words + word] = rows[row * wordsPerRow + word] }
            }
            return wide
        }
        listed = widen(listed)
        established = widen(established)
        establishedBy = widen(establishedBy)
        wordsPerRow = words
    }
}

/// The searches that every peer makes in the same way: breadth first, each level in the order of names. `ranks` gives the
/// place of each slot in that order.
extension TopologyGraph {
    /// The next hop towards each slot; -1 where there is none, and for the origin itself.
    func nextHops(from origin: Int, _ kind: Kind, ranks: [Int32]) -> [Int32] {
        var hops = [Int32](repeating: -1, count: wordsPerRow << 6)
        var visited = [UInt64](repeating: 0, count: wordsPerRow)
        visited[origin >> 6] |= 1 << UInt64(origin & 63)
        var unvisited = count - 1
        var level = [origin]
        var next: [Int] = []
        while !level.isEmpty, unvisited > 0 {
            sort(&level, ranks)
            next.removeAll(keepingCapacity: true)
            for current in level {
                for word in 0..<wordsPerRow {
                    var new = usable(current, word, kind) & ~visited[word]
                    guard new != 0 else { continue }
                    visited[word] |= new
                    unvisited -= new.nonzeroBitCount
                    while new != 0 {
                        let found = word << 6 | new.trailingZeroBitCount
                        hops[found] = current == origin ? Int32(found) : hops[current]
                        next.append(found)
                        new &= new &- 1
                    }
                }
            }
            swap(&level, &next)
        }
        return hops
    }

    /// The peers to which `here` passes on what began at `origin`: those it would be the first to reach.
    func broadcastHops(at here: Int, from origin: Int, _ kind: Kind, ranks: [Int32]) -> [Int] {
        var visited = [UInt64](repeating: 0, count: wordsPerRow)
        visited[origin >> 6] |= 1 << UInt64(origin & 63)
        var unvisited = count - 1
        var level = [origin]
        var next: [Int] = []
        // Once all are found, nobody has anybody left to pass it on to.
        while !level.isEmpty, unvisited > 0 {
            sort(&level, ranks)
            next.removeAll(keepingCapacity: true)
            for current in level {
                if current == here {
                    return SlotSet(words: (0..<wordsPerRow).map { usable(here, $0, kind) & ~visited[$0] }).members
                }
                for word in 0..<wordsPerRow {
                    let new = usable(current, word, kind) & ~visited[word]
                    guard new != 0 else { continue }
                    visited[word] |= new
                    unvisited -= new.nonzeroBitCount
                    next += SlotSet(words: [new]).members.map { word << 6 | $0 }
                }
            }
            swap(&level, &next)
        }
        return []
    }

    /// The slots within reach of `origin`, itself included.
    func reachable(from origin: Int) -> SlotSet {
        var reached = SlotSet()
        reached.insert(origin)
        let hops = nextHops(from: origin, .all, ranks: [])
        for (slot, hop) in hops.enumerated() where hop >= 0 { reached.insert(slot) }
        return reached
    }

    private func sort(_ level: inout [Int], _ ranks: [Int32]) {
        guard level.count > 1, !ranks.isEmpty else { return }
        level.sort { ranks[$0] < ranks[$1] }
    }
}
