import WeaveCore

/// A full peer must not keep a newcomer out of the mesh, nor two full islands stay apart: for a peer that nobody here
/// reaches yet, a connection goes whose peer is reached another way.
extension MeshCore {
    /// Newcomers for whom room is made at most so often: whoever invents names does not tear the mesh apart.
    static let roomInterval = Duration.seconds(1)

    /// The connection to give up for a peer called `name`, or whose name is not known; nil when it is in the mesh
    /// already, or none can be spared.
    func spareConnection(for name: PeerName?) -> ConnectionID? {
        if let name, table.slot(of: name) != nil { return nil }
        let spare = connections.values.map(\.neighbour).filter { neighbour in
            table.graph.isReachableAnotherWay(neighbour.slot, from: PeerTable.ourSlot)
        }
        // The peer with most connections loses least.
        return spare.max {
            (table.graph.rowCount($0.slot), $1.id) < (table.graph.rowCount($1.slot), $0.id)
        }?.id
    }

    /// Gives up a connection for a newcomer, when there is one to spare.
    mutating func makeRoom(for name: PeerName, _ now: MonotonicTime) {
        guard now >= nextRoom, let spare = spareConnection(for: name) else { return }
        nextRoom = now + Self.roomInterval
        let reason = "Connection limit reached (\(configuration.connectionLimit)): making room for \(name)"
        end(spare, .room, reason: reason, now)
    }
}

extension PeerTable {
    /// Whether a peer would refuse us as things stand: it is in the mesh already, and has just as many connections as our
    /// own `limit`, which is commonly everybody's. Whoever has more has another limit, and perhaps a place.
    func hasNoPlace(_ slot: Int, limit: Int, _ nextHops: [Int32]) -> Bool {
        limit > 0 && slot < nextHops.count && nextHops[slot] >= 0 && graph.rowCount(slot) == limit
    }
}

extension TopologyGraph {
    /// Whether `target` is reached from `origin` when the link between the two does not count.
    func isReachableAnotherWay(_ target: Int, from origin: Int) -> Bool {
        var visited = SlotSet()
        visited.insert(origin)
        var queue = [origin]
        while let current = queue.popLast() {
            var new = row(current)
            new.subtract(visited)
            if current == origin { new.remove(target) }
            if new.contains(target) { return true }
            visited.formUnion(new)
            queue += new.members
        }
        return false
    }
}
