public import WeaveCore

/// Address allocation for one peer: an `Allocator` with a store beneath and gossip around it.
///
///     let allocator = try AddressAllocator(configuration, store: store)
///     let channel = try await mesh.register(AddressAllocator.channelName, allocator)
///     try await allocator.start(on: channel)
///     let address = try await allocator.allocate("web", subnet: subnet)
///
/// A request waits until it can be granted; to bound the wait, cancel its task. Whatever is answered is durable, and
/// nothing reaches other peers before it is. Requests that arrive while a transaction is being saved share the next.
public actor AddressAllocator: GossipHandler {
    /// The channel that peers of 2.8.1 use.
    public static let channelName = "IPallocation"

    /// The time, for allocators that live in the real one.
    public typealias Clock = @Sendable () -> AllocatorTime

    private var allocator: Allocator
    private let store: any RingStore
    private let clock: Clock
    private let published: PublishedState
    private var channel: (any GossipChannel)?
    private var onLog: (@Sendable (AllocatorDirective.LogLevel, String) -> Void)?
    private var isStarted = false

    private var waiting: [RequestID: CheckedContinuation<AllocatorReply, Never>] = [:]
    private var requests: UInt64 = 0
    private var directives: [AllocatorDirective] = []
    private var isFlushing = false
    private var flushed: [CheckedContinuation<Void, Never>] = []
    /// What could not be saved yet.
    private var unsaved: RingTransaction?
    private var storeError: String?
    private var outbox: [Outgoing] = []
    private var isSending = false
    private var timer: (due: MonotonicTime, task: Task<Void, Never>)?
    private var strikes: [PeerName: [MonotonicTime]] = [:]

    private enum Outgoing {
        case unicast(PeerName, PeerMessage)
        case broadcast
    }

    /// Messages that wait to be sent; those beyond are dropped, and asked for again by whoever misses them.
    static let maximumOutbox = 4096
    /// Unreadable messages of one peer within `strikeWindow` for which its connection is kept.
    static let maximumStrikes = 3
    static let strikeWindow: Duration = .seconds(60)
    /// Peers whose unreadable messages are counted; the mesh knows no more.
    static let maximumStrikers = 1024
    /// Between attempts to save after a failure.
    static let saveRetry: Duration = .seconds(1)

    /// An allocator that is not started.
    ///
    /// - Parameters:
    ///   - seed: of the generator that spreads requests over donors and retries over time.
    ///   - clock: the time; by default that of the machine.
    ///   - onLog: what people may want to know.
    /// - Throws: `IPAMError` of code `invalidUniverse`.
    public init(
        _ configuration: AllocatorConfiguration, store: any RingStore, seed: UInt64 = .random(in: 0 ... .max),
        clock: Clock? = nil, onLog: (@Sendable (AllocatorDirective.LogLevel, String) -> Void)? = nil
    ) throws(IPAMError) {
        allocator = try Allocator(configuration, generator: SeededGenerator(seed: seed))
        self.store = store
        let clock = clock ?? machineClock()
        self.clock = clock
        self.onLog = onLog
        published = PublishedState(allocator.state(unixSeconds: clock().unixSeconds))
    }

    /// Loads what was stored and begins.
    ///
    /// - Throws: `IPAMError` of code `store` when the stored state cannot be read: nothing is given out then.
    public func start(on channel: any GossipChannel) async throws(IPAMError) {
        self.channel = channel
        let stored: StoredState?
        do {
            stored = try await store.load()
        } catch {
            throw IPAMError(.store, "cannot read the stored addresses: \(error)")
        }
        isStarted = true
        perform(allocator.onStart(stored: stored, now: clock()))
        await settle()
        if let storeError { throw IPAMError(.store, storeError) }
    }

    /// Ends all waiting requests and saves what is left. The ranges stay ours.
    public func stop() async {
        timer?.task.cancel()
        timer = nil
        for id in waiting.keys { perform(allocator.onCancel(id, now: clock())) }
        await settle()
        isStarted = false
    }

    // MARK: Requests

    /// An address of `subnet` for a name; the same one when it has one already. Waits until there is one.
    ///
    /// - Throws: `IPAMError`; of code `cancelled` when the task is cancelled.
    public func allocate(
        _ ident: String, subnet: IPv4CIDR, isContainer: Bool = true
    ) async throws(IPAMError) -> IPv4CIDR {
        let reply = await request {
            $0.onAllocate($1, ident: ident, subnet: subnet, isContainer: isContainer, now: $2)
        }
        switch reply {
        case .address(let cidr): return cidr
        case .failed(let error): throw error
        default: throw Self.strangeReply
        }
    }

    /// A certain address for a name. With `acceptsUnknown` this returns although nobody knows yet whose the address is.
    ///
    /// - Throws: `IPAMError`; of code `cancelled` when the task is cancelled.
    public func claim(
        _ ident: String, _ cidr: IPv4CIDR, isContainer: Bool = true, acceptsUnknown: Bool = false
    ) async throws(IPAMError) {
        try await finish {
            $0.onClaim(
                $1, ident: ident, cidr: cidr, isContainer: isContainer, acceptsUnknown: acceptsUnknown, now: $2)
        }
    }

    /// The addresses of a name in `range`.
    public func lookup(_ ident: String, in range: AddressRange) async -> [IPv4CIDR] {
        await settle()
        return allocator.addresses(of: ident, in: range)
    }

    /// All names and what they have.
    public func owned() async -> [String: OwnedAddresses] {
        await settle()
        return allocator.owned
    }

    /// The addresses that a name has, and those that it may use although nobody knows yet whose they are: see `claim`.
    public func held(by ident: String) async -> [IPv4CIDR] {
        await settle()
        return allocator.held(by: ident)
    }

    /// Gives one address of a name back.
    public func free(_ ident: String, _ address: IPv4Address) async throws(IPAMError) {
        try await finish { $0.onFree($1, ident: ident, address: address, now: $2) }
    }

    /// Gives all addresses of a name back.
    public func delete(_ ident: String) async throws(IPAMError) {
        try await finish { $0.onDelete($1, ident: ident, now: $2) }
    }

    /// Returns when there is a ring, or the task is cancelled.
    public func prime() async { _ = await request { $0.onPrime($1, now: $2) } }

    /// Takes over what a dead peer owned, given its nickname or name.
    ///
    /// - Returns: the number of addresses; 0 for a peer that owns nothing.
    public func takeOver(_ name: String, isForced: Bool = false) async throws(IPAMError) -> Int {
        let reply = await request { $0.onTakeover($1, of: name, isForced: isForced, now: $2) }
        switch reply {
        case .transferred(let count): return count
        case .failed(let error): throw error
        default: throw Self.strangeReply
        }
    }

    /// Carries out a step of a repair plan of `explain`.
    public func repair(_ step: RepairStep, isForced: Bool = false) async throws(IPAMError) {
        try await finish { $0.onRepair($1, step, isForced: isForced, now: $2) }
    }

    /// Leaves for good: everything goes to another peer, and all requests, now and later, end.
    public func shutdown() async {
        perform(allocator.onShutdown(now: clock()))
        await settle()
        await sent()
    }

    // MARK: Events from around

    /// A container stopped.
    public func containerDied(_ ident: String) { perform(allocator.onContainerDied(ident, now: clock())) }

    /// A container runs.
    public func containerStarted(_ ident: String) { perform(allocator.onContainerStarted(ident, now: clock())) }

    /// A container is gone for good.
    public func containerDestroyed(_ ident: String) { perform(allocator.onContainerDestroyed(ident, now: clock())) }

    /// Only these containers run.
    public func prune(keeping running: Set<String>) { perform(allocator.onPrune(keeping: running, now: clock())) }

    /// These names are gone, whether containers or not.
    public func reclaim(_ idents: [String]) { perform(allocator.onReclaim(idents, now: clock())) }

    /// These peers are in the mesh.
    public func peersChanged(_ peers: Set<PeerName>) { perform(allocator.onPeersChanged(peers, now: clock())) }

    /// The mesh has forgotten a peer.
    public func peerGone(_ peer: PeerName) { perform(allocator.onPeerGone(peer, now: clock())) }

    /// How many peers must agree on the first ring; matters until the agreement begins.
    public func setQuorum(_ quorum: Int) { allocator.quorum = quorum }

    // MARK: Questions

    /// What is going on.
    public func status() -> AllocatorStatus { allocator.status() }

    /// What is going on and why.
    public func explain() -> Explanation { allocator.explain(now: clock().monotonic) }

    /// Why nothing can be saved; nil when all is well.
    public var storeFailure: String? { storeError }

    // MARK: Gossip

    /// A request, an answer or a ring for this peer alone.
    public func onUnicast(from source: PeerName, _ payload: [UInt8]) async throws {
        guard isStarted else { return }
        let message: PeerMessage
        do throws(IPAMError) {
            message = try PeerMessage.decode(payload)
        } catch {
            return try strike(source, error)
        }
        let (directives, _) = allocator.onMessage(message, from: source, now: clock())
        perform(directives)
    }

    /// State of another peer; the own state goes on in its place.
    public func onBroadcast(from origin: PeerName, _ payload: [UInt8]) async throws -> (any GossipData)? {
        guard isStarted else { return nil }
        guard try take(payload, from: origin) else { return nil }
        return AllocatorGossip(published: published)
    }

    /// State of a neighbour; never passed on.
    public func onGossip(_ payload: [UInt8]) async throws -> (any GossipData)? {
        if isStarted { _ = try take(payload, from: nil) }
        return nil
    }

    /// The state as it is when it is sent.
    public func completeState() async -> (any GossipData)? {
        guard isStarted else { return nil }
        if directives.isEmpty, unsaved == nil, !isFlushing { publish() }
        return AllocatorGossip(published: published)
    }

    /// Takes a state in; false when it is one to be neither believed nor passed on.
    private func take(_ payload: [UInt8], from sender: PeerName?) throws -> Bool {
        let message: StateMessage
        do throws(IPAMError) {
            message = try StateMessage.decode(payload)
        } catch {
            try strike(sender ?? .unknown, error)
            return false
        }
        let (directives, error) = allocator.onState(message, from: sender, now: clock())
        perform(directives)
        return error == nil
    }

    /// One bad message is refused and the connection kept: closing it would cut off traffic too. A peer that goes on is cut off.
    private func strike(_ source: PeerName, _ error: IPAMError) throws {
        onLog?(.warning, "IPAM message of \(source) refused: \(error)")
        let now = clock().monotonic
        var recent = strikes[source, default: []].filter { now - $0 < Self.strikeWindow }
        recent.append(now)
        if strikes.count < Self.maximumStrikers || strikes[source] != nil { strikes[source] = recent }
        if recent.count > Self.maximumStrikes {
            strikes[source] = nil
            throw error
        }
    }

    // MARK: Inside

    private static let strangeReply = IPAMError(.misuse, "the allocator gave an answer of another kind")

    private func request(
        _ event: (inout Allocator, RequestID, AllocatorTime) -> [AllocatorDirective]
    ) async -> AllocatorReply {
        guard isStarted else { return .failed(IPAMError(.cancelled, "the allocator does not run")) }
        requests += 1
        let id = RequestID(requests)
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                waiting[id] = continuation
                perform(event(&allocator, id, clock()))
            }
        } onCancel: {
            Task { await self.cancel(id) }
        }
    }

    private func finish(
        _ event: (inout Allocator, RequestID, AllocatorTime) -> [AllocatorDirective]
    ) async throws(IPAMError) {
        if case .failed(let error) = await request(event) { throw error }
    }

    private func cancel(_ id: RequestID) {
        guard waiting[id] != nil else { return }
        perform(allocator.onCancel(id, now: clock()))
    }

    private func perform(_ more: [AllocatorDirective]) {
        directives += more
        armTimer()
        if !directives.isEmpty { startFlush() }
    }

    private func startFlush() {
        guard !isFlushing else { return }
        isFlushing = true
        Task { await flush() }
    }

    /// Carries out all that has gathered, again and again until nothing has.
    private func flush() async {
        repeat {
            let batch = directives
            directives = []
            let state = allocator.state(unixSeconds: clock().unixSeconds)
            let isSaved = await save(batch)
            if isSaved { published.publish(state) }
            for directive in batch { carryOut(directive, isSaved) }
        } while !directives.isEmpty
        isFlushing = false
        for continuation in flushed { continuation.resume() }
        flushed = []
    }

    /// Saves the changes of a batch as one, with those that could not be saved before.
    private func save(_ batch: [AllocatorDirective]) async -> Bool {
        var transaction = unsaved
        for case .persist(let change) in batch { transaction = transaction?.followed(by: change) ?? change }
        guard let transaction else { return true }
        do {
            try await store.save(transaction)
        } catch {
            storeError = "cannot save addresses: \(error)"
            onLog?(.error, "Cannot save addresses; nothing is given out until that works: \(error)")
            unsaved = transaction
            scheduleSave()
            return false
        }
        if unsaved != nil { enqueue(.broadcast) }
        unsaved = nil
        storeError = nil
        return true
    }

    private func scheduleSave() {
        Task { [weak self] in
            try? await Task.sleep(for: AddressAllocator.saveRetry)
            await self?.retrySave()
        }
    }

    private func retrySave() {
        if unsaved != nil { startFlush() }
    }

    private func carryOut(_ directive: AllocatorDirective, _ isSaved: Bool) {
        switch directive {
        case .persist: break
        case .log(let level, let text): onLog?(level, text)
        case .complete(let id, let reply):
            guard let continuation = waiting.removeValue(forKey: id) else { return }
            if case .failed = reply { return continuation.resume(returning: reply) }
            let error = IPAMError(.store, storeError ?? "cannot save addresses")
            continuation.resume(returning: isSaved ? reply : .failed(error))
        // Nobody hears of what is not durable. Requests are repeated, and a broadcast follows the next success.
        case .unicast(let peer, let message): if isSaved { enqueue(.unicast(peer, message)) }
        case .broadcast: if isSaved { enqueue(.broadcast) }
        }
    }

    private func publish() { published.publish(allocator.state(unixSeconds: clock().unixSeconds)) }

    private func enqueue(_ message: Outgoing) {
        if case .broadcast = message, case .broadcast? = outbox.last { return }
        guard outbox.count < Self.maximumOutbox else { return }
        outbox.append(message)
        guard !isSending else { return }
        isSending = true
        Task { await send() }
    }

    /// Sends in a task of its own: a slow connection holds no request up.
    private func send() async {
        while !outbox.isEmpty {
            switch outbox.removeFirst() {
            case .broadcast: await channel?.broadcast(AllocatorGossip(published: published))
            case .unicast(let peer, let message):
                guard let bytes = message.encode() else { continue }
                do {
                    guard let channel else { continue }
                    try await channel.unicast(to: peer, bytes)
                } catch {
                    perform(allocator.onUnicastFailed(to: peer, message, reason: "\(error)", now: clock()))
                }
            }
        }
        isSending = false
    }

    /// Waits until all that has happened so far is saved.
    private func settle() async {
        guard isFlushing else { return }
        await withCheckedContinuation { flushed.append($0) }
    }

    /// Waits until all that is to be sent is with the mesh.
    private func sent() async {
        while isSending { await Task.yield() }
    }

    private func armTimer() {
        let due = allocator.nextDeadline
        guard due != timer?.due else { return }
        timer?.task.cancel()
        timer = nil
        guard let due else { return }
        let wait = max(due - clock().monotonic, .zero)
        timer = (
            due,
            Task { [weak self] in
                guard (try? await Task.sleep(for: wait)) != nil else { return }
                await self?.tick(due)
            }
        )
    }

    private func tick(_ due: MonotonicTime) {
        guard isStarted, timer?.due == due else { return }
        timer = nil
        perform(allocator.onTick(now: clock()))
    }
}
