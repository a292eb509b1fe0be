import WeaveCore

/// What was last computed from the graph.
struct RoutingState: Sendable {
    /// The next hop to each slot over all connections; -1 for none.
    var nextHops: [Int32] = []
    var ranks: [Int32] = []
    /// The membership of the table that `ranks` belongs to.
    var membership: UInt64 = 0
    /// Next hops of broadcasts over all connections, for origins that occurred.
    var broadcastHops: [PeerName: [Int]] = [:]
    var snapshot: RouteSnapshot
    var establishedChanges: UInt64 = 0

    init(_ table: PeerTable) {
        ranks = table.ranks
        membership = table.membership
        nextHops = [-1]
        establishedChanges = table.graph.establishedChanges
        snapshot = RouteSnapshot(
            table, ranks: ranks,
            nextHops: table.graph.nextHops(from: PeerTable.ourSlot, .established, ranks: ranks))
    }
}

extension MeshCore {
    /// The routes last computed.
    public var routes: MeshRoutes {
        let snapshot = routing.snapshot
        return MeshRoutes(
            ourself: configuration.name, unicast: snapshot.routes, knownPeers: snapshot.knownPeers,
            broadcastHops: { snapshot.broadcastHops(from: $0) })
    }

    /// Computes the routes for all changes since the last time, and sends what waited for them.
    mutating func recalculate(_ now: MonotonicTime) {
        timers.cancel(.routes)
        statistics.routeCalculations += 1
        if routing.membership != table.membership {
            routing.ranks = table.ranks
            routing.membership = table.membership
        }
        routing.broadcastHops.removeAll(keepingCapacity: true)
        routing.nextHops = table.graph.nextHops(from: PeerTable.ourSlot, .all, ranks: routing.ranks)
        if routing.establishedChanges != table.graph.establishedChanges {
            routing.establishedChanges = table.graph.establishedChanges
            routing.snapshot = RouteSnapshot(
                table, ranks: routing.ranks,
                nextHops: table.graph.nextHops(from: PeerTable.ourSlot, .established, ranks: routing.ranks))
            out.append(.routesChanged(routes))
        }
        let waiting = deferred
        deferred = []
        for gossip in waiting { send(gossip) }
        if !news.isEmpty, !timers.isArmed(.news) { passOnNews(now) }
    }

    package var routesAreStale: Bool { timers.isArmed(.routes) }

    /// The connection that leads towards a peer.
    mutating func connection(towards destination: PeerName, _ now: MonotonicTime) -> (hop: PeerName?, ConnectionID?) {
        func look() -> (hop: PeerName?, ConnectionID?) {
            guard let slot = table.slot(of: destination), slot < routing.nextHops.count else { return (nil, nil) }
            let hop = Int(routing.nextHops[slot])
            guard hop >= 0 else { return (nil, nil) }
            return (table.record(hop)?.name, connectionOfSlot[hop])
        }
        let found = look()
        guard found.1 == nil, routesAreStale, table.slot(of: destination) != nil else { return found }
        recalculate(now)
        return look()
    }

    /// The connections on which a broadcast that began at `origin` goes on.
    mutating func broadcastConnections(from origin: PeerName) -> [ConnectionID] {
        guard let slot = table.slot(of: origin) else { return [] }
        let hops =
            routing.broadcastHops[origin]
            ?? table.graph.broadcastHops(at: PeerTable.ourSlot, from: slot, .all, ranks: routing.ranks)
        routing.broadcastHops[origin] = hops
        return hops.compactMap { connectionOfSlot[$0] }
    }

    /// Some neighbours by chance: about twice the logarithm of the number of peers, and those through whom more peers are
    /// reached sooner than others.
    mutating func randomNeighbours(except: ConnectionID? = nil) -> [ConnectionID] {
        let exceptSlot = except.flatMap { connections[$0]?.neighbour.slot } ?? -1
        var weights: [Int: Int] = [:]
        var reached: UInt64 = 1
        for hop in routing.nextHops where hop >= 0 {
            reached += 1
            if Int(hop) != exceptSlot { weights[Int(hop), default: 0] += 1 }
        }
        var left = Self.neighbourCount(reached: reached, neighbours: weights.count)
        var candidates = weights.sorted { $0.key < $1.key }
        var total = candidates.reduce(0) { $0 + $1.value }
        var chosen: [ConnectionID] = []
        while left > 0, total > 0 {
            var point = Int.random(in: 0..<total, using: &generator)
            guard
                let index = candidates.firstIndex(where: { candidate in
                    point -= candidate.value
                    return point < 0
                })
            else { break }
            let candidate = candidates.remove(at: index)
            total -= candidate.value
            left -= 1
            if let id = connectionOfSlot[candidate.key] { chosen.append(id) }
        }
        return chosen
    }

    /// The whole part of twice the binary logarithm, which is that of the logarithm of the square.
    static func neighbourCount(reached: UInt64, neighbours: Int) -> Int {
        min(63 - (reached &* reached).leadingZeroBitCount, neighbours)
    }
}
