public import WeaveCore

/// Which of the addresses that the ring gives to this peer are taken, and which are free.
public struct Space: Hashable, Sendable, CustomStringConvertible {
    private(set) var taken = AddressSet()
    private(set) var free = AddressSet()

    /// An empty space.
    public init() {}

    /// The addresses given to somebody, as ranges in order.
    public var takenRanges: [AddressRange] { taken.ranges }
    /// The free addresses, as ranges in order.
    public var freeRanges: [AddressRange] { free.ranges }
    /// The number of addresses given to somebody.
    public var takenCount: Int { taken.count }
    /// The number of free addresses.
    public var freeCount: Int { free.count }

    /// All addresses, taken or free, as ranges in order that do not touch.
    public var ownedRanges: [AddressRange] {
        var all = free
        all.formUnion(taken)
        return all.ranges
    }

    public var description: String {
        if taken.isEmpty && free.isEmpty { return "No address ranges owned" }
        return "taken: \(taken.ranges), free: \(free.ranges)"
    }

    /// The number of free addresses in `range`.
    public func freeCount(in range: AddressRange) -> Int { free.count(in: range) }

    /// Whether an address of `range` is taken, or not of this space at all.
    public func isInUse(_ range: AddressRange) -> Bool { !free.contains(range) }

    /// Whether a taken address lies in `range`.
    public func hasTaken(in range: AddressRange) -> Bool { taken.first(in: range) != nil }

    /// Adds free addresses.
    public mutating func add(_ range: AddressRange) { free.insert(range) }

    /// Forgets everything.
    public mutating func removeAll() {
        taken.removeAll()
        free.removeAll()
    }

    /// Takes the lowest free address of `range`; nil when there is none.
    public mutating func allocate(in range: AddressRange) -> IPv4Address? {
        guard let value = free.first(in: range) else { return nil }
        return take(value)
    }

    /// Takes the lowest free address of `range` that is not resting, or failing that the lowest that is.
    mutating func allocate(in range: AddressRange, resting: AddressSet) -> IPv4Address? {
        var cursor = range.start
        while let value = free.first(in: AddressRange(cursor, range.end)) {
            guard let end = resting.end(around: value) else { return take(value) }
            cursor = end
        }
        return allocate(in: range)
    }

    private mutating func take(_ value: Int) -> IPv4Address {
        free.remove(AddressRange(value, value + 1))
        taken.insert(AddressRange(value, value + 1))
        return IPv4Address(value)
    }

    /// Takes a certain address.
    ///
    /// - Throws: `IPAMError` of code `inUse` when it is not free here.
    public mutating func claim(_ address: IPv4Address) throws(IPAMError) {
        guard free.contains(Int(address.rawValue)) else {
            throw IPAMError(.inUse, "Address \(address) is not free to claim")
        }
        _ = take(Int(address.rawValue))
    }

    /// Gives an address back.
    ///
    /// - Throws: `IPAMError` of code `notFound` when it was not taken.
    public mutating func release(_ address: IPv4Address) throws(IPAMError) {
        guard taken.contains(Int(address.rawValue)) else {
            throw IPAMError(.notFound, "Address \(address) is not ours")
        }
        taken.remove(AddressRange(address))
        free.insert(AddressRange(address))
    }

    /// Adds whatever of `ranges` is not here yet. Takes nothing away.
    public mutating func update(_ ranges: [AddressRange]) {
        for range in ranges {
            var missing = AddressSet([range])
            for part in taken.ranges(in: range) { missing.remove(part) }
            for part in missing.ranges { free.insert(part) }
        }
    }

    /// Takes away whatever is not in `ranges`.
    ///
    /// - Returns: the taken addresses that went, as ranges; the ring never takes those without an error first.
    @discardableResult
    public mutating func shrink(to ranges: [AddressRange]) -> [AddressRange] {
        var lost = AddressSet([AddressRange(0, AddressRange.top)])
        for range in ranges { lost.remove(range) }
        var gone: [AddressRange] = []
        for range in lost.ranges {
            gone += taken.ranges(in: range)
            free.remove(range)
            taken.remove(range)
        }
        return gone
    }

    /// Gives away a part of the free addresses in `range`, as 2.8.1 does: the biggest free CIDR, or its upper half when
    /// it is more than half of what is free. Of blocks of one size the last is taken.
    public mutating func donate(in range: AddressRange) -> AddressRange? {
        donate(in: range, resting: AddressSet()) { _, _ in (0, 0) }
    }

    /// The same, with a say in which of several blocks: `rank` looks at a block as it would be given and the whole of
    /// which it is the end; the higher first number wins, then size, then the higher second. Addresses that rest go only when all do.
    mutating func donate(
        in range: AddressRange, resting: AddressSet, rank: (AddressRange, AddressRange) -> (Int, Int)
    ) -> AddressRange? {
        var offered = free.ranges(in: range)
        if !resting.isEmpty {
            var awake = AddressSet(offered)
            for part in resting.ranges(in: range) { awake.remove(part) }
            if !awake.isEmpty { offered = awake.ranges }
        }
        let most = offered.reduce(0) { $0 + $1.count } / 2
        var best: (block: AddressRange, whole: Int, rank: (Int, Int))?
        for chunk in offered {
            let whole = chunk.biggestCIDR
            let block = whole.count > most ? AddressRange(whole.start + whole.count / 2, whole.end) : whole
            let rank = rank(block, whole)
            if let best, (rank.0, whole.count, rank.1) < (best.rank.0, best.whole, best.rank.1) { continue }
            best = (block, whole.count, rank)
        }
        guard let block = best?.block else { return nil }
        free.remove(block)
        return block
    }
}
