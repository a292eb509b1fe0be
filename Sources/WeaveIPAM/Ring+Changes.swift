public import WeaveCore

/// The changes a peer makes to its own copy.
extension Ring {
    /// Divides an empty ring among `peers`, which are sorted and named once each: everybody who does it with the same
    /// names gets the same ring.
    ///
    /// - Throws: `IPAMError` of code `misuse` when the ring is divided already or there are no peers.
    public mutating func divide(among peers: [PeerName]) throws(IPAMError) {
        guard entries.isEmpty else { throw IPAMError(.misuse, "the ring has owners already") }
        guard !peers.isEmpty else { throw IPAMError(.misuse, "a ring needs a peer to own it") }
        divide(universe, peers[...])
        seeds = peers
    }

    private mutating func divide(_ range: AddressRange, _ peers: ArraySlice<PeerName>) {
        guard !range.isEmpty, let first = peers.first else { return }
        if range.count == 1 || peers.count == 1 {
            entries.append(RingEntry(token: range.first, peer: first, free: UInt32(clamping: range.count)))
            return
        }
        let middle = range.start + range.count / 2
        divide(AddressRange(range.start, middle), peers.prefix(peers.count / 2))
        divide(AddressRange(middle + range.count % 2, range.end), peers.dropFirst(peers.count / 2))
    }

    /// Gives `range`, which must be all ours, to another peer.
    ///
    /// - Throws: `IPAMError` of code `misuse`, with nothing changed.
    public mutating func grant(_ range: AddressRange, to newOwner: PeerName) throws(IPAMError) {
        guard !range.isEmpty, universe.contains(range) else {
            throw IPAMError(.misuse, "cannot grant \(range): not a range of the ring \(universe)")
        }
        guard let first = index(owning: range.start), isOurs(range, from: first) else {
            throw IPAMError(.misuse, "cannot grant \(range): not all of it is ours")
        }
        let free = min(distance(range.start, tokenAfter(first)), range.count)
        var next = first + 1
        if entries[first].position == range.start {
            entries[first].peer = newOwner
            entries[first].raise()
            entries[first].free = UInt32(clamping: free)
        } else {
            // What is left in front is put down as all free; the report of free space that follows corrects it.
            entries[first].raise()
            entries[first].free = UInt32(clamping: distance(entries[first].position, range.start))
            let entry = RingEntry(token: range.first, peer: newOwner, free: UInt32(clamping: free))
            next = insert(entry) + 1
        }
        while next < entries.count, entries[next].position < range.end {
            entries[next].peer = newOwner
            entries[next].raise()
            let room = distance(entries[next].position, range.end)
            entries[next].free = min(entries[next].free, UInt32(clamping: room))
            next += 1
        }
        let rest = range.end == universe.end ? universe.start : range.end
        if let owner = index(owning: rest), entries[owner].position != rest {
            let free = distance(rest, tokenAfter(owner))
            _ = insert(RingEntry(token: IPv4Address(rest), peer: peer, free: UInt32(clamping: free)))
        }
    }

    /// How many tokens granting `range` would add: the fewer, the less the ring crumbles.
    func tokensAdded(byGranting range: AddressRange) -> Int {
        let rest = range.end == universe.end ? universe.start : range.end
        return [range.start, rest].count { bound in
            index(owning: bound).map { entries[$0].position != bound } ?? false
        }
    }

    private func isOurs(_ range: AddressRange, from first: Int) -> Bool {
        guard entries[first].peer == peer else { return false }
        var index = first + 1
        // A span that begins behind the start wraps: its index is the last, and entries from the first on follow it.
        if entries[first].position > range.start { index = 0 }
        while index < entries.count, entries[index].position < range.end {
            guard entries[index].peer == peer else { return false }
            index += 1
        }
        return true
    }

    /// Puts an entry in its place, and gives that. There must be none with its token.
    @discardableResult
    mutating func insert(_ entry: RingEntry) -> Int {
        var place = entries.count
        while place > 0, entries[place - 1].token > entry.token { place -= 1 }
        entries.insert(entry, at: place)
        return place
    }

    /// Writes down how many addresses are free in each of our ranges; what differs gets a new version.
    ///
    /// - Parameter counts: the start of each owned range, as `ranges(of:)` gives it, and the number free in it.
    /// - Returns: whether anything changed.
    /// - Throws: `IPAMError` of code `misuse` for a start that is no token of ours, or a count above the span.
    @discardableResult
    public mutating func reportFree(_ counts: [(start: Int, count: Int)]) throws(IPAMError) -> Bool {
        guard !counts.isEmpty else { return false }
        var totals: [(index: Int, count: Int)] = []
        var wrapped = 0
        for (start, count) in counts {
            guard let index = index(owning: start) else {
                throw IPAMError(.misuse, "free space reported for an empty ring")
            }
            if start == universe.start, entries[index].position != start {
                wrapped += count
            } else {
                guard entries[index].position == start else {
                    throw IPAMError(.misuse, "free space reported for \(IPv4Address(start)), which is no token")
                }
                totals.append((index, count))
            }
        }
        if wrapped > 0 || totals.isEmpty {
            let last = entries.count - 1
            if let known = totals.firstIndex(where: { $0.index == last }) {
                totals[known].count += wrapped
            } else {
                totals.append((last, wrapped))
            }
        }
        for (index, count) in totals where entries[index].peer != peer || count > span(index) {
            throw IPAMError(
                .misuse, "\(count) free addresses reported for \(entries[index].token) of \(entries[index].peer)")
        }
        var isChanged = false
        for (index, count) in totals where Int(entries[index].free) != count {
            entries[index].free = UInt32(clamping: count)
            entries[index].raise()
            isChanged = true
        }
        return isChanged
    }

    /// Hands everything of one peer to another.
    ///
    /// - Returns: the ranges that moved.
    @discardableResult
    public mutating func transfer(from old: PeerName, to new: PeerName) -> [AddressRange] {
        let moved = ranges(of: old)
        for index in entries.indices where entries[index].peer == old {
            entries[index].peer = new
            entries[index].raise(by: RingLimits.transferStep)
        }
        return moved
    }

    /// The first owner, in order of tokens, that is not us and for whom `isValid` holds.
    public func heir(where isValid: (PeerName) -> Bool) -> PeerName? {
        entries.lazy.map(\.peer).first { $0 != peer && isValid($0) }
    }

    /// Whom to ask for addresses in `range`: the more a peer has free, the likelier it comes first.
    ///
    /// - Parameter weighing: `wholeSpans` counts all that is free in a span that touches the range, as 2.8.1 does;
    ///   `overlap` only what can lie inside it.
    public func donors(
        for range: AddressRange, weighing: DonorWeighing = .overlap, using generator: inout some RandomNumberGenerator
    ) -> [PeerName] {
        var sums: [PeerName: Int] = [:]
        var order: [PeerName] = []
        for index in entries.indices {
            let entry = entries[index]
            if index + 1 < entries.count, tokenAfter(index) - 1 < range.start { continue }
            if entry.position >= range.end { break }
            if entry.free == 0 || entry.peer == peer { continue }
            let weight = weighing.weight(of: entry, stretch(entry.position, tokenAfter(index)), in: range)
            guard weight > 0 else { continue }
            if sums[entry.peer] == nil { order.append(entry.peer) }
            sums[entry.peer, default: 0] += weight
        }
        let weighted = order.map { peer in
            (peer, Double(sums[peer] ?? 0) * Double.random(in: 0..<1, using: &generator))
        }
        return weighted.sorted { $0.1 > $1.1 }.map(\.0)
    }

    /// How donors are weighed.
    public enum DonorWeighing: Sendable {
        case wholeSpans
        case overlap

        fileprivate func weight(of entry: RingEntry, _ stretch: [AddressRange], in range: AddressRange) -> Int {
            switch self {
            case .wholeSpans: Int(entry.free)
            case .overlap: min(Int(entry.free), stretch.reduce(0) { $0 + $1.intersection(range).count })
            }
        }
    }
}
