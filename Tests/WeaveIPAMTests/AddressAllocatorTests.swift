import Synchronization
import Testing
import WeaveCore

@testable import WeaveIPAM

/// A store that can be told to wait, and to fail.
private final class TroubledStore: RingStore {
    struct Full: Error, CustomStringConvertible { let description = "disk full" }

    let memory: InMemoryRingStore
    private let state = Mutex<(isFailing: Bool, isBlocked: Bool, saves: Int)>((false, false, 0))

    init(_ state: StoredState? = nil) { memory = InMemoryRingStore(state) }

    func load() async throws -> StoredState? {
        if isFailing { throw Full() }
        return try await memory.load()
    }

    func save(_ transaction: RingTransaction) async throws {
        while state.withLock({ $0.isBlocked }) { try? await Task.sleep(for: .milliseconds(1)) }
        state.withLock { $0.saves += 1 }
        if isFailing { throw Full() }
        try await memory.save(transaction)
    }

    var isFailing: Bool {
        get { state.withLock { $0.isFailing } }
        set { state.withLock { $0.isFailing = newValue } }
    }

    var isBlocked: Bool {
        get { state.withLock { $0.isBlocked } }
        set { state.withLock { $0.isBlocked = newValue } }
    }

    var saves: Int { state.withLock { $0.saves } }
}

private final class Counter: Sendable {
    private let count = Mutex(0)

    func add() { count.withLock { $0 += 1 } }

    var value: Int { count.withLock { $0 } }
}

@Suite("The allocator among others") struct AddressAllocatorTests {
    private static let universe = cidr("10.0.0.0/24")

    private func configuration(
        _ number: Int, quorum: Int = 1, start: AllocatorConfiguration.Start = .consensus
    ) -> AllocatorConfiguration {
        var policy = AllocatorPolicy.standard
        policy.firstRetry = .milliseconds(50)
        return AllocatorConfiguration(
            peer: testPeer(number), uid: UInt64(number), nickname: "host\(number)", universe: Self.universe,
            start: start,
            quorum: quorum, policy: policy)
    }

    private func started(
        _ number: Int, in gossip: LocalGossip, store: any RingStore = InMemoryRingStore(), quorum: Int = 1,
        start: AllocatorConfiguration.Start = .consensus
    ) async throws -> AddressAllocator {
        let allocator = try AddressAllocator(
            configuration(number, quorum: quorum, start: start), store: store, seed: UInt64(number))
        let channel = await gossip.join(testPeer(number), allocator)
        try await allocator.start(on: channel)
        await gossip.introduce(testPeer(number))
        return allocator
    }

    /// Fails when `condition` does not come true in good time.
    private func eventually(_ what: Comment, _ condition: () async -> Bool) async {
        for _ in 0..<2000 {
            if await condition() { return }
            try? await Task.sleep(for: .milliseconds(2))
        }
        Issue.record(what)
    }

    @Test("three peers agree on a ring and give out 200 addresses at once, no two alike")
    func three() async throws {
        let gossip = LocalGossip()
        var allocators: [AddressAllocator] = []
        for number in 1...3 { allocators.append(try await started(number, in: gossip, quorum: 2)) }
        let given = try await withThrowingTaskGroup(of: IPv4CIDR.self) { group in
            for number in 0..<200 {
                let allocator = allocators[number % 3]
                group.addTask { try await allocator.allocate("c\(number)", subnet: Self.universe) }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(Set(given.map(\.address)).count == 200)
        #expect(await allocators[0].status().owners.count == 3)
        for (number, allocator) in allocators.enumerated() {
            let name = "c\(number)"
            #expect(await allocator.lookup(name, in: Self.universe.range).count == 1)
            try await allocator.delete(name)
            #expect(await allocator.lookup(name, in: Self.universe.range).isEmpty)
            await allocator.stop()
        }
    }

    @Test("one peer's addresses run out: the next comes from another peer")
    func donation() async throws {
        let gossip = LocalGossip()
        let seed = AllocatorConfiguration.Start.seed([testPeer(1), testPeer(2)])
        let first = try await started(1, in: gossip, start: seed)
        let second = try await started(2, in: gossip, start: seed)
        let address = try await first.allocate("c1", subnet: cidr("10.0.0.128/25"))
        #expect(cidr("10.0.0.128/25").contains(address.address))
        await eventually("the ring got around") {
            let (left, right) = (await first.status(), await second.status())
            return left.entries.map(\.token) == right.entries.map(\.token)
        }
        await first.stop()
        await second.stop()
    }

    @Test("a wait ends when its task is cancelled")
    func cancellation() async throws {
        let gossip = LocalGossip()
        let allocator = try await started(1, in: gossip, quorum: 2)
        let task = Task { try await allocator.allocate("c1", subnet: Self.universe) }
        await eventually("the request waits") { await allocator.status().pendingAllocations.count == 1 }
        task.cancel()
        await #expect(throws: IPAMError(.cancelled, "Allocate request for c1 cancelled")) { try await task.value }
        #expect(await allocator.status().pendingAllocations.isEmpty)
        // A task that was cancelled before it asked.
        let late = Task {
            unsafe withUnsafeCurrentTask { unsafe $0?.cancel() }
            return try await allocator.allocate("c2", subnet: Self.universe)
        }
        await #expect(throws: IPAMError.self) { try await late.value }
        // A caller that lost patience, and one whose container died.
        let dying = Task { try await allocator.allocate("c3", subnet: Self.universe) }
        await eventually("the request waits") { await allocator.status().pendingAllocations.count == 1 }
        await allocator.containerDied("c3")
        await #expect(throws: IPAMError.self) { try await dying.value }
        await allocator.stop()
    }

    @Test("stopping ends what waits")
    func stop() async throws {
        let gossip = LocalGossip()
        let allocator = try await started(1, in: gossip, quorum: 2)
        let task = Task { try await allocator.allocate("c1", subnet: Self.universe) }
        let prime = Task { await allocator.prime() }
        await eventually("the request waits") { await allocator.status().pendingPrimes == 1 }
        await allocator.stop()
        await #expect(throws: IPAMError.self) { try await task.value }
        await prime.value
        await #expect(throws: IPAMError.self) { try await allocator.allocate("c2", subnet: Self.universe) }
    }

    @Test("nothing is answered, and nobody hears of it, before it is saved; requests that wait share a transaction")
    func durability() async throws {
        let gossip = LocalGossip()
        let store = TroubledStore()
        let allocator = try await started(1, in: gossip, store: store)
        await allocator.prime()
        let before = store.saves
        store.isBlocked = true
        let answers = Counter()
        let tasks = (0..<50).map { number in
            Task {
                let given = try await allocator.allocate("c\(number)", subnet: Self.universe)
                answers.add()
                return given
            }
        }
        await eventually("the requests are in") { await allocator.status().activeCount == 50 }
        let told = try StateMessage.decode(try #require(await allocator.completeState()?.encode().first))
        #expect(told.ring?.entries.first?.free == 256, "others hear what is durable")
        #expect(answers.value == 0)
        store.isBlocked = false
        var given: Set<IPv4Address> = []
        for task in tasks { given.insert(try await task.value.address) }
        #expect(given.count == 50)
        #expect(store.saves - before <= 3)
        #expect(store.memory.contents?.owned.count == 50)
        await allocator.stop()
    }

    @Test("a full disk: clear errors, no other peer told, and the same address once there is room")
    func fullDisk() async throws {
        let gossip = LocalGossip()
        let store = TroubledStore()
        let allocator = try await started(1, in: gossip, store: store)
        let first = try await allocator.allocate("c1", subnet: Self.universe)
        store.isFailing = true
        do {
            _ = try await allocator.allocate("c2", subnet: Self.universe)
            Issue.record("an address was given that could not be saved")
        } catch {
            #expect(error.code == .store && error.message.contains("disk full"))
        }
        #expect(await allocator.storeFailure != nil)
        #expect(store.memory.contents?.owned.count == 1)
        let told = try StateMessage.decode(try #require(await allocator.completeState()?.encode().first))
        #expect(told.ring == store.memory.contents?.ring)
        store.isFailing = false
        let second = try await allocator.allocate("c2", subnet: Self.universe)
        #expect(second != first)
        #expect(store.memory.contents?.owned["c2"]?.cidrs == [second])
        #expect(await allocator.storeFailure == nil)
        await allocator.stop()
    }

    @Test("what could not be saved is saved later even when nobody asks")
    func savedLater() async throws {
        let gossip = LocalGossip()
        let store = TroubledStore()
        let allocator = try await started(1, in: gossip, store: store)
        store.isFailing = true
        await #expect(throws: IPAMError.self) { try await allocator.allocate("c1", subnet: Self.universe) }
        store.isFailing = false
        await eventually("the change is saved") { store.memory.contents?.owned["c1"] != nil }
        await allocator.stop()
    }

    @Test("a store that cannot be read gives a clear error and nothing else")
    func unreadable() async throws {
        let store = TroubledStore()
        store.isFailing = true
        let allocator = try AddressAllocator(configuration(1), store: store)
        let channel = await LocalGossip().join(testPeer(1), allocator)
        await #expect(throws: IPAMError(.store, "cannot read the stored addresses: disk full")) {
            try await allocator.start(on: channel)
        }
        await #expect(throws: IPAMError.self) { try await allocator.allocate("c1", subnet: Self.universe) }
    }

    @Test("after a restart the same names have the same addresses, and others get others")
    func restart() async throws {
        let gossip = LocalGossip()
        let store = InMemoryRingStore()
        let before = try await started(1, in: gossip, store: store)
        let first = try await before.allocate("c1", subnet: Self.universe)
        let second = try await before.allocate("c2", subnet: Self.universe)
        await before.stop()
        let after = try await started(1, in: gossip, store: store)
        #expect(try await after.allocate("c1", subnet: Self.universe) == first)
        let third = try await after.allocate("c3", subnet: Self.universe)
        #expect(![first, second].contains(third))
        await after.prune(keeping: ["c2"])
        #expect(await after.owned().keys.sorted() == ["c2"])
        await after.stop()
    }

    @Test("a bad message is refused and the connection kept, unless it goes on")
    func strikes() async throws {
        let gossip = LocalGossip()
        let allocator = try await started(1, in: gossip)
        for _ in 0..<AddressAllocator.maximumStrikes {
            await #expect(throws: Never.self) { try await allocator.onUnicast(from: testPeer(2), [1, 2, 3]) }
            await #expect(throws: Never.self) { try await allocator.onUnicast(from: testPeer(3), []) }
            await #expect(throws: Never.self) { _ = try await allocator.onGossip([9]) }
        }
        await #expect(throws: IPAMError.self) { try await allocator.onUnicast(from: testPeer(2), [1, 2, 3]) }
        await #expect(throws: IPAMError.self) { try await allocator.onUnicast(from: testPeer(3), []) }
        await #expect(throws: IPAMError.self) { _ = try await allocator.onBroadcast(from: .unknown, []) }
        for tag in UInt8(3)...20 {
            await #expect(throws: Never.self) { try await allocator.onUnicast(from: testPeer(4), [tag]) }
        }
        #expect(await allocator.status().unknownMessages == 18)
        await allocator.stop()
    }

    @Test("a ring that contradicts ours closes no connection; it is refused, not passed on, and told")
    func contradiction() async throws {
        let gossip = LocalGossip()
        let left = try await started(1, in: gossip)
        _ = try await left.allocate("c1", subnet: Self.universe)
        let other = try await started(2, in: LocalGossip())
        _ = try await other.allocate("d1", subnet: Self.universe)
        let theirs = try #require(await other.completeState()?.encode().first)
        let passedOn = try await left.onBroadcast(from: testPeer(2), theirs)
        #expect(passedOn == nil)
        #expect(await left.status().conflicts.count == 1)
        #expect(await left.explain().contradictions.first?.plan == [.startOver])
        await left.stop()
        await other.stop()
    }

    @Test("leaving hands everything to another peer")
    func shutdown() async throws {
        let gossip = LocalGossip()
        let seed = AllocatorConfiguration.Start.seed([testPeer(1), testPeer(2)])
        let first = try await started(1, in: gossip, start: seed)
        let second = try await started(2, in: gossip, start: seed)
        await first.shutdown()
        await eventually("the heir has everything") { await second.status().owners.map(\.count) == [256] }
        await #expect(throws: IPAMError.self) { try await first.allocate("c1", subnet: Self.universe) }
        _ = try await second.allocate("c1", subnet: cidr("10.0.0.0/25"))
        await first.stop()
        await second.stop()
    }

    @Test("a dead peer is taken over by name, and a present one only by force")
    func takeOver() async throws {
        let gossip = LocalGossip()
        let seed = AllocatorConfiguration.Start.seed([testPeer(1), testPeer(2)])
        let first = try await started(1, in: gossip, start: seed)
        await first.peersChanged([testPeer(1), testPeer(2)])
        await #expect(throws: IPAMError.self) { try await first.takeOver(testPeer(2).description) }
        await first.peersChanged([testPeer(1)])
        await first.peerGone(testPeer(2))
        #expect(try await first.takeOver(testPeer(2).description) == 128)
        #expect(try await first.takeOver("nobody") == 0)
        try await first.claim("c1", cidr("10.0.0.200/24"))
        await #expect(throws: IPAMError(.inUse, "address 10.0.0.200/24 is already owned by c1")) {
            try await first.claim("c2", cidr("10.0.0.200/24"))
        }
        try await first.free("c1", ip("10.0.0.200"))
        await first.stop()
    }
}
