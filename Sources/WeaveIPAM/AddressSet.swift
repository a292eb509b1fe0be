/// A set of addresses, kept as the sorted bounds of its ranges: even places begin one, odd places end one. Ranges that
/// touch are one range. Looking up costs the logarithm of the number of ranges.
struct AddressSet: Hashable, Sendable {
    private(set) var bounds: [Int] = []
    /// The number of addresses in the set.
    private(set) var count = 0

    init() {}

    init(_ ranges: some Sequence<AddressRange>) {
        for range in ranges { insert(range) }
    }

    var isEmpty: Bool { bounds.isEmpty }

    var ranges: [AddressRange] {
        stride(from: 0, to: bounds.count, by: 2).map { AddressRange(bounds[$0], bounds[$0 + 1]) }
    }

    func contains(_ value: Int) -> Bool { firstBound(above: value) % 2 == 1 }

    /// Whether all of `range` is in the set.
    func contains(_ range: AddressRange) -> Bool {
        guard !range.isEmpty else { return true }
        let index = firstBound(above: range.start)
        return index % 2 == 1 && bounds[index] >= range.end
    }

    mutating func insert(_ range: AddressRange) {
        guard !range.isEmpty else { return }
        count += range.count - count(in: range)
        let low = firstBound(above: range.start - 1)
        let high = firstBound(above: range.end)
        replace(low, high, low % 2 == 0 ? range.start : nil, high % 2 == 0 ? range.end : nil)
    }

    mutating func remove(_ range: AddressRange) {
        guard !range.isEmpty else { return }
        count -= count(in: range)
        let low = firstBound(above: range.start - 1)
        let high = firstBound(above: range.end)
        replace(low, high, low % 2 == 1 ? range.start : nil, high % 2 == 1 ? range.end : nil)
    }

    mutating func removeAll() {
        bounds.removeAll()
        count = 0
    }

    /// The lowest address of the set in `range`.
    func first(in range: AddressRange) -> Int? {
        guard !range.isEmpty else { return nil }
        let index = firstBound(above: range.start)
        if index % 2 == 1 { return range.start }
        return index < bounds.count && bounds[index] < range.end ? bounds[index] : nil
    }

    /// The end of the range of the set around `value`; nil when it is not in the set.
    func end(around value: Int) -> Int? {
        let index = firstBound(above: value)
        return index % 2 == 1 ? bounds[index] : nil
    }

    /// The number of addresses of the set in `range`.
    func count(in range: AddressRange) -> Int {
        guard !range.isEmpty else { return 0 }
        var index = firstBound(above: range.start)
        var total = 0
        if index % 2 == 1 {
            total = min(bounds[index], range.end) - range.start
            index += 1
        }
        while index < bounds.count, bounds[index] < range.end {
            total += min(bounds[index + 1], range.end) - bounds[index]
            index += 2
        }
        return total
    }

    /// The ranges of the set, cut to `range`.
    func ranges(in range: AddressRange) -> [AddressRange] {
        var found: [AddressRange] = []
        var index = firstBound(above: range.start)
        if index % 2 == 1 { index -= 1 }
        while index < bounds.count, bounds[index] < range.end {
            let part = AddressRange(bounds[index], bounds[index + 1]).intersection(range)
            if !part.isEmpty { found.append(part) }
            index += 2
        }
        return found
    }

    mutating func formUnion(_ other: AddressSet) {
        guard !isEmpty else { return self = other }
        for range in other.ranges { insert(range) }
    }

    /// The place of the first bound greater than `value`; odd exactly when `value` is in the set.
    private func firstBound(above value: Int) -> Int {
        var low = 0
        var high = bounds.count
        while low < high {
            let middle = (low + high) / 2
            if bounds[middle] > value { high = middle } else { low = middle + 1 }
        }
        return low
    }

    private mutating func replace(_ low: Int, _ high: Int, _ first: Int?, _ second: Int?) {
        switch (first, second) {
        case (let first?, let second?):
            if high - low == 2 {
                bounds[low] = first
                bounds[low + 1] = second
            } else {
                bounds.replaceSubrange(low..<high, with: CollectionOfTwo(first, second))
            }
        case (let only?, nil), (nil, let only?):
            if high - low == 1 {
                bounds[low] = only
            } else {
                bounds.replaceSubrange(low..<high, with: CollectionOfOne(only))
            }
        case (nil, nil): bounds.removeSubrange(low..<high)
        }
    }
}

/// Two values as a collection, without an array around them.
private struct CollectionOfTwo: RandomAccessCollection {
    let first: Int
    let second: Int

    init(_ first: Int, _ second: Int) {
        self.first = first
        self.second = second
    }

    var startIndex: Int { 0 }
    var endIndex: Int { 2 }
    subscript(position: Int) -> Int { position == 0 ? first : second }
}
