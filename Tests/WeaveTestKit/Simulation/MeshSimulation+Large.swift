public import WeaveCore
import WeaveMesh

/// What can be asked of a thousand peers often.
extension MeshSimulation {
    /// Starts these hosts within the first second.
    public mutating func start(_ hosts: some Sequence<Int>) {
        for host in hosts {
            events.add(.fault(.start(host)), at: now + .milliseconds(Int64.random(in: 0..<1000, using: &generator)))
        }
    }

    /// Running hosts, liars apart, that have no record of a peer.
    public func ignorant(of peer: PeerName) -> Int {
        running.count { !liars.contains($0) && hosts[$0].core?.holds(peer) != true }
    }

    /// The most peers that any honest host holds.
    public var largestTable: Int {
        running.filter { !liars.contains($0) }.reduce(0) { max($0, hosts[$1].core?.peerCount ?? 0) }
    }

    /// One number when all running hosts hold the same records of as many peers as run; nil otherwise.
    public var agreement: UInt64? {
        let alive = running
        guard let first = alive.first, let reference = hosts[first].core else { return nil }
        let fingerprint = reference.topologyFingerprint
        for host in alive {
            guard let core = hosts[host].core, core.peerCount == alive.count, core.topologyFingerprint == fingerprint
            else { return nil }
        }
        return fingerprint
    }

    /// Lets time pass until all agree and nothing changes for `quiet`.
    ///
    /// - Returns: when the last change was seen; nil when there was one within `quiet` of `limit`.
    public mutating func settle(quiet: Duration = .seconds(3), limit: Duration) -> MonotonicTime? {
        let end = now + limit
        var since: (fingerprint: UInt64, time: MonotonicTime)?
        while now < end {
            let fingerprint = agreement
            if fingerprint == nil || fingerprint != since?.fingerprint { since = fingerprint.map { ($0, now) } }
            if let since, now - since.time >= quiet { return since.time }
            run(for: .milliseconds(250))
        }
        return nil
    }

    /// How things stand, for a reader.
    public var trace: String {
        let cores = running.compactMap { hosts[$0].core }
        let versions = cores.reduce(0) { $0 + $1.ownVersion }
        let tables = cores.map(\.peerCount)
        var closes: [String: Int] = [:]
        for core in cores { closes.merge(core.statistics.closes.map { ($0.key.label, $0.value) }) { $0 + $1 } }
        let kept = cores.reduce(0) { $0 + $1.statistics.connectionsKept }
        let reasons = closes.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
        return "\(now): \(messages) messages, \(bytes >> 20) MiB, \(connectionEnds) ends, kept \(kept), "
            + "versions \(versions), tables \(tables.min() ?? 0)...\(tables.max() ?? 0), "
            + "alike \(Set(cores.map(\.topologyFingerprint)).count), closes: \(reasons)"
    }

    /// Connections of all running hosts, each end counted.
    public var connectionEnds: Int { running.reduce(0) { $0 + hosts[$1].sides.count } }
}
