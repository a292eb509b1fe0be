public import WeaveCore

/// Hands out the addresses of this peer's part of the ring, gets more from other peers, and gives some to them.
///
/// A plain value: methods named after events take the time and return directives, to be carried out in order. Every event is
/// one turn. At its end the space matches the ring, the ring says how much is free, and what changed is in one transaction
/// at the front of the directives: nobody hears of anything before it is durable.
public struct Allocator: Sendable {
    public let configuration: AllocatorConfiguration
    /// The division of the universe, as this peer knows it.
    public internal(set) var ring: Ring
    /// The addresses of this peer's ranges.
    public internal(set) var space = Space()
    /// What names have.
    public internal(set) var owned: [String: OwnedAddresses] = [:]
    /// What peers are called.
    public internal(set) var nicknames: [PeerName: String]
    /// The part this peer has in the first agreement; nil for an observer.
    public internal(set) var consensus: Consensus?
    /// Whether an agreement is under way that this peer wants.
    public internal(set) var isAwaitingConsensus = false
    public internal(set) var isShutDown = false
    /// How many must agree; read when the first agreement begins.
    public var quorum: Int

    /// Messages with a tag that is not known, ignored.
    public internal(set) var unknownMessages = 0

    var primes: [RequestID] = []
    var claims: [PendingClaim] = []
    var allocations: [PendingAllocation] = []
    /// When containers died whose addresses are still kept.
    var dead: [String: MonotonicTime] = [:]
    /// Who has each address.
    var holders: [IPv4Address: String] = [:]
    /// The peers in the mesh; nil as long as nobody has told.
    var present: Set<PeerName>?
    var rest = RestingAddresses()
    /// Requests for space under way, by what was asked for.
    var spaceRequests: [AddressRange: SpaceRequest] = [:]
    var conflicts: [PeerName: RecordedConflict] = [:]
    /// When each peer was last heard.
    var heard: [PeerName: MonotonicTime] = [:]
    var generator: SeededGenerator

    // The turn under way.
    var time: AllocatorTime
    var out: [AllocatorDirective] = []
    var wantsBroadcast = false
    var isRingChanged = false
    var isOwnershipChanged = false
    var ownedChanges: [String: OwnedAddresses?] = [:]
    var dropsOwned = false
    var schedule = RetrySchedule()

    /// An allocator that has not started: see `onStart`.
    ///
    /// - Throws: `IPAMError` of code `invalidUniverse`.
    public init(
        _ configuration: AllocatorConfiguration, generator: SeededGenerator
    ) throws(IPAMError) {
        try configuration.validate()
        self.configuration = configuration
        ring = try Ring(universe: configuration.universe.range, peer: configuration.peer)
        nicknames = [configuration.peer: configuration.nickname]
        quorum = configuration.quorum
        self.generator = generator
        time = AllocatorTime(.zero, unixSeconds: 0)
        if configuration.start != .observer { consensus = newConsensus() }
    }

    var peer: PeerName { configuration.peer }
    var policy: AllocatorPolicy { configuration.policy }

    func newConsensus() -> Consensus {
        var consensus = Consensus(node: NodeID(peer: configuration.peer, uid: configuration.uid))
        consensus.countsPeersOnce = configuration.policy.countsPeersOnce
        return consensus
    }

    /// The state for other peers.
    public func state(unixSeconds: Int64) -> StateMessage {
        StateMessage(
            unixSeconds: unixSeconds, nicknames: nicknames, consensus: ring.isEmpty ? consensus?.known : nil,
            ring: ring.isEmpty ? nil : ring)
    }

    /// How many primes, claims and allocations wait.
    public var pendingCounts: (primes: Int, claims: Int, allocations: Int) {
        (primes.count, claims.count, allocations.count)
    }

    var isAnythingPending: Bool { !primes.isEmpty || !claims.isEmpty || !allocations.isEmpty }

    // MARK: Turns

    /// One event, from its beginning to the directives.
    mutating func turn(_ now: AllocatorTime, _ body: (inout Allocator) -> Void) -> [AllocatorDirective] {
        time = now
        body(&self)
        return endTurn()
    }

    private mutating func endTurn() -> [AllocatorDirective] {
        rest.wake(time.monotonic)
        if isOwnershipChanged { matchSpace() }
        reportFree()
        scheduleRetry()
        var directives: [AllocatorDirective] = []
        if isRingChanged || dropsOwned || !ownedChanges.isEmpty {
            directives.append(
                .persist(
                    RingTransaction(
                        peer: peer, ring: isRingChanged ? ring : nil, dropsOwned: dropsOwned, owned: ownedChanges)))
        }
        directives += out
        if wantsBroadcast { directives.append(.broadcast) }
        out.removeAll(keepingCapacity: true)
        wantsBroadcast = false
        isRingChanged = false
        dropsOwned = false
        ownedChanges.removeAll(keepingCapacity: true)
        return directives
    }

    /// Makes the space what the ring says is ours. 2.8.1 only ever adds, and stops when a merge has taken something away.
    mutating func matchSpace() {
        isOwnershipChanged = false
        let ours = ring.ranges(of: peer)
        for range in space.shrink(to: ours) {
            log(.error, "Addresses \(range) were in use here and now belong to another peer")
        }
        space.update(ours)
    }

    private mutating func reportFree() {
        guard !ring.isEmpty else { return }
        let counts = ring.ranges(of: peer).map { (start: $0.start, count: space.freeCount(in: $0)) }
        guard !counts.isEmpty else { return }
        do throws(IPAMError) {
            if try ring.reportFree(counts) { isRingChanged = true }
        } catch {
            log(.error, "Cannot report free space: \(error)")
        }
    }

    mutating func log(_ level: AllocatorDirective.LogLevel, _ text: String) { out.append(.log(level, text)) }

    mutating func complete(_ id: RequestID, _ reply: AllocatorReply) { out.append(.complete(id, reply)) }

    // MARK: Peers

    /// Whether the mesh knows the peer; assumed while nobody has told.
    func isPresent(_ other: PeerName) -> Bool { other == peer || present?.contains(other) ?? true }

    /// `name(nickname)`, or the name alone.
    func described(_ peer: PeerName) -> String {
        nicknames[peer].map { "\(peer)(\($0))" } ?? "\(peer)"
    }

    // MARK: The ring

    /// Sees to it that there will be a ring.
    mutating func establishRing() {
        guard ring.isEmpty, !isAwaitingConsensus, !isShutDown else { return }
        isAwaitingConsensus = true
        consensus?.quorum = max(quorum, 1)
        propose()
    }

    mutating func propose() {
        wantsBroadcast = true
        guard consensus != nil else { return }
        do throws(IPAMError) {
            try consensus?.propose()
        } catch {
            log(.error, "Cannot propose: \(error)")
        }
        if let value = consensus?.agreement?.value { createRing(value) }
    }

    mutating func createRing(_ peers: [PeerName]) {
        do throws(IPAMError) {
            try ring.divide(among: Consensus.normalized(peers))
        } catch {
            return log(.error, "Cannot create the ring: \(error)")
        }
        wantsBroadcast = true
        ringUpdated()
    }

    /// After owners changed.
    mutating func ringUpdated() {
        if isAwaitingConsensus {
            isAwaitingConsensus = false
            if consensus != nil { consensus = newConsensus() }
        }
        isRingChanged = true
        matchSpace()
        retryPending()
    }

    mutating func retryPending() {
        if !ring.isEmpty {
            for id in primes { complete(id, .done) }
            primes.removeAll()
        }
        var waitingClaims = claims
        claims.removeAll()
        waitingClaims.drop { attempt(&$0) }
        claims = waitingClaims + claims
        var waiting = allocations
        allocations.removeAll()
        waiting.drop { attempt(&$0) }
        allocations = waiting + allocations
        dropIdleSpaceRequests()
    }
}

/// When a look at what waits is due: soon at first, then less and less often.
struct RetrySchedule: Sendable {
    var due: MonotonicTime?
    var rounds = 0
}

/// Addresses that were released a moment ago.
struct RestingAddresses: Sendable {
    private(set) var addresses = AddressSet()
    private var until: [Int: MonotonicTime] = [:]
    private var queue: [(value: Int, until: MonotonicTime)] = []
    private var head = 0

    mutating func add(_ address: IPv4Address, until time: MonotonicTime) {
        let value = Int(address.rawValue)
        addresses.insert(AddressRange(address))
        until[value] = time
        queue.append((value, time))
        if queue.count - head > AllocatorLimits.resting { dropFirst() }
    }

    mutating func wake(_ now: MonotonicTime) {
        while head < queue.count, queue[head].until <= now { dropFirst() }
    }

    private mutating func dropFirst() {
        let (value, time) = queue[head]
        head += 1
        // Released again since: the later entry counts.
        if let last = until[value], last <= time {
            until[value] = nil
            addresses.remove(AddressRange(value, value + 1))
        }
        if head == queue.count || head > AllocatorLimits.resting {
            queue.removeFirst(head)
            head = 0
        }
    }
}

extension Array {
    /// Removes the elements for which `isDone` holds; it may change those that stay.
    mutating func drop(where isDone: (inout Element) -> Bool) {
        var kept = 0
        for index in indices {
            var element = self[index]
            if isDone(&element) { continue }
            self[kept] = element
            kept += 1
        }
        removeLast(count - kept)
    }
}
