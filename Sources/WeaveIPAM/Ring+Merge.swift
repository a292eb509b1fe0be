import WeaveCore

/// How rings are merged, where 2.8.1 leaves room.
public struct MergePolicy: Sendable {
    /// Between two owners at one version with equally much free, the lower name wins; in 2.8.1 each side keeps its own for ever.
    var breaksTies: Bool
    /// Whether a foreign token behind all of ours is refused only when addresses are in use there; 2.8.1 always refuses.
    var looksAtUseBehindLastToken: Bool
    /// Whether versions no honest peer reaches are refused.
    var boundsVersions: Bool
    /// Only ever false in tests that show that the checkers notice.
    var checksVersions = true

    /// What this library does.
    public static let standard = MergePolicy(
        breaksTies: true, looksAtUseBehindLastToken: true, boundsVersions: true)
    /// What 2.8.1 does, to the letter.
    public static let weave281 = MergePolicy(
        breaksTies: false, looksAtUseBehindLastToken: false, boundsVersions: false)
}

extension Ring {
    /// What a merge did.
    public struct MergeResult: Hashable, Sendable {
        /// Whether anything of the received ring was taken over.
        public var isUpdated = false
        /// Spans of ours that went to others because nothing was in use there.
        public var repairs: [RingConflict] = []
        /// Contradictions among others that had to be decided.
        public var ties: [RingConflict] = []
    }

    /// Merges a ring of another peer into this one.
    ///
    /// - Parameter isInUse: whether an address of the ranges is taken here, or is not ours at all.
    /// - Throws: `IPAMError` when the received ring breaks a rule, is of another universe or other seeds, or contradicts us
    ///   about addresses in use; the owners are as before then.
    @discardableResult
    public mutating func merge(
        _ received: Ring, policy: MergePolicy = .standard, isInUse: ([AddressRange]) -> Bool
    ) throws(IPAMError) -> MergeResult {
        guard received.entries.count <= RingLimits.entries, received.seeds.count <= RingLimits.seeds else {
            throw IPAMError(.limit, "Received ring has more than \(RingLimits.entries) entries")
        }
        try received.checkInvariants()
        if !seeds.isEmpty, !received.seeds.isEmpty, seeds != received.seeds { throw Self.otherSeeds }
        guard universe == received.universe else { throw Self.otherRange }
        if policy.boundsVersions {
            for entry in received.entries where entry.version > RingLimits.version {
                throw IPAMError(
                    .invariant, "Entry \(entry.token) of \(entry.peer) has the impossible version \(entry.version)")
            }
        }
        if entries == received.entries {
            if seeds.isEmpty { seeds = received.seeds }
            return MergeResult()
        }
        var merger = RingMerger(ring: self, policy: policy)
        let outcome = Result { () throws(IPAMError) in try merger.merge(received.entries, isInUse: isInUse) }
        // What was learned about our own versions stays, whatever else went wrong.
        for (index, version) in merger.raised { entries[index].version = version }
        try outcome.get()
        var merged = self
        merged.entries = merger.merged
        merged.clipOwnFreeSpace()
        do throws(IPAMError) {
            try merged.checkInvariants()
        } catch {
            throw IPAMError(.invariant, "Merge of incoming data causes: \(error.message)")
        }
        if seeds.isEmpty { seeds = received.seeds }
        entries = merged.entries
        return merger.result
    }

    static let otherSeeds = IPAMError(.incompatible, "Received ring was seeded differently from ours")
    static let otherRange = IPAMError(.incompatible, "Received range differs from ours")

    /// A token of somebody else may have come to lie in a span of ours.
    private mutating func clipOwnFreeSpace() {
        for index in entries.indices where entries[index].peer == peer {
            entries[index].free = min(entries[index].free, UInt32(clamping: span(index)))
        }
    }
}

/// One merge under way: two cursors over two sorted lists of entries.
private struct RingMerger {
    let ring: Ring
    let policy: MergePolicy
    private(set) var merged: [RingEntry] = []
    private(set) var result = Ring.MergeResult()
    /// Versions of our own entries that turned out to be behind.
    private(set) var raised: [(index: Int, version: UInt32)] = []
    /// The owner of the entry kept last, when nothing foreign came after it.
    private var previous: PeerName?

    init(ring: Ring, policy: MergePolicy) {
        self.ring = ring
        self.policy = policy
    }

    mutating func merge(_ theirs: [RingEntry], isInUse: ([AddressRange]) -> Bool) throws(IPAMError) {
        let ours = ring.entries
        merged.reserveCapacity(max(ours.count, theirs.count) + 8)
        var (left, right) = (0, 0)
        while left < ours.count, right < theirs.count {
            let (mine, other) = (ours[left], theirs[right])
            if mine.token < other.token {
                keep(mine)
                left += 1
            } else if mine.token > other.token {
                try takeNew(other, upTo: mine.position, beforeIndex: left) { isInUse($0) }
                right += 1
            } else {
                try decide(left, mine, other, isInUse)
                left += 1
                right += 1
            }
        }
        merged += ours[left...]
        let looksAtUse = policy.looksAtUseBehindLastToken
        for other in theirs[right...] {
            try takeNew(other, upTo: ours.first?.position ?? other.position, beforeIndex: ours.count) {
                !looksAtUse || isInUse($0)
            }
        }
    }

    private mutating func keep(_ entry: RingEntry) {
        merged.append(entry)
        previous = entry.peer
    }

    private mutating func take(_ entry: RingEntry) {
        merged.append(entry)
        result.isUpdated = true
        previous = nil
    }

    /// A token that we do not have, in front of `next`. If it lies in a span of ours, nothing may be in use from there on.
    private mutating func takeNew(
        _ other: RingEntry, upTo next: Int, beforeIndex index: Int, isInUse: ([AddressRange]) -> Bool
    ) throws(IPAMError) {
        if previous == ring.peer, other.peer != ring.peer, index > 0 {
            let stretch = ring.stretch(other.position, next)
            let conflict = conflict(stretch, other, ours: ring.entries[index - 1].version)
            guard !isInUse(stretch) else {
                throw IPAMError(
                    .conflict,
                    "Peer \(other.peer) says it owns the IP range from \(other.token), which I think I own",
                    conflict: conflict)
            }
            result.repairs.append(conflict)
        }
        take(other)
    }

    /// Two entries with one token.
    private mutating func decide(
        _ index: Int, _ mine: RingEntry, _ other: RingEntry, _ isInUse: ([AddressRange]) -> Bool
    ) throws(IPAMError) {
        if !policy.checksVersions { return mine.peer == other.peer ? keep(mine) : take(other) }
        if mine.version == other.version {
            if mine.peer == other.peer { keep(mine) } else { try decideTie(index, mine, other, isInUse) }
        } else if mine.version > other.version {
            keep(mine)
        } else if mine.peer != ring.peer {
            take(other)
        } else if other.peer == ring.peer {
            // Our own older word, come back from others after we had forgotten it.
            var newer = mine
            newer.version = other.version
            newer.raise()
            raised.append((index, newer.version))
            merged.append(newer)
        } else {
            let stretch = ring.stretch(mine.position, ring.tokenAfter(index))
            let conflict = conflict(stretch, other, ours: mine.version)
            guard !isInUse(stretch) else {
                throw IPAMError(
                    .conflict,
                    "Received update for IP range I own at \(mine.token) v\(mine.version): "
                        + "incoming message says owner \(other.peer) v\(other.version)", conflict: conflict)
            }
            result.repairs.append(conflict)
            take(other)
        }
    }

    private mutating func decideTie(
        _ index: Int, _ mine: RingEntry, _ other: RingEntry, _ isInUse: ([AddressRange]) -> Bool
    ) throws(IPAMError) {
        let stretch = ring.stretch(mine.position, ring.tokenAfter(index))
        var conflict = conflict(stretch, other, ours: mine.version)
        conflict.ours.owner = mine.peer
        if mine.peer == ring.peer, isInUse(stretch) {
            throw IPAMError(
                .conflict,
                "Inconsistent entries for \(mine.token): owned by \(mine.peer) but incoming message says \(other.peer)",
                conflict: conflict)
        }
        result.ties.append(conflict)
        let isTheirs =
            mine.free != other.free ? other.free > mine.free : policy.breaksTies && other.peer < mine.peer
        if isTheirs { take(other) } else { keep(mine) }
    }

    private func conflict(_ stretch: [AddressRange], _ other: RingEntry, ours version: UInt32) -> RingConflict {
        RingConflict(
            token: other.token, range: stretch.last ?? AddressRange(other.token),
            ours: .init(owner: ring.peer, version: version), theirs: .init(owner: other.peer, version: other.version))
    }
}
