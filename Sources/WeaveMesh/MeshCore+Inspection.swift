package import WeaveCore

/// What simulations of many peers look at. A status tells the same, and more than can be built a thousand times a second.
extension MeshCore {
    /// The version of our own record.
    package var ownVersion: UInt64 { table.own.version }

    /// How many peers are in the topology, ourself and those included of whom only others speak.
    package var peerCount: Int { table.count }

    /// Whether a peer is in the topology, as described by itself.
    package func holds(_ peer: PeerName) -> Bool {
        table.slot(of: peer).flatMap { table.entry($0) } != nil
    }

    /// Equal for peers that hold the same records, by name, incarnation, version and short id.
    package var topologyFingerprint: UInt64 {
        var sum: UInt64 = 0
        for slot in table.graph.present.members {
            guard let record = table.record(slot) else { continue }
            var hash = record.name.rawValue
            for part in [record.uid, record.version, UInt64(record.shortID?.rawValue ?? .max)] {
                hash = (hash ^ part) &* 0x9e37_79b9_7f4a_7c15
                hash ^= hash >> 29
            }
            sum &+= hash
        }
        return sum
    }
}
