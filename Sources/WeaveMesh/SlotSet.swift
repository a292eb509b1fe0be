/// A set of peers by their place in the peer table: a row of bits.
struct SlotSet: Sendable, Equatable {
    private(set) var words: [UInt64]

    init() { words = [] }

    init(words: [UInt64]) { self.words = words }

    var isEmpty: Bool { words.allSatisfy { $0 == 0 } }

    var count: Int { words.reduce(0) { $0 + $1.nonzeroBitCount } }

    func contains(_ slot: Int) -> Bool {
        let word = slot >> 6
        return word < words.count && words[word] >> UInt64(slot & 63) & 1 == 1
    }

    mutating func insert(_ slot: Int) {
        let word = slot >> 6
        while words.count <= word { words.append(0) }
        words[word] |= 1 << UInt64(slot & 63)
    }

    mutating func remove(_ slot: Int) {
        let word = slot >> 6
        guard word < words.count else { return }
        words[word] &= ~(1 << UInt64(slot & 63))
    }

    mutating func formUnion(_ other: SlotSet) {
        while words.count < other.words.count { words.append(0) }
        for word in other.words.indices { words[word] |= other.words[word] }
    }

    mutating func subtract(_ other: SlotSet) {
        for word in 0..<min(words.count, other.words.count) { words[word] &= ~other.words[word] }
    }

    func intersects(_ other: SlotSet) -> Bool {
        (0..<min(words.count, other.words.count)).contains { words[$0] & other.words[$0] != 0 }
    }

    mutating func removeAll() { words.removeAll(keepingCapacity: true) }

    /// The members in rising order.
    var members: [Int] {
        var members: [Int] = []
        for (index, word) in words.enumerated() where word != 0 {
            var rest = word
            while rest != 0 {
                members.append(index << 6 | rest.trailingZeroBitCount)
                rest &= rest &- 1
            }
        }
        return members
    }
}
