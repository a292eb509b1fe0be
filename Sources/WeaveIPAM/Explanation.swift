public import WeaveCore

/// Why an allocator is in the state it is in, and what can be done: who owns what, what each request waits for, and who
/// contradicts whom.
public struct Explanation: Sendable {
    /// What one peer owns, and what is known of the peer.
    public struct Owner: Sendable {
        public var peer: PeerName
        public var nickname: String
        /// In order; neighbours are not joined.
        public var ranges: [AddressRange]
        /// How many addresses, and how many of them its owner last called free.
        public var count: Int
        public var free: Int
        /// Whether the peer is in the mesh; nil while nobody has told.
        public var isReachable: Bool?
        /// How long ago something of the peer was heard; nil for us, and when nothing was since we started.
        public var silence: Duration?
    }

    /// A request that waits.
    public struct Waiting: Sendable {
        public var ident: String
        /// The subnet or the address, as it was asked for.
        public var wanted: IPv4CIDR
        public var waitingFor: Duration
        /// What would end the wait.
        public var reason: String
    }

    /// Two peers that do not agree about the ring.
    public struct Contradiction: Sendable {
        /// Whose ring it was.
        public var source: PeerName
        public var nickname: String
        public var error: IPAMError
        /// What each says, when it is about one stretch of one ring.
        public var evidence: RingConflict?
        /// Names here that have addresses in the stretch.
        public var affected: [String]
        /// How long ago it was first and last seen, and how often.
        public var firstSeen: Duration
        public var lastSeen: Duration
        public var count: Int
        /// What can be done, the best first. Each alone is enough.
        public var plan: [RepairStep]
    }

    public var condition: AllocatorStatus.Condition
    public var owners: [Owner]
    public var waiting: [Waiting]
    public var contradictions: [Contradiction]

    /// All steps of all plans, in the order of `lines`, which numbers them from 1.
    public var steps: [RepairStep] { contradictions.flatMap(\.plan) }

    /// The whole as lines for people.
    public var lines: [String] {
        var lines = ["\(condition)"]
        var number = 0
        for owner in owners {
            let name = owner.nickname.isEmpty ? "\(owner.peer)" : "\(owner.peer)(\(owner.nickname))"
            let reach = owner.isReachable == false ? ", unreachable" : ""
            let heard = owner.silence.map { ", last heard \($0.components.seconds) s ago" } ?? ""
            let ranges = owner.ranges.map(\.shortDescription).joined(separator: " ")
            lines.append("\(name) owns \(owner.count) addresses, \(owner.free) free\(reach)\(heard): \(ranges)")
        }
        for waiting in waiting {
            lines.append(
                "\(waiting.ident) has waited \(waiting.waitingFor.components.seconds) s for \(waiting.wanted): "
                    + waiting.reason)
        }
        for contradiction in contradictions {
            lines.append("\(contradiction.source)(\(contradiction.nickname)): \(contradiction.error)")
            if let evidence = contradiction.evidence {
                lines.append(
                    "  \(evidence.range): we say \(evidence.ours.owner) at version \(evidence.ours.version), "
                        + "they say \(evidence.theirs.owner) at version \(evidence.theirs.version)")
            }
            if !contradiction.affected.isEmpty {
                lines.append("  in use here by \(contradiction.affected.joined(separator: ", "))")
            }
            for step in contradiction.plan {
                number += 1
                lines.append("  step \(number): \(step)")
            }
        }
        return lines
    }
}

/// One way to end a contradiction.
public enum RepairStep: Sendable, Hashable, CustomStringConvertible {
    /// Insist: our word about the stretch gets a version above the other's. Peers with nothing in use there give way.
    case insist(token: IPv4Address, above: UInt32)
    /// Give way: the stretch goes to the other peer, and the addresses in it are taken from the names that have them.
    case giveWay(AddressRange, to: PeerName, version: UInt32)
    /// Forget our ring and learn that of the others. Addresses in use here are taken from their names.
    case startOver
    /// Take over what a dead peer owns.
    case takeOver(PeerName)

    public var description: String {
        switch self {
        case .insist(let token, let version):
            "insist on the range from \(token), above version \(version): right when nothing runs there on other hosts"
        case .giveWay(let range, let peer, let version):
            "give \(range) to \(peer) at version \(version) and take its addresses from containers here"
        case .startOver:
            "forget the ring here and learn that of the other peers; addresses given out here are lost"
        case .takeOver(let peer): "take over the ranges of \(peer), if that peer is dead (rmpeer)"
        }
    }
}

extension Allocator {
    /// What is going on and why.
    public func explain(now: MonotonicTime) -> Explanation {
        Explanation(
            condition: status().condition, owners: explainedOwners(now), waiting: explainedWaits(now),
            contradictions: conflicts.values.sorted { $0.source < $1.source }.map { explained($0, now) })
    }

    private func explainedOwners(_ now: MonotonicTime) -> [Explanation.Owner] {
        let free = ring.entries.reduce(into: [PeerName: Int]()) { $0[$1.peer, default: 0] += Int($1.free) }
        return ring.owners.sorted { ($0 == peer ? 0 : 1, $0) < ($1 == peer ? 0 : 1, $1) }.map { owner in
            let ranges = ring.ranges(of: owner)
            return Explanation.Owner(
                peer: owner, nickname: nicknames[owner] ?? "", ranges: ranges,
                count: ranges.reduce(0) { $0 + $1.count }, free: free[owner] ?? 0,
                isReachable: present.map { owner == peer || $0.contains(owner) },
                silence: owner == peer ? nil : heard[owner].map { now - $0 })
        }
    }

    private func explainedWaits(_ now: MonotonicTime) -> [Explanation.Waiting] {
        claims.map { claim in
            let owner = (try? ring.owner(of: claim.cidr.address)) ?? .unknown
            let reason = owner == .unknown ? reasonForNoRing : "the address is of \(reach(owner, now))"
            return Explanation.Waiting(
                ident: claim.ident, wanted: claim.cidr, waitingFor: now - claim.since, reason: reason)
        }
            + allocations.map { pending in
                Explanation.Waiting(
                    ident: pending.ident, wanted: pending.subnet, waitingFor: now - pending.since,
                    reason: reason(for: pending.subnet.range, now))
            }
    }

    private var reasonForNoRing: String {
        guard let consensus else { return "no other peer has told us its ring yet" }
        let missing = consensus.quorum - Set(consensus.known.keys.map(\.peer)).count
        return missing > 0
            ? "the first ring needs \(consensus.quorum) peers to agree, and \(missing) of them have not been heard"
            : "peers are agreeing on the first ring"
    }

    private func reason(for range: AddressRange, _ now: MonotonicTime) -> String {
        if ring.isEmpty { return reasonForNoRing }
        let request = spaceRequests[range]
        if let asked = request?.asked { return "asked \(reach(asked, now)) for space, no answer yet" }
        let holders = ring.allRanges.filter { $0.range.overlaps(range) && $0.peer != peer }
        let away = Set(holders.map(\.peer)).filter { !isPresent($0) }.sorted()
        if !away.isEmpty {
            return "nothing is free, and parts of the subnet belong to "
                + away.map { reach($0, now) }.joined(separator: ", ") + ": use rmpeer for those that are dead"
        }
        return "every address of the subnet is in use on this host and its peers: release some, or use another subnet"
    }

    private func reach(_ other: PeerName, _ now: MonotonicTime) -> String {
        let silence = heard[other].map { "last heard \((now - $0).components.seconds) s ago" } ?? "not heard yet"
        return "\(described(other)), \(isPresent(other) ? "" : "unreachable, ")\(silence)"
    }

    private func explained(_ conflict: RecordedConflict, _ now: MonotonicTime) -> Explanation.Contradiction {
        let evidence = conflict.error.conflict
        let affected = holders.filter { evidence?.range.contains($0.key) ?? ring.contains($0.key) }.map(\.value)
        var plan: [RepairStep] = []
        if let evidence {
            let insist = RepairStep.insist(token: evidence.token, above: evidence.theirs.version)
            let giveWay = RepairStep.giveWay(
                evidence.range, to: evidence.theirs.owner, version: evidence.theirs.version)
            plan = affected.isEmpty ? [giveWay, insist] : [insist, giveWay]
        } else if conflict.error.code == .incompatible {
            plan = [.startOver]
        }
        return Explanation.Contradiction(
            source: conflict.source, nickname: nicknames[conflict.source] ?? "", error: conflict.error,
            evidence: evidence, affected: Set(affected).sorted(), firstSeen: now - conflict.firstSeen,
            lastSeen: now - conflict.lastSeen, count: conflict.count, plan: plan)
    }

    /// Carries a step of a plan out. Steps that take addresses from names need `isForced`.
    public mutating func onRepair(
        _ id: RequestID, _ step: RepairStep, isForced: Bool = false, now: AllocatorTime
    ) -> [AllocatorDirective] {
        if case .takeOver(let peer) = step {
            return onTakeover(id, of: peer.description, isForced: isForced, now: now)
        }
        return turn(now) { allocator in
            do throws(IPAMError) {
                try allocator.repair(step, isForced)
                allocator.complete(id, .done)
            } catch {
                allocator.complete(id, .failed(error))
            }
        }
    }

    private mutating func repair(_ step: RepairStep, _ isForced: Bool) throws(IPAMError) {
        switch step {
        case .insist(let token, let version): try insist(token, version)
        case .giveWay(let range, let other, let version): try giveWay(range, other, version, isForced)
        case .startOver: try startOver(isForced)
        case .takeOver: break
        }
    }

    private mutating func insist(_ token: IPv4Address, _ version: UInt32) throws(IPAMError) {
        let position = Int(token.rawValue)
        guard ring.contains(token), let index = ring.index(owning: position), ring.entries[index].peer == peer else {
            throw IPAMError(.misuse, "\(token) is not in a range of ours")
        }
        var place = index
        if ring.entries[index].position != position {
            let free = UInt32(clamping: space.freeCount(in: AddressRange(position, ring.universe.end)))
            place = ring.insert(RingEntry(token: token, peer: peer, version: 0, free: 0))
            ring.entries[place].free = min(free, UInt32(clamping: ring.span(place)))
            let before = place == 0 ? ring.entries.count - 1 : place - 1
            ring.entries[before].free = min(ring.entries[before].free, UInt32(clamping: ring.span(before)))
        }
        ring.entries[place].version = max(ring.entries[place].version, version)
        ring.entries[place].raise()
        finishRepair()
    }

    private mutating func giveWay(
        _ range: AddressRange, _ other: PeerName, _ version: UInt32, _ isForced: Bool
    ) throws(IPAMError) {
        let inside = holders.filter { range.contains($0.key) }
        guard isForced || inside.isEmpty else {
            throw IPAMError(
                .refused,
                "\(inside.count) addresses of \(range) are in use by \(Set(inside.values).sorted().joined(separator: ", "))"
                    + ": stop them first, or force it")
        }
        for ident in Set(inside.values) { delete(ident) }
        try ring.grant(range, to: other)
        if let index = ring.index(owning: range.start) {
            ring.entries[index].version = max(ring.entries[index].version, version)
        }
        finishRepair()
    }

    private mutating func startOver(_ isForced: Bool) throws(IPAMError) {
        let inside = Set(holders.filter { ring.contains($0.key) }.values)
        guard isForced || inside.isEmpty else {
            throw IPAMError(
                .refused,
                "addresses are in use by \(inside.sorted().joined(separator: ", ")): stop them first, or force it")
        }
        for ident in inside { delete(ident) }
        ring = Ring(universe: ring.universe, peer: peer, entries: [], seeds: [])
        finishRepair()
    }

    private mutating func finishRepair() {
        conflicts.removeAll()
        wantsBroadcast = true
        ringUpdated()
    }
}
