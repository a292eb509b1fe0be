public import WeaveCore

/// A request for addresses of one range, on behalf of everybody who waits for them.
struct SpaceRequest: Sendable {
    /// Who was asked and has not answered.
    var asked: PeerName?
    var askedAt = MonotonicTime.zero
    /// Who refused, could not be reached, or did not answer, since the last fresh start.
    var refused: Set<PeerName> = []
    /// How often all have refused.
    var rounds = 0
    /// When to start afresh, when all have refused.
    var notBefore: MonotonicTime?
}

extension Allocator {
    // MARK: Asking

    /// Asks a peer that has some for addresses of `range`.
    mutating func askForSpace(_ range: AddressRange) {
        var request = spaceRequests[range] ?? SpaceRequest()
        defer { spaceRequests[range] = request }
        if policy.asksOnce {
            if let asked = request.asked {
                guard time.monotonic >= request.askedAt + AllocatorLimits.answer else { return }
                request.refused.insert(asked)
                request.asked = nil
            }
            if let notBefore = request.notBefore {
                guard time.monotonic >= notBefore else { return }
                request.notBefore = nil
                request.refused.removeAll()
            }
        }
        let donors = ring.donors(for: range, weighing: policy.weighing, using: &generator)
        guard let donor = donors.first(where: { isPresent($0) && !request.refused.contains($0) }) else {
            if policy.asksOnce, !request.refused.isEmpty { postpone(&request) }
            return
        }
        request.asked = donor
        request.askedAt = time.monotonic
        send(donor, .spaceRequest(range))
    }

    private mutating func postpone(_ request: inout SpaceRequest) {
        let wait = min(policy.firstRetry * (1 << min(request.rounds, 8)), AllocatorLimits.slowestRetry)
        request.rounds += 1
        request.notBefore = time.monotonic + wait * Double.random(in: 0.75..<1.25, using: &generator)
    }

    /// Forgets requests for which nobody waits any more.
    mutating func dropIdleSpaceRequests() {
        guard !spaceRequests.isEmpty else { return }
        let wanted = Set(allocations.lazy.map { $0.subnet.range })
        spaceRequests = spaceRequests.filter { wanted.contains($0.key) }
    }

    mutating func send(_ destination: PeerName, _ message: PeerMessage) {
        out.append(.unicast(destination, message))
    }

    /// A message could not be sent: `reason` is what the mesh says.
    public mutating func onUnicastFailed(
        to destination: PeerName, _ message: PeerMessage, reason: String, now: AllocatorTime
    ) -> [AllocatorDirective] {
        turn(now) { allocator in
            guard case .spaceRequest(let range) = message else { return }
            allocator.failClaims(on: destination, range, reason)
            guard var request = allocator.spaceRequests[range] else { return }
            request.refused.insert(destination)
            if request.asked == destination { request.asked = nil }
            allocator.spaceRequests[range] = request
            allocator.askForSpace(range)
        }
    }

    private mutating func failClaims(on owner: PeerName, _ range: AddressRange, _ reason: String) {
        var waiting = claims
        claims.removeAll()
        waiting.drop { claim in
            guard range.count == 1, range.contains(claim.cidr.address),
                (try? ring.owner(of: claim.cidr.address)) == owner
            else { return false }
            claim.asked = nil
            if claim.acceptsUnknown {
                answer(&claim, .done)
                return false
            }
            claim.failedAttempts += 1
            guard claim.failedAttempts > AllocatorLimits.claimAttempts else { return false }
            deny(&claim, owner, " - \(reason)")
            return true
        }
        claims = waiting + claims
    }

    private mutating func deny(_ claim: inout PendingClaim, _ owner: PeerName, _ reason: String) {
        let name = nicknames[owner].map { "\(owner) (\($0))" } ?? "\(owner)"
        answer(
            &claim,
            .failed(IPAMError(.ownedByPeer, "address \(claim.cidr) is owned by other peer \(name)\(reason)")))
    }

    // MARK: Answers

    /// `sender` has nothing to give in `range`.
    mutating func denied(_ range: AddressRange, by sender: PeerName) {
        var waiting = claims
        claims.removeAll()
        waiting.drop { claim in
            guard range.contains(claim.cidr.address) else { return false }
            deny(&claim, sender, "")
            return true
        }
        claims = waiting + claims
        guard policy.asksOnce, var request = spaceRequests[range] else { return }
        request.refused.insert(sender)
        if request.asked == sender { request.asked = nil }
        spaceRequests[range] = request
        retryPending()
    }

    /// `sender` has told us its ring, which is how it answers.
    mutating func answered(by sender: PeerName) {
        guard policy.asksOnce, spaceRequests.contains(where: { $0.value.asked == sender }) else { return }
        for (range, request) in spaceRequests where request.asked == sender { spaceRequests[range]?.asked = nil }
        retryPending()
    }

    // MARK: Giving

    /// `sender` wants addresses of `range`.
    mutating func donate(_ range: AddressRange, to sender: PeerName) {
        guard !ring.isEmpty, sender != peer, sender != .unknown else { return }
        guard let chunk = chooseDonation(range) else {
            send(sender, .denied(range))
            return send(sender, .ringUpdate(state(unixSeconds: time.unixSeconds)))
        }
        do throws(IPAMError) {
            try ring.grant(chunk, to: sender)
        } catch {
            space.add(chunk)
            return log(.error, "Cannot give \(chunk) to \(described(sender)): \(error)")
        }
        isRingChanged = true
        wantsBroadcast = true
        send(sender, .ringUpdate(state(unixSeconds: time.unixSeconds)))
    }

    private mutating func chooseDonation(_ range: AddressRange) -> AddressRange? {
        guard policy.choosesDonations else { return space.donate(in: range) }
        // A subnet is of use to the one who asks only where hosts can be.
        let hosts =
            range.count >= IPv4CIDR.minimumSubnetSize ? AddressRange(range.start + 1, range.end - 1) : range
        guard space.freeCount(in: hosts) > 0 else { return nil }
        let ring = ring
        return space.donate(in: range, resting: rest.addresses) { block, _ in
            (block.overlaps(hosts) ? 1 : 0, -ring.tokensAdded(byGranting: block))
        }
    }
}
