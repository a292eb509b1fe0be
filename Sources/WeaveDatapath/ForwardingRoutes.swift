public import WeaveCore

/// The ways to other peers as the packet path uses them: an immutable snapshot.
public struct ForwardingRoutes: Sendable {
    public let ourself: PeerName
    /// Destination to next hop. Ourself is not in it.
    public let unicast: [PeerName: PeerName]
    /// Every peer in the topology, ourself included.
    public let knownPeers: Set<PeerName>
    /// The peers to whom a broadcast that began at the given peer goes on from here. Safe from any thread.
    public let broadcastHops: @Sendable (PeerName) -> [PeerName]
    /// `broadcastHops(ourself)`, computed once.
    public let ownBroadcastHops: [PeerName]
    private let table: PeerTable

    public init(
        ourself: PeerName, unicast: [PeerName: PeerName], knownPeers: Set<PeerName>,
        broadcastHops: @escaping @Sendable (PeerName) -> [PeerName]
    ) {
        self.ourself = ourself
        self.unicast = unicast
        self.knownPeers = knownPeers.union([ourself])
        self.broadcastHops = broadcastHops
        ownBroadcastHops = broadcastHops(ourself)
        table = PeerTable(peers: self.knownPeers.union(unicast.keys), known: self.knownPeers, hops: unicast)
    }

    /// Routes of a peer that knows nobody else.
    public static func alone(_ ourself: PeerName) -> ForwardingRoutes {
        ForwardingRoutes(ourself: ourself, unicast: [:], knownPeers: [ourself]) { _ in [] }
    }

    /// Whether the topology has the peer.
    public func knows(_ peer: PeerName) -> Bool { table.lookup(peer).known }

    /// The neighbour through which `peer` is reached, nil when it is not.
    public func nextHop(to peer: PeerName) -> PeerName? {
        let hop = table.lookup(peer).hop
        return hop == PeerName.unknown.rawValue ? nil : PeerName(truncating: hop)
    }
}

/// Peers and next hops in one flat table: a lookup is one or two loads, where a dictionary costs tens of nanoseconds.
private struct PeerTable: Sendable {
    struct Slot { var key: UInt64; var hop: UInt64; var known: Bool }
    private var slots: [Slot]
    private let mask: Int

    /// Bit 63 marks a used slot, so that a peer named zero is found too.
    private static let used: UInt64 = 1 << 63

    init(peers: Set<PeerName>, known: Set<PeerName>, hops: [PeerName: PeerName]) {
        var capacity = 8
        while capacity < peers.count * 2 { capacity *= 2 }
        mask = capacity - 1
        slots = Array(repeating: Slot(key: 0, hop: 0, known: false), count: capacity)
        for peer in peers {
            let key = peer.rawValue | Self.used
            var index = flatHash(peer.rawValue) & mask
            while slots[index].key != 0 { index = (index + 1) & mask }
            slots[index] = Slot(key: key, hop: hops[peer]?.rawValue ?? 0, known: known.contains(peer))
        }
    }

    func lookup(_ peer: PeerName) -> (known: Bool, hop: UInt64) {
        let key = peer.rawValue | Self.used
        var index = flatHash(peer.rawValue) & mask
        // At most half full, so an empty slot ends the walk.
        while slots[index].key != 0 {
            if slots[index].key == key { return (slots[index].known, slots[index].hop) }
            index = (index + 1) & mask
        }
        return (false, 0)
    }
}

/// Spreads 48-bit names and addresses over a table: a multiplication whose high bits are taken.
@inline(__always)
func flatHash(_ value: UInt64) -> Int { Int(truncatingIfNeeded: (value &* 0x9e37_79b9_7f4a_7c15) >> 32) }
