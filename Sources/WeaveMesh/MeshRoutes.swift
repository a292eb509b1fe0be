public import WeaveCore

/// The ways to other peers over connections established at both ends, as data traffic takes them: an immutable
/// snapshot.
public struct MeshRoutes: Sendable {
    public let ourself: PeerName
    /// Destination to next hop. Ourself is not in it.
    public let unicast: [PeerName: PeerName]
    /// The peers to whom a broadcast that began at the given peer goes on from here. Empty when unreachable.
    /// Computed on first use and kept; safe to call from any thread.
    public let broadcastHops: @Sendable (PeerName) -> [PeerName]
    /// Every peer in the topology, ourself included.
    public let knownPeers: Set<PeerName>

    public init(
        ourself: PeerName, unicast: [PeerName: PeerName], knownPeers: Set<PeerName>,
        broadcastHops: @escaping @Sendable (PeerName) -> [PeerName]
    ) {
        self.ourself = ourself
        self.unicast = unicast
        self.knownPeers = knownPeers
        self.broadcastHops = broadcastHops
    }
}
