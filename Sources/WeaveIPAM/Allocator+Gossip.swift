public import WeaveCore

extension Allocator {
    /// A message for every peer came from `sender`, or, when that is nil, the state of a neighbour.
    ///
    /// - Returns: what is wrong with the message, if anything.
    public mutating func onState(
        _ message: StateMessage, from sender: PeerName?, now: AllocatorTime
    ) -> (directives: [AllocatorDirective], error: IPAMError?) {
        var error: IPAMError?
        let directives = turn(now) { allocator in error = allocator.absorb(message, from: sender) }
        return (directives, error)
    }

    /// A message for us alone came from `sender`.
    ///
    /// - Returns: what is wrong with the message, if anything.
    public mutating func onMessage(
        _ message: PeerMessage, from sender: PeerName, now: AllocatorTime
    ) -> (directives: [AllocatorDirective], error: IPAMError?) {
        var error: IPAMError?
        let directives = turn(now) { allocator in
            allocator.note(sender)
            switch message {
            case .spaceRequest(let range): allocator.donate(range, to: sender)
            case .denied(let range): allocator.denied(range, by: sender)
            case .unknown: allocator.unknownMessages += 1
            case .ringUpdate(let state):
                error = allocator.absorb(state, from: sender)
                allocator.answered(by: sender)
            }
        }
        return (directives, error)
    }

    private mutating func note(_ sender: PeerName) {
        guard heard[sender] != nil || heard.count < StateMessage.maximumNicknames else { return }
        heard[sender] = time.monotonic
    }

    private mutating func absorb(_ message: StateMessage, from sender: PeerName?) -> IPAMError? {
        let sender = sender == .unknown ? nil : sender
        guard sender != peer else { return nil }
        if let speaker = sender ?? message.ring?.peer { note(speaker) }
        for (peer, nickname) in message.nicknames
        where nicknames[peer] != nil || nicknames.count < StateMessage.maximumNicknames {
            nicknames[peer] = nickname
        }
        if let received = message.ring { return merge(received) }
        if !ring.isEmpty {
            if let sender { send(sender, .ringUpdate(state(unixSeconds: time.unixSeconds))) }
        } else if let claims = message.consensus {
            learn(claims)
        } else if sender != nil, consensus != nil {
            // An observer wants a ring and has no vote.
            establishRing()
        }
        return nil
    }

    private mutating func learn(_ claims: [NodeID: NodeClaims]) {
        guard consensus?.update(claims) == true else { return }
        if consensus?.think() == true { wantsBroadcast = true }
        if let value = consensus?.agreement?.value { createRing(value) }
    }

    private mutating func merge(_ received: Ring) -> IPAMError? {
        guard !isShutDown else { return nil }
        let space = space
        let result: Ring.MergeResult
        do throws(IPAMError) {
            result = try ring.merge(received, policy: policy.merge) { ranges in
                ranges.contains { space.isInUse($0) }
            }
        } catch {
            let error = explained(error, received)
            remember(error, received)
            return error
        }
        conflicts[received.peer] = nil
        for repair in result.repairs {
            log(
                .warning,
                "ring: repair inconsistent data by accepting token \(repair.token) from \(repair.theirs.owner) - "
                    + "no allocations up to \(IPv4Address(repair.range.end))")
        }
        for tie in result.ties {
            log(
                .warning,
                "ring: \(tie.theirs.owner) and \(tie.ours.owner) both claim \(tie.range) at version \(tie.ours.version)"
            )
        }
        if result.isUpdated {
            pruneNicknames()
            ringUpdated()
        }
        return nil
    }

    /// The words for people about rings that do not go together.
    private func explained(_ error: IPAMError, _ received: Ring) -> IPAMError {
        if error == Ring.otherSeeds {
            func list(_ peers: [PeerName]) -> String { "[\(peers.map(described).joined(separator: " "))]" }
            return IPAMError(
                .incompatible,
                "IP allocation was seeded by different peers (received: \(list(received.seeds)), "
                    + "ours: \(list(ring.seeds)))")
        }
        if error == Ring.otherRange {
            return IPAMError(
                .incompatible,
                "Incompatible IP allocation ranges (received: \(received.universe.shortDescription), "
                    + "ours: \(ring.universe.shortDescription))")
        }
        return error
    }

    private mutating func remember(_ error: IPAMError, _ received: Ring) {
        if var known = conflicts[received.peer] {
            known.error = error
            known.lastSeen = time.monotonic
            known.count += 1
            let isTold = time.monotonic < known.lastTold + AllocatorLimits.conflictReminder
            if !isTold { known.lastTold = time.monotonic }
            conflicts[received.peer] = known
            if !isTold { log(.error, "IPAM data of \(described(received.peer)) refused: \(error)") }
            return
        }
        if conflicts.count >= AllocatorLimits.conflicts,
            let oldest = conflicts.min(by: { $0.value.lastSeen < $1.value.lastSeen })?.key
        {
            conflicts[oldest] = nil
        }
        conflicts[received.peer] = RecordedConflict(
            source: received.peer, error: error, firstSeen: time.monotonic, lastSeen: time.monotonic,
            lastTold: time.monotonic, count: 1)
        log(.error, "IPAM data of \(described(received.peer)) refused: \(error)")
    }

    private mutating func pruneNicknames() {
        guard present != nil else { return }
        let owners = ring.owners
        nicknames = nicknames.filter { owners.contains($0.key) || isPresent($0.key) }
    }

    // MARK: The mesh

    /// These peers, us among them or not, are in the mesh now.
    public mutating func onPeersChanged(_ peers: Set<PeerName>, now: AllocatorTime) -> [AllocatorDirective] {
        turn(now) { allocator in
            let isNew = allocator.present.map { !peers.subtracting($0).isEmpty } ?? true
            allocator.present = peers
            // Whoever was asked and has gone will not answer; whoever has come may have something.
            for (range, request) in allocator.spaceRequests {
                if let asked = request.asked, !peers.contains(asked) { allocator.spaceRequests[range]?.asked = nil }
                if isNew { allocator.spaceRequests[range]?.refused.formIntersection(peers) }
            }
            if allocator.isAnythingPending, !allocator.ring.isEmpty { allocator.retryPending() }
        }
    }

    /// The mesh has forgotten a peer. Its ranges stay its own.
    public mutating func onPeerGone(_ peer: PeerName, now: AllocatorTime) -> [AllocatorDirective] {
        turn(now) { allocator in
            allocator.present?.remove(peer)
            guard peer != allocator.peer, !allocator.ring.owners.contains(peer) else { return }
            allocator.nicknames[peer] = nil
            allocator.heard[peer] = nil
        }
    }
}
