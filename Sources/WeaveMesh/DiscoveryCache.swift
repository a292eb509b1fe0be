import WeaveCore

/// The addresses that records mention for peers. Reading them out of all records is the dearest thing a topology can ask
/// for, so what was read serves for a while; only peers that were not looked for yet are looked for at once.
struct DiscoveryCache: Sendable {
    private var addresses: [PeerName: Set<Endpoint>] = [:]
    private var lastReading: MonotonicTime?

    /// How old addresses may be that are tried again after a failure. Backoff begins with a second.
    private static let lifetime = Duration.seconds(1)
    /// Addresses of one peer at most: each is an attempt.
    private static let addressesPerPeer = 16

    mutating func addresses(
        of candidates: SlotSet, in table: PeerTable, ourPort: UInt16, now: MonotonicTime
    ) -> Set<ConnectionMaker.Discovered> {
        guard !candidates.isEmpty else { return [] }
        if lastReading.map({ now - $0 >= Self.lifetime }) ?? true {
            addresses.removeAll(keepingCapacity: true)
            lastReading = now
        }
        let names = candidates.members.compactMap { table.record($0)?.name }
        var missing = SlotSet()
        for name in names where addresses[name] == nil {
            addresses[name] = []
            if let slot = table.slot(of: name) { missing.insert(slot) }
        }
        if !missing.isEmpty { read(missing, table, ourPort) }
        var found: Set<ConnectionMaker.Discovered> = []
        for name in names {
            for endpoint in addresses[name] ?? [] {
                found.insert(ConnectionMaker.Discovered(endpoint: endpoint, peer: name))
            }
        }
        return found
    }

    private mutating func read(_ wanted: SlotSet, _ table: PeerTable, _ ourPort: UInt16) {
        for slot in table.graph.present.members where slot != PeerTable.ourSlot {
            guard table.graph.row(slot).intersects(wanted), let record = table.record(slot) else { continue }
            record.connections.forEach { connection in
                let name = connection.name
                guard let other = table.slot(of: name), wanted.contains(other),
                    var endpoint = connection.address.endpoint
                else { return }
                // Whoever dialled tells nothing about the port on which it listens: suppose it is ours.
                if !connection.outbound { endpoint.port = ourPort }
                if addresses[name]?.count ?? 0 < Self.addressesPerPeer { addresses[name]?.insert(endpoint) }
            }
        }
    }
}
