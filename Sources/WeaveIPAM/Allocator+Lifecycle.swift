public import WeaveCore

extension Allocator {
    // MARK: Start

    /// Begins, with what was stored: nil when nothing was.
    public mutating func onStart(stored: StoredState?, now: AllocatorTime) -> [AllocatorDirective] {
        turn(now) { allocator in
            for claim in allocator.configuration.preClaims {
                allocator.claims.append(
                    PendingClaim(
                        id: nil, ident: claim.ident, cidr: claim.cidr,
                        isContainer: claim.isContainer && allocator.policy.keepsContainers, acceptsUnknown: true,
                        since: now.monotonic))
            }
            if let stored, let ring = allocator.accepted(stored) {
                allocator.restore(ring, stored.owned)
                return
            }
            allocator.isRingChanged = true
            allocator.dropsOwned = true
            switch allocator.configuration.start {
            case .seed(let peers) where !peers.isEmpty:
                allocator.log(.info, "Initialising with supplied IPAM seed")
                allocator.createRing(peers)
            case .observer:
                allocator.log(.info, "Initialising as observer - awaiting IPAM data from another peer")
            default: allocator.log(.info, "Initialising via deferred consensus")
            }
        }
    }

    /// The stored ring, when it is one of ours for this range.
    private mutating func accepted(_ stored: StoredState) -> Ring? {
        guard let ring = stored.ring, !ring.isEmpty else {
            log(.info, "No valid persisted data")
            return nil
        }
        // 2.8.1 looks at the first name only. The two are saved together here, but a store may have been put together by hand.
        guard stored.peer == peer, ring.peer == peer else {
            log(.warning, "Deleting persisted data for peername \(stored.peer == peer ? ring.peer : stored.peer)")
            return nil
        }
        guard ring.universe == self.ring.universe else {
            log(
                .warning,
                "Deleting persisted data for IPAM range \(ring.universe); our range is \(configuration.universe)")
            return nil
        }
        do throws(IPAMError) {
            try ring.checkInvariants()
        } catch {
            log(.error, "Deleting persisted data: \(error)")
            return nil
        }
        return ring
    }

    private mutating func restore(_ ring: Ring, _ stored: [String: OwnedAddresses]) {
        if case .seed(let peers) = configuration.start, !peers.isEmpty {
            log(.info, "Found persisted IPAM data, ignoring supplied IPAM seed")
        } else {
            log(.info, "Initialising with persisted data")
        }
        self.ring = ring
        matchSpace()
        for (ident, addresses) in stored.sorted(by: { $0.key < $1.key }) { restore(ident, addresses) }
        retryPending()
    }

    /// Takes the addresses of a name over, but for those of ranges that went to other peers.
    private mutating func restore(_ ident: String, _ addresses: OwnedAddresses) {
        var kept = addresses
        kept.cidrs.removeAll { cidr in
            guard ring.contains(cidr.address) else { return holders[cidr.address] != nil }
            return (try? space.claim(cidr.address)) == nil
        }
        if kept.cidrs.count < addresses.cidrs.count {
            log(.warning, "Dropping addresses of \(ident) that are not ours any more")
            ownedChanges.updateValue(kept.cidrs.isEmpty ? nil : kept, forKey: ident)
        }
        guard !kept.cidrs.isEmpty else { return }
        owned[ident] = kept
        for cidr in kept.cidrs { holders[cidr.address] = ident }
    }

    // MARK: Time

    /// When the next `onTick` is due; nil while there is nothing to wait for.
    public var nextDeadline: MonotonicTime? {
        var due = schedule.due
        for died in dead.values {
            let end = died + AllocatorLimits.deathGrace + .milliseconds(1)
            due = min(due ?? end, end)
        }
        return due
    }

    /// Something is due. May come early or often: 2.8.1 does it every five seconds.
    public mutating func onTick(now: AllocatorTime) -> [AllocatorDirective] {
        turn(now) { allocator in
            if let due = allocator.schedule.due, due <= now.monotonic { allocator.schedule.due = nil }
            if !allocator.policy.asksOnce { allocator.spaceRequests.removeAll() }
            if allocator.isAwaitingConsensus {
                allocator.propose()
            } else if allocator.isAnythingPending {
                if allocator.ring.isEmpty { allocator.establishRing() } else { allocator.retryPending() }
            }
            allocator.purgeDead()
        }
    }

    /// Arms the next look at what waits, at the end of a turn.
    mutating func scheduleRetry() {
        guard isAwaitingConsensus || isAnythingPending else {
            schedule = RetrySchedule()
            return
        }
        guard schedule.due == nil else { return }
        let wait = min(policy.firstRetry * (1 << min(schedule.rounds, 8)), AllocatorLimits.tick)
        schedule.rounds += 1
        // Peers that start together should not go on proposing together.
        schedule.due = time.monotonic + wait * Double.random(in: 0.75..<1.25, using: &generator)
    }

    private mutating func purgeDead() {
        for (ident, died) in dead where time.monotonic - died > AllocatorLimits.deathGrace {
            delete(ident)
            dead[ident] = nil
        }
    }

    // MARK: Containers

    /// A container stopped: its addresses are kept a while, its requests end.
    public mutating func onContainerDied(_ ident: String, now: AllocatorTime) -> [AllocatorDirective] {
        turn(now) { allocator in
            if allocator.owned[ident]?.isContainer == true { allocator.dead[ident] = now.monotonic }
            allocator.cancel { _ in
                false
            } ident: {
                $0 == ident
            }
        }
    }

    /// A container runs.
    public mutating func onContainerStarted(_ ident: String, now: AllocatorTime) -> [AllocatorDirective] {
        turn(now) { $0.dead[ident] = nil }
    }

    /// A container will not come back.
    public mutating func onContainerDestroyed(_ ident: String, now: AllocatorTime) -> [AllocatorDirective] {
        turn(now) { allocator in
            guard allocator.owned[ident]?.isContainer == true else { return }
            allocator.delete(ident)
            allocator.dead[ident] = nil
        }
    }

    /// Only these containers run: the addresses of all others are free.
    public mutating func onPrune(keeping running: Set<String>, now: AllocatorTime) -> [AllocatorDirective] {
        turn(now) { allocator in
            for (ident, addresses) in allocator.owned where addresses.isContainer && !running.contains(ident) {
                allocator.delete(ident)
                allocator.dead[ident] = nil
            }
        }
    }

    /// These names are known to be gone, containers or not.
    public mutating func onReclaim(_ idents: [String], now: AllocatorTime) -> [AllocatorDirective] {
        turn(now) { allocator in
            for ident in idents {
                allocator.delete(ident)
                allocator.dead[ident] = nil
            }
        }
    }

    // MARK: Leaving

    /// This peer leaves for good: what it owns goes to another, and everybody who waits is sent away.
    public mutating func onShutdown(now: AllocatorTime) -> [AllocatorDirective] {
        turn(now) { allocator in
            allocator.isShutDown = true
            allocator.isAwaitingConsensus = false
            allocator.cancel { _ in
                true
            } ident: { _ in
                true
            }
            allocator.claims.removeAll()
            let heir = allocator.chooseHeir()
            guard heir != nil || allocator.policy.transfersToNobody else { return }
            allocator.ring.transfer(from: allocator.peer, to: heir ?? .unknown)
            allocator.space.removeAll()
            guard heir != nil else { return }
            allocator.isRingChanged = true
            allocator.wantsBroadcast = true
            if allocator.policy.forgetsWhenShutDown { allocator.forgetRingAddresses() }
        }
    }

    private mutating func forgetRingAddresses() {
        for (ident, addresses) in owned {
            let kept = addresses.cidrs.filter { !ring.contains($0.address) }
            guard kept.count < addresses.cidrs.count else { continue }
            for cidr in addresses.cidrs where ring.contains(cidr.address) { holders[cidr.address] = nil }
            let left =
                kept.isEmpty ? nil : OwnedAddresses(isContainer: addresses.isContainer, cidrs: kept)
            owned[ident] = left
            ownedChanges.updateValue(left, forKey: ident)
        }
    }

    /// Present peers before others, those with a part of the ring before those without.
    private func chooseHeir() -> PeerName? {
        guard !ring.ranges(of: peer).isEmpty else { return nil }
        let named = nicknames.keys.filter { $0 != peer }.sorted()
        return ring.heir { $0 != .unknown && isPresent($0) } ?? named.first { isPresent($0) }
            ?? ring.heir { $0 != .unknown } ?? named.first
    }

    /// Takes over everything that a dead peer owned. `name` is its nickname or its name.
    ///
    /// The answer is the number of addresses. Without `isForced` a peer that the mesh knows is refused: what it has given to
    /// containers would be given again.
    public mutating func onTakeover(
        _ id: RequestID, of name: String, isForced: Bool = false, now: AllocatorTime
    ) -> [AllocatorDirective] {
        turn(now) { allocator in
            do throws(IPAMError) {
                allocator.complete(id, .transferred(try allocator.takeOver(name, isForced)))
            } catch {
                allocator.complete(id, .failed(error))
            }
        }
    }

    private mutating func takeOver(_ name: String, _ isForced: Bool) throws(IPAMError) -> Int {
        guard let lost = try resolve(name), lost != peer, !isShutDown else { return 0 }
        let ranges = ring.ranges(of: lost)
        guard !ranges.isEmpty else { return 0 }
        if policy.protectsPresentPeers, !isForced, present?.contains(lost) == true {
            throw IPAMError(
                .refused,
                "\(described(lost)) is connected; taking its ranges over would give its addresses out twice. "
                    + "Stop it first, or force it")
        }
        ring.transfer(from: lost, to: peer)
        wantsBroadcast = true
        ringUpdated()
        return ranges.reduce(0) { $0 + $1.count }
    }

    /// The peer with this nickname, or of this name.
    private func resolve(_ name: String) throws(IPAMError) -> PeerName? {
        let named = nicknames.filter { $0.value == name }.keys.sorted()
        if named.count > 1, policy.protectsPresentPeers {
            throw IPAMError(
                .refused,
                "\(named.count) peers are called \(name): \(named.map(\.description).joined(separator: ", ")). "
                    + "Give the name of one")
        }
        if let peer = named.first { return peer }
        return try? PeerName(parsing: name)
    }
}
