import Synchronization
public import WeaveCore

/// A change of what is kept, to be made durable as a whole or not at all.
public struct RingTransaction: Sendable, Hashable {
    /// Whose state this is.
    public var peer: PeerName
    /// The new ring; nil leaves the stored one.
    public var ring: Ring?
    /// Whether all addresses stored so far are dropped first.
    public var dropsOwned: Bool
    /// What names have now; nil for names that have nothing any more. Names not mentioned stay as they are.
    public var owned: [String: OwnedAddresses?]

    /// Makes a transaction.
    public init(
        peer: PeerName, ring: Ring? = nil, dropsOwned: Bool = false, owned: [String: OwnedAddresses?] = [:]
    ) {
        self.peer = peer
        self.ring = ring
        self.dropsOwned = dropsOwned
        self.owned = owned
    }

    /// This change and then `later`, as one.
    public func followed(by later: RingTransaction) -> RingTransaction {
        var both = self
        both.peer = later.peer
        if let ring = later.ring { both.ring = ring }
        if later.dropsOwned {
            both.dropsOwned = true
            both.owned = later.owned
        } else {
            both.owned.merge(later.owned) { $1 }
        }
        return both
    }
}

/// What a store holds: always the state after some transaction, never between two.
public struct StoredState: Sendable, Hashable {
    public var peer: PeerName
    public var ring: Ring?
    public var owned: [String: OwnedAddresses]

    /// Makes a state.
    public init(peer: PeerName, ring: Ring?, owned: [String: OwnedAddresses]) {
        self.peer = peer
        self.ring = ring
        self.owned = owned
    }

    /// Makes the change.
    public mutating func apply(_ transaction: RingTransaction) {
        peer = transaction.peer
        if let ring = transaction.ring { self.ring = ring }
        if transaction.dropsOwned { owned = [:] }
        for (ident, addresses) in transaction.owned { owned[ident] = addresses }
    }
}

/// Keeps the state of an allocator across restarts.
public protocol RingStore: Sendable {
    /// What was saved last; nil when nothing ever was.
    ///
    /// - Throws: when there is something and it cannot be read.
    func load() async throws -> StoredState?

    /// Saves a change. When this returns, the change survives a crash of the machine; when it throws, the state is as before.
    func save(_ transaction: RingTransaction) async throws
}

/// A store in memory, for tests and for peers that need no memory of themselves.
public final class InMemoryRingStore: RingStore {
    private let state: Mutex<StoredState?>

    /// A store that holds `state`.
    public init(_ state: StoredState? = nil) { self.state = Mutex(state) }

    /// The record saved last; nil when there is none.
    public func load() async throws -> StoredState? { state.withLock { $0 } }

    /// Keeps the record in memory.
    public func save(_ transaction: RingTransaction) async throws { apply(transaction) }

    /// What is held now.
    public var contents: StoredState? { state.withLock { $0 } }

    /// Saves without waiting.
    func apply(_ transaction: RingTransaction) {
        state.withLock { state in
            var changed = state ?? StoredState(peer: transaction.peer, ring: nil, owned: [:])
            changed.apply(transaction)
            state = changed
        }
    }
}
