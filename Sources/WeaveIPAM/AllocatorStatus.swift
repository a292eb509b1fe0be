public import WeaveCore

/// A contradiction with another peer, as it is remembered.
struct RecordedConflict: Sendable {
    var source: PeerName
    var error: IPAMError
    var firstSeen: MonotonicTime
    var lastSeen: MonotonicTime
    /// When people were told last.
    var lastTold: MonotonicTime
    var count: Int
}

/// What an allocator is doing, for status pages, reports and metrics.
public struct AllocatorStatus: Sendable {
    /// The state in one word, or a few.
    public enum Condition: Sendable, Hashable, CustomStringConvertible {
        /// No peer that owns anything is in the mesh.
        case ownersUnreachable
        case waitingForAddresses
        case ready
        case awaitingConsensus(quorum: Int, known: Int)
        /// An observer waits for somebody's ring.
        case priming
        case idle

        public var description: String {
            switch self {
            case .ownersUnreachable:
                "all IP ranges owned by unreachable peers - use 'rmpeer' if they are dead"
            case .waitingForAddresses: "waiting for IP(s) to become available"
            case .ready: "ready"
            case .awaitingConsensus(let quorum, let known): "awaiting consensus (quorum: \(quorum), known: \(known))"
            case .priming: "priming"
            case .idle: "idle"
            }
        }
    }

    /// A span of the ring.
    public struct Entry: Sendable, Hashable {
        public var token: IPv4Address
        /// The number of addresses.
        public var size: Int
        public var peer: PeerName
        public var nickname: String
        /// Whether the peer is in the mesh.
        public var isKnownPeer: Bool
        public var version: UInt32
    }

    /// What one peer owns.
    public struct Owner: Sendable, Hashable {
        public var peer: PeerName
        public var nickname: String
        /// The number of addresses.
        public var count: Int
        public var isKnownPeer: Bool
    }

    /// A first agreement under way.
    public struct ConsensusStatus: Sendable, Hashable {
        public var isElector: Bool
        public var knownNodes: Int
        public var quorum: Int
    }

    public var condition: Condition
    public var peer: PeerName
    public var universe: IPv4CIDR
    /// The number of addresses in the universe.
    public var universeCount: Int
    /// Addresses of the ring given out here.
    public var activeCount: Int
    /// Nil unless an agreement is awaited.
    public var consensus: ConsensusStatus?
    public var entries: [Entry]
    /// Ourselves first, then the others by name.
    public var owners: [Owner]
    /// Claims that wait: the name and the address.
    public var pendingClaims: [(ident: String, cidr: IPv4CIDR)]
    /// Allocations that wait: the name and the subnet.
    public var pendingAllocations: [(ident: String, subnet: IPv4CIDR)]
    public var pendingPrimes: Int
    /// Peers with which this one does not agree about the ring, and how they say it.
    public var conflicts: [(source: PeerName, error: IPAMError)]
    /// Messages of a kind that is not known, passed over.
    public var unknownMessages: Int

    /// Peers that own something and are not in the mesh.
    public var unreachableOwners: [Owner] { owners.filter { !$0.isKnownPeer } }

    /// The part of the universe that belongs to peers not in the mesh, 0...1.
    public var unreachableShare: Double {
        Double(unreachableOwners.reduce(0) { $0 + $1.count }) / Double(max(universeCount, 1))
    }
}

extension Allocator {
    /// What is going on.
    public func status() -> AllocatorStatus {
        let entries = ring.entries.indices.map { index in
            let entry = ring.entries[index]
            return AllocatorStatus.Entry(
                token: entry.token, size: ring.span(index), peer: entry.peer, nickname: nicknames[entry.peer] ?? "",
                isKnownPeer: isPresent(entry.peer), version: entry.version)
        }
        return AllocatorStatus(
            condition: condition(entries), peer: peer, universe: configuration.universe,
            universeCount: ring.universe.count, activeCount: activeCount,
            consensus: isAwaitingConsensus && ring.isEmpty
                ? AllocatorStatus.ConsensusStatus(
                    isElector: consensus != nil, knownNodes: consensus?.participants ?? 0,
                    quorum: consensus?.quorum ?? 0) : nil,
            entries: entries, owners: owners(entries), pendingClaims: claims.map { ($0.ident, $0.cidr) },
            pendingAllocations: allocations.map { ($0.ident, $0.subnet) }, pendingPrimes: primes.count,
            conflicts: conflicts.values.sorted { $0.source < $1.source }.map { ($0.source, $0.error) },
            unknownMessages: unknownMessages)
    }

    private var activeCount: Int {
        owned.values.reduce(0) { $0 + $1.cidrs.count { ring.contains($0.address) } }
    }

    private func condition(_ entries: [AllocatorStatus.Entry]) -> AllocatorStatus.Condition {
        if !entries.isEmpty {
            if !entries.contains(where: { $0.size > 0 && $0.isKnownPeer }) { return .ownersUnreachable }
            return allocations.isEmpty ? .ready : .waitingForAddresses
        }
        guard isAwaitingConsensus else { return .idle }
        guard let consensus else { return .priming }
        return .awaitingConsensus(quorum: consensus.quorum, known: consensus.participants)
    }

    private func owners(_ entries: [AllocatorStatus.Entry]) -> [AllocatorStatus.Owner] {
        var sums: [PeerName: AllocatorStatus.Owner] = [:]
        for entry in entries {
            sums[
                entry.peer,
                default: AllocatorStatus.Owner(
                    peer: entry.peer, nickname: entry.nickname, count: 0, isKnownPeer: entry.isKnownPeer)
            ].count += entry.size
        }
        return sums.values.sorted { ($0.peer == peer ? 0 : 1, $0.peer) < ($1.peer == peer ? 0 : 1, $1.peer) }
    }
}
