public import WeaveCore

/// A request for any address of a subnet that waits.
struct PendingAllocation: Sendable {
    var id: RequestID
    var ident: String
    var subnet: IPv4CIDR
    var isContainer: Bool
    var since: MonotonicTime
}

/// A request for a certain address that waits; without an id when nobody waits for the answer.
struct PendingClaim: Sendable {
    var id: RequestID?
    var ident: String
    var cidr: IPv4CIDR
    var isContainer: Bool
    /// Whether the caller is content while nobody knows whose the address is.
    var acceptsUnknown: Bool
    var since: MonotonicTime
    var failedAttempts = 0
    /// The owner that was asked last, and when.
    var asked: PeerName?
    var askedAt = MonotonicTime.zero

    /// Whether nobody waits for it: a caller was told that it will do, or it was there from the start.
    var isPromise: Bool { id == nil }
}

extension Allocator {
    /// The name under which addresses go that belong to no name.
    public static let anonymous = "_"

    // MARK: Events

    /// Somebody wants an address of `subnet`, whichever; if the name has one already, that one.
    public mutating func onAllocate(
        _ id: RequestID, ident: String, subnet: IPv4CIDR, isContainer: Bool, now: AllocatorTime
    ) -> [AllocatorDirective] {
        turn(now) { allocator in
            var pending = PendingAllocation(
                id: id, ident: ident, subnet: subnet, isContainer: isContainer, since: now.monotonic)
            guard allocator.admits(id, "Allocate", ident) else { return }
            if !allocator.attempt(&pending) { allocator.allocations.append(pending) }
        }
    }

    /// Somebody wants a certain address. With `acceptsUnknown` the answer does not wait for other peers.
    public mutating func onClaim(
        _ id: RequestID, ident: String, cidr: IPv4CIDR, isContainer: Bool, acceptsUnknown: Bool = false,
        now: AllocatorTime
    ) -> [AllocatorDirective] {
        turn(now) { allocator in
            var pending = PendingClaim(
                id: id, ident: ident, cidr: cidr, isContainer: isContainer, acceptsUnknown: acceptsUnknown,
                since: now.monotonic)
            guard allocator.admits(id, "Claim", ident) else { return }
            if acceptsUnknown, let promise = allocator.promise(of: cidr.address) {
                if promise.ident == ident { return allocator.complete(id, .done) }
                let text = "address \(cidr) already in use by \(promise.ident)"
                return allocator.complete(id, .failed(IPAMError(.inUse, text)))
            }
            if !allocator.attempt(&pending) { allocator.claims.append(pending) }
        }
    }

    /// Somebody wants to know when there is a ring.
    public mutating func onPrime(_ id: RequestID, now: AllocatorTime) -> [AllocatorDirective] {
        turn(now) { allocator in
            guard !allocator.isShutDown else { return allocator.complete(id, .done) }
            allocator.establishRing()
            if allocator.ring.isEmpty { allocator.primes.append(id) } else { allocator.complete(id, .done) }
        }
    }

    /// Whoever made a request no longer waits for it.
    public mutating func onCancel(_ id: RequestID, now: AllocatorTime) -> [AllocatorDirective] {
        turn(now) {
            $0.cancel {
                $0 == id
            } ident: { _ in
                false
            }
        }
    }

    /// One address of a name is not needed any more.
    public mutating func onFree(
        _ id: RequestID, ident: String, address: IPv4Address, now: AllocatorTime
    ) -> [AllocatorDirective] {
        turn(now) { allocator in
            let isPromised = allocator.withdraw(ident, address)
            guard allocator.owned[ident]?.cidrs.contains(where: { $0.address == address }) == true else {
                if isPromised { return allocator.complete(id, .done) }
                let error = IPAMError(.notFound, "Free: address \(address) not found for \(ident)")
                return allocator.complete(id, .failed(error))
            }
            allocator.forget(address, of: ident)
            allocator.release(address)
            allocator.complete(id, .done)
        }
    }

    /// A name needs no address any more.
    public mutating func onDelete(_ id: RequestID, ident: String, now: AllocatorTime) -> [AllocatorDirective] {
        turn(now) { allocator in
            let isPromised = allocator.withdraw(ident)
            guard allocator.delete(ident) || isPromised else {
                return allocator.complete(id, .failed(IPAMError(.notFound, "Delete: no addresses for \(ident)")))
            }
            allocator.complete(id, .done)
        }
    }

    /// The addresses of a name that lie in `range`.
    public func addresses(of ident: String, in range: AddressRange) -> [IPv4CIDR] {
        owned[ident]?.cidrs.filter { range.contains($0.address) } ?? []
    }

    /// The addresses that a name has, and those that it may use although nobody knows yet whose they are.
    public func held(by ident: String) -> [IPv4CIDR] {
        let own = owned[ident]?.cidrs ?? []
        let promised = claims.filter { $0.isPromise && $0.ident == ident }.map(\.cidr)
        return own + promised.filter { promise in !own.contains { $0.address == promise.address } }
    }

    private func promise(of address: IPv4Address) -> PendingClaim? {
        claims.first { $0.isPromise && $0.cidr.address == address && $0.ident != Self.anonymous }
    }

    /// Takes a promised address back from a name, or with nil all; false when there was none. What is on interfaces but
    /// belongs to no name stays: nobody can give that back.
    private mutating func withdraw(_ ident: String, _ address: IPv4Address? = nil) -> Bool {
        guard ident != Self.anonymous else { return false }
        let count = claims.count
        claims.removeAll { $0.isPromise && $0.ident == ident && (address == nil || $0.cidr.address == address) }
        guard claims.count < count else { return false }
        dropIdleSpaceRequests()
        return true
    }

    // MARK: Attempts

    private mutating func admits(_ id: RequestID, _ what: String, _ ident: String) -> Bool {
        if isShutDown {
            complete(id, .failed(Self.cancelled(what, ident)))
            return false
        }
        guard claims.count + allocations.count < AllocatorLimits.pending else {
            let error = IPAMError(
                .overloaded, "\(AllocatorLimits.pending) requests for addresses are waiting; try again later")
            complete(id, .failed(error))
            return false
        }
        return true
    }

    static func cancelled(_ what: String, _ ident: String) -> IPAMError {
        IPAMError(.cancelled, "\(what) request for \(ident) cancelled")
    }

    /// Tries to give an address.
    ///
    /// - Returns: whether the request is at its end.
    mutating func attempt(_ pending: inout PendingAllocation) -> Bool {
        if let known = addresses(of: pending.ident, in: pending.subnet.range).first {
            dead[pending.ident] = nil
            complete(pending.id, .address(known.address, like: pending.subnet))
            return true
        }
        guard pending.subnet.range.overlaps(ring.universe) else {
            let text = "range \(pending.subnet) out of bounds: \(configuration.universe)"
            complete(pending.id, .failed(IPAMError(.outOfBounds, text)))
            return true
        }
        establishRing()
        if let address = space.allocate(in: pending.subnet.hostRange, resting: rest.addresses) {
            record(pending.ident, address, pending.subnet.prefixLength, pending.isContainer)
            complete(pending.id, .address(address, like: pending.subnet))
            return true
        }
        if !ring.isEmpty { askForSpace(pending.subnet.range) }
        return false
    }

    /// Tries to give a certain address.
    ///
    /// - Returns: whether the request is at its end.
    mutating func attempt(_ claim: inout PendingClaim) -> Bool {
        let address = claim.cidr.address
        guard ring.contains(address) else {
            claimOutside(claim)
            return true
        }
        establishRing()
        dead[claim.ident] = nil
        let owner = (try? ring.owner(of: address)) ?? .unknown
        if owner == peer {
            claimOwn(claim)
            return true
        }
        if owner == .unknown {
            if claim.acceptsUnknown { answer(&claim, .done) }
            return false
        }
        let isAsked = claim.asked == owner && time.monotonic < claim.askedAt + AllocatorLimits.answer
        if policy.asksOnce, isAsked { return false }
        claim.asked = owner
        claim.askedAt = time.monotonic
        send(owner, .spaceRequest(AddressRange(address)))
        return false
    }

    /// An address that peers do not divide: whoever names it knows what he does.
    private mutating func claimOutside(_ claim: PendingClaim) {
        var claim = claim
        let address = claim.cidr.address
        let holder = holders[address]
        if let holder, holder != claim.ident, claim.ident != Self.anonymous {
            guard dead[holder] != nil else {
                let text = "address \(claim.cidr) already in use by \(holder)"
                return answer(&claim, .failed(IPAMError(.inUse, text)))
            }
            forget(address, of: holder)
            if owned[holder] == nil { dead[holder] = nil }
            record(claim.ident, address, claim.cidr.prefixLength, claim.isContainer)
        } else if holder == nil {
            record(claim.ident, address, claim.cidr.prefixLength, claim.isContainer)
        }
        answer(&claim, .done)
    }

    private mutating func claimOwn(_ claim: PendingClaim) {
        var claim = claim
        let address = claim.cidr.address
        guard let holder = holders[address] else {
            do throws(IPAMError) {
                try space.claim(address)
            } catch {
                return answer(&claim, .failed(error))
            }
            record(claim.ident, address, claim.cidr.prefixLength, claim.isContainer)
            return answer(&claim, .done)
        }
        if holder == claim.ident || claim.ident == Self.anonymous { return answer(&claim, .done) }
        let text =
            holder == address.description
            ? "address \(claim.cidr) already in use" : "address \(claim.cidr) is already owned by \(holder)"
        answer(&claim, .failed(IPAMError(.inUse, text)))
    }

    /// Answers a claim, unless it was answered before: what happens to it later is only told.
    mutating func answer(_ claim: inout PendingClaim, _ reply: AllocatorReply) {
        if let id = claim.id { return (claim.id = nil, complete(id, reply)).1 }
        if case .failed(let error) = reply { log(.warning, "Claim of \(claim.cidr) for \(claim.ident): \(error)") }
    }

    // MARK: Books

    private mutating func record(_ ident: String, _ address: IPv4Address, _ length: Int, _ isContainer: Bool) {
        let ident = ident == Self.anonymous ? address.description : ident
        guard let cidr = IPv4CIDR(address, prefixLength: length) else { return }
        var addresses = owned[ident] ?? OwnedAddresses(isContainer: isContainer, cidrs: [])
        addresses.isContainer = isContainer
        addresses.cidrs.append(cidr)
        owned[ident] = addresses
        holders[address] = ident
        ownedChanges[ident] = .some(addresses)
    }

    /// Strikes an address from the books, and the name with its last one. The space is not told.
    private mutating func forget(_ address: IPv4Address, of ident: String) {
        guard var addresses = owned[ident] else { return }
        addresses.cidrs.removeAll { $0.address == address }
        if holders[address] == ident { holders[address] = nil }
        let left: OwnedAddresses? = addresses.cidrs.isEmpty ? nil : addresses
        owned[ident] = left
        ownedChanges.updateValue(left, forKey: ident)
    }

    private mutating func release(_ address: IPv4Address) {
        // An address outside the ring has no place in the space.
        guard (try? space.release(address)) != nil, policy.rest > .zero else { return }
        rest.add(address, until: time.monotonic + policy.rest)
    }

    /// Takes everything from a name; false when it has nothing.
    @discardableResult
    mutating func delete(_ ident: String) -> Bool {
        guard let addresses = owned.removeValue(forKey: ident) else { return false }
        ownedChanges.updateValue(nil, forKey: ident)
        for cidr in addresses.cidrs {
            if holders[cidr.address] == ident { holders[cidr.address] = nil }
            release(cidr.address)
        }
        return true
    }

    /// Ends the requests with such ids or names.
    mutating func cancel(_ isMeant: (RequestID) -> Bool, ident isIdentMeant: (String) -> Bool) {
        let (oldPrimes, oldClaims, oldAllocations) = (primes, claims, allocations)
        primes = oldPrimes.filter { !isMeant($0) }
        for id in oldPrimes where isMeant(id) { complete(id, .done) }
        claims.removeAll()
        for claim in oldClaims {
            if !(claim.id.map(isMeant) ?? false), !isIdentMeant(claim.ident) {
                claims.append(claim)
            } else if let id = claim.id {
                complete(id, .failed(Self.cancelled("Claim", claim.ident)))
            }
        }
        allocations.removeAll()
        for pending in oldAllocations {
            if isMeant(pending.id) || isIdentMeant(pending.ident) {
                complete(pending.id, .failed(Self.cancelled("Allocate", pending.ident)))
            } else {
                allocations.append(pending)
            }
        }
        dropIdleSpaceRequests()
    }
}

extension AllocatorReply {
    /// `address` with the prefix length of `subnet`.
    fileprivate static func address(_ address: IPv4Address, like subnet: IPv4CIDR) -> AllocatorReply {
        .address(IPv4CIDR(address, prefixLength: subnet.prefixLength) ?? subnet)
    }
}
