public import WeaveCore
import WeaveMesh

/// What must hold when faults have stopped.
extension MeshSimulation {
    /// One peer's record as another knows it, in a form that can be compared.
    private struct Record: Hashable {
        var uid: UInt64
        var version: UInt64
        var shortID: ShortID?
        var connections: [String]
    }

    /// Nil when every running peer knows exactly the running peers, with the same records, and has routes to all of them;
    /// otherwise the first difference.
    public func disagreement() -> String? {
        let alive = running
        guard let first = alive.first, let reference = records(of: first) else { return "no peer runs" }
        let expected = Set(alive.map { Self.name(of: $0) })
        if Set(reference.keys) != expected {
            return "host \(first) knows \(reference.count) peers where \(expected.count) run"
        }
        for host in alive {
            // Routes are calculated a moment after the change.
            if hosts[host].core?.routesAreStale == true { return "host \(host) has yet to calculate its routes" }
            guard let known = records(of: host) else { return "host \(host) has no status" }
            for (name, record) in reference where known[name] != record {
                return "hosts \(first) and \(host) differ about \(name): \(record) and "
                    + (known[name].map { "\($0)" } ?? "nothing")
            }
            if known.count != reference.count { return "host \(host) knows \(known.count) peers" }
            if let missing = unreachable(from: host, expected) { return missing }
        }
        return sharedShortID(reference)
    }

    private func records(of host: Int) -> [PeerName: Record]? {
        guard let status = status(of: host) else { return nil }
        return Dictionary(
            status.peers.map { peer in
                let connections = peer.connections.map { "\($0.name) \($0.outbound) \($0.established)" }.sorted()
                return (
                    peer.name,
                    Record(uid: peer.uid, version: peer.version, shortID: peer.shortID, connections: connections)
                )
            }, uniquingKeysWith: { first, _ in first })
    }

    private func unreachable(from host: Int, _ expected: Set<PeerName>) -> String? {
        guard let routes = routes(of: host) else { return "host \(host) has no routes" }
        for peer in expected.sorted() where peer != routes.ourself && routes.unicast[peer] == nil {
            return "host \(host) has no route to \(peer)"
        }
        return nil
    }

    private func sharedShortID(_ records: [PeerName: Record]) -> String? {
        var owners: [ShortID: PeerName] = [:]
        for (name, record) in records.sorted(by: { $0.key < $1.key }) {
            guard let id = record.shortID else { return "\(name) has no short id" }
            if let other = owners.updateValue(name, forKey: id) { return "\(other) and \(name) share short id \(id)" }
        }
        return nil
    }

    /// Nil when following next hops from every running peer leads to every other without a loop.
    public func routeLoop() -> String? {
        let alive = running
        let tables = Dictionary(
            uniqueKeysWithValues: alive.compactMap { host in routes(of: host).map { (Self.name(of: host), $0) } })
        for source in tables.keys.sorted() {
            for target in tables.keys.sorted() where target != source {
                var at = source
                var hops = 0
                while at != target {
                    guard let next = tables[at]?.unicast[target], hops <= tables.count else {
                        return "no way from \(source) to \(target): stuck at \(at) after \(hops) hops"
                    }
                    at = next
                    hops += 1
                }
            }
        }
        return nil
    }

    /// Follows a broadcast of `source` along everybody's broadcast hops: how often it reaches each running peer.
    public func broadcastCopies(from source: Int) -> [PeerName: Int] {
        let origin = Self.name(of: source)
        let tables = Dictionary(
            uniqueKeysWithValues: running.compactMap { host in routes(of: host).map { (Self.name(of: host), $0) } })
        var copies: [PeerName: Int] = [:]
        var queue = [origin]
        while let peer = queue.popLast() {
            for hop in tables[peer]?.broadcastHops(origin) ?? [] {
                copies[hop, default: 0] += 1
                if copies[hop] == 1 { queue.append(hop) }
            }
        }
        return copies
    }

    /// Peers that have everything any running peer knows of the simulation's channel; nil when all do.
    public func missingItems() -> String? {
        let all = running.reduce(into: Set<UInt64>()) { $0.formUnion(items(of: $1)) }
        for host in running {
            let missing = all.subtracting(items(of: host))
            if !missing.isEmpty { return "host \(host) lacks \(missing.count) of \(all.count) items" }
        }
        return nil
    }
}
