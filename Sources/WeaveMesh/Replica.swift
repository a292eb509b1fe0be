public import WeaveCore

/// This peer's copy of data that all peers of a mesh share.
public actor Replica<Value: ReplicatedData> {
    /// The data as known here.
    public private(set) var value: Value

    private let channel: any GossipChannel
    private var observers: [UInt64: AsyncStream<Value>.Continuation] = [:]
    private var nextObserver: UInt64 = 0

    init(_ value: Value, channel: any GossipChannel) {
        self.value = value
        self.channel = channel
    }

    /// Changes the data here and tells everybody what is new.
    @discardableResult
    public func update<Outcome: Sendable>(
        _ change: @Sendable (inout Value) throws -> Outcome
    ) async rethrows -> Outcome {
        var known = value
        let result = try change(&value)
        if let news = known.merge(value) {
            notify()
            await channel.broadcast(ReplicaData(value: news))
        }
        return result
    }

    /// The data now and after each change. A reader that is slow sees the newest and misses those between.
    public func values() -> AsyncStream<Value> {
        let (stream, continuation) = AsyncStream.makeStream(of: Value.self, bufferingPolicy: .bufferingNewest(1))
        nextObserver += 1
        let key = nextObserver
        observers[key] = continuation
        continuation.onTermination = { [weak self] _ in
            Task { await self?.forget(key) }
        }
        continuation.yield(value)
        return stream
    }

    private func forget(_ key: UInt64) { observers[key] = nil }

    private func notify() {
        for observer in observers.values { observer.yield(value) }
    }

    func merge(_ other: Value) -> Value? {
        let news = value.merge(other)
        if news != nil { notify() }
        return news
    }
}

/// Replicated data on its way.
struct ReplicaData<Value: ReplicatedData>: GossipData {
    var value: Value

    func merged(with newer: any GossipData) -> any GossipData {
        guard let newer = newer as? ReplicaData else { return newer }
        var both = self
        _ = both.value.merge(newer.value)
        return both
    }

    func encode() -> [[UInt8]] { [value.encode()] }
}

/// Receives for a replica. It is registered before the replica exists, because the replica needs the channel.
actor ReplicaHandler<Value: ReplicatedData>: GossipHandler {
    private var replica: Replica<Value>?

    func attach(_ replica: Replica<Value>) { self.replica = replica }

    func onUnicast(from source: PeerName, _ payload: [UInt8]) async throws { _ = try await onGossip(payload) }

    func onBroadcast(from origin: PeerName, _ payload: [UInt8]) async throws -> (any GossipData)? {
        let received = try Value(decoding: payload)
        _ = await replica?.merge(received)
        return ReplicaData(value: received)
    }

    func onGossip(_ payload: [UInt8]) async throws -> (any GossipData)? {
        await replica?.merge(try Value(decoding: payload)).map { ReplicaData(value: $0) }
    }

    func completeState() async -> (any GossipData)? {
        guard let replica else { return nil }
        return ReplicaData(value: await replica.value)
    }
}

extension MeshRouter {
    /// Shares data with all peers that replicate the same channel.
    ///
    /// - Throws: when the channel is taken.
    public func replicate<Value: ReplicatedData>(
        _ channel: String, initial: Value
    ) async throws(GossipError) -> Replica<Value> {
        let handler = ReplicaHandler<Value>()
        let sender = try register(channel, handler)
        let replica = Replica(initial, channel: sender)
        await handler.attach(replica)
        return replica
    }
}
