import Synchronization
import WeaveCore

/// The graph at one moment with what was computed from it. Broadcast hops are computed for an origin when they are
/// first asked for, on whatever thread that is.
final class RouteSnapshot: Sendable {
    private let graph: TopologyGraph
    private let names: [PeerName]
    private let slots: [PeerName: Int]
    private let ranks: [Int32]
    private let hops = Mutex<[PeerName: [PeerName]]>([:])
    let routes: [PeerName: PeerName]

    init(_ table: PeerTable, ranks: [Int32], nextHops: [Int32]) {
        graph = table.graph
        names = table.names
        self.ranks = ranks
        var slots: [PeerName: Int] = [:]
        slots.reserveCapacity(table.count)
        var routes: [PeerName: PeerName] = [:]
        routes.reserveCapacity(table.count)
        for (slot, name) in names.enumerated() where name != .unknown {
            slots[name] = slot
            let hop = Int(nextHops[slot])
            if hop >= 0 { routes[name] = names[hop] }
        }
        self.slots = slots
        self.routes = routes
    }

    var knownPeers: Set<PeerName> { Set(slots.keys) }

    /// The origins for which hops were asked, with their hops.
    var computed: [(origin: PeerName, hops: [PeerName])] {
        hops.withLock { hops in hops.map { ($0.key, $0.value) } }.sorted { $0.0 < $1.0 }
    }

    func broadcastHops(from origin: PeerName) -> [PeerName] {
        hops.withLock { hops in
            if let known = hops[origin] { return known }
            // Origins that are not in the topology are not kept: anybody can invent them.
            guard let slot = slots[origin] else { return [] }
            let found = graph.broadcastHops(at: PeerTable.ourSlot, from: slot, .established, ranks: ranks)
                .map { names[$0] }
            hops[origin] = found
            return found
        }
    }
}
