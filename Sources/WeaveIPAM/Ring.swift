public import WeaveCore

/// The division of a range of addresses among peers: a replicated value that peers change in their own spans only, and
/// merge when they meet.
///
/// Each entry owns the span from its token to the next; the last span goes on from the end to the first token. Tokens are
/// never taken away.
public struct Ring: Hashable, Sendable, CustomStringConvertible {
    /// The whole range.
    public let universe: AddressRange
    /// The peer this copy belongs to.
    public internal(set) var peer: PeerName
    /// Sorted by token.
    public internal(set) var entries: [RingEntry]
    /// The peers the ring was first divided among, sorted; empty when not known.
    public internal(set) var seeds: [PeerName]

    /// A ring with no owners.
    ///
    /// - Throws: `IPAMError` of code `invalidUniverse` for an empty range, or one that reaches the top of the address space:
    ///   the wire cannot say where that ends.
    public init(universe: AddressRange, peer: PeerName) throws(IPAMError) {
        guard !universe.isEmpty, universe.end < AddressRange.top else {
            throw IPAMError(
                .invalidUniverse, "\(universe) cannot be divided: choose a range that ends below 255.255.255.255")
        }
        self.init(universe: universe, peer: peer, entries: [], seeds: [])
    }

    /// A ring as it came from elsewhere; nothing about it is checked.
    public init(universe: AddressRange, peer: PeerName, entries: [RingEntry], seeds: [PeerName]) {
        self.universe = universe
        self.peer = peer
        self.entries = entries
        self.seeds = seeds
    }

    /// Whether nobody owns anything yet.
    public var isEmpty: Bool { entries.isEmpty }

    /// The peers that own something.
    public var owners: Set<PeerName> { Set(entries.lazy.map(\.peer)) }

    public var description: String {
        var text = "Ring [\(IPv4Address(universe.start)), \(IPv4Address(universe.end)))"
        for entry in entries { text += "\n  \(entry.token) -> \(entry.peer) (v\(entry.version))" }
        return text
    }

    // MARK: Geometry

    /// How many addresses from one token to the next, going round; the whole ring from a token to itself.
    func distance(_ from: Int, _ to: Int) -> Int {
        to > from ? to - from : universe.end - from + to - universe.start
    }

    /// The token after the entry at `index`, going round.
    func tokenAfter(_ index: Int) -> Int { entries[index + 1 < entries.count ? index + 1 : 0].position }

    /// The length of the span of the entry at `index`.
    func span(_ index: Int) -> Int { distance(entries[index].position, tokenAfter(index)) }

    /// The addresses from `token` to `next`, going round: one range, or two when that leads over the end.
    func stretch(_ token: Int, _ next: Int) -> [AddressRange] {
        if next == universe.start { return [AddressRange(token, universe.end)] }
        if next > token { return [AddressRange(token, next)] }
        return [AddressRange(universe.start, next), AddressRange(token, universe.end)]
    }

    /// The place of the last entry with a token not above `value`; the last entry of all when there is none. Nil in an
    /// empty ring.
    func index(owning value: Int) -> Int? {
        guard !entries.isEmpty else { return nil }
        let next = firstIndex(above: value)
        return next == 0 ? entries.count - 1 : next - 1
    }

    private func firstIndex(above value: Int) -> Int {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].position > value { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// Whether the universe contains `address`.
    public func contains(_ address: IPv4Address) -> Bool { universe.contains(address) }

    /// Who owns `address`; `PeerName.unknown` while nobody owns anything.
    ///
    /// - Throws: `IPAMError` of code `misuse` for an address outside the universe.
    public func owner(of address: IPv4Address) throws(IPAMError) -> PeerName {
        guard contains(address) else { throw IPAMError(.misuse, "\(address) is not in the ring \(universe)") }
        guard let index = index(owning: Int(address.rawValue)) else { return .unknown }
        return entries[index].peer
    }

    /// The ranges of one peer, span by span in order.
    public func ranges(of peer: PeerName) -> [AddressRange] {
        var found: [AddressRange] = []
        for index in entries.indices where entries[index].peer == peer {
            append(stretch(entries[index].position, tokenAfter(index)), to: &found)
        }
        return found
    }

    /// A span over the end comes last; its beginning belongs in front.
    private func append(_ stretch: [AddressRange], to found: inout [AddressRange]) {
        if stretch.count == 2 { found.insert(stretch[0], at: 0) }
        if let last = stretch.last { found.append(last) }
    }

    /// A range of the ring and whose it is.
    public struct OwnedRange: Hashable, Sendable {
        public var range: AddressRange
        public var peer: PeerName
        public var version: UInt32
    }

    /// All ranges in order, each with its owner.
    public var allRanges: [OwnedRange] {
        var found: [OwnedRange] = []
        for index in entries.indices {
            let entry = entries[index]
            let stretch = stretch(entry.position, tokenAfter(index))
            let owned = stretch.map { OwnedRange(range: $0, peer: entry.peer, version: entry.version) }
            if owned.count == 2 { found.insert(owned[0], at: 0) }
            if let last = owned.last { found.append(last) }
        }
        return found
    }

    // MARK: Rules

    /// What every ring keeps: tokens sorted, each once, inside the universe; no more free than there is.
    ///
    /// - Throws: `IPAMError` of code `invariant`, in the words of 2.8.1.
    public func checkInvariants() throws(IPAMError) {
        guard let first = entries.first, let last = entries.last else { return }
        var isRepeated = false
        for index in entries.indices.dropFirst() {
            let (left, right) = (entries[index - 1].token, entries[index].token)
            if left > right { throw IPAMError(.invariant, "Ring not sorted") }
            if left == right { isRepeated = true }
        }
        if isRepeated { throw IPAMError(.invariant, "Token appears twice in ring") }
        guard universe.contains(first.token), universe.contains(last.token) else {
            throw IPAMError(.invariant, "Token is out of range")
        }
        for index in entries.indices where Int(entries[index].free) > span(index) {
            let next = IPv4Address(tokenAfter(index))
            throw IPAMError(
                .invariant,
                "Entry \(entries[index].token)-\(next) reporting too much free space: "
                    + "\(entries[index].free) > \(span(index))")
        }
    }
}
