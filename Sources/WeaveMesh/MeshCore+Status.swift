public import WeaveCore

extension MeshCore {
    /// Peers, routes, connections and targets at this moment.
    public func status(now: MonotonicTime) -> MeshStatus {
        let snapshot = routing.snapshot
        var unicast = snapshot.routes.map { MeshStatus.UnicastRoute(destination: $0.key, via: $0.value) }
        unicast.append(MeshStatus.UnicastRoute(destination: configuration.name, via: .unknown))
        return MeshStatus(
            name: configuration.name, nickname: configuration.nickname, port: configuration.port,
            minimumProtocolVersion: configuration.minimumProtocolVersion,
            maximumProtocolVersion: configuration.maximumProtocolVersion, encryption: configuration.encryption,
            peerDiscovery: configuration.discovery, peers: peers(),
            unicastRoutes: unicast.sorted { $0.destination < $1.destination },
            broadcastRoutes: snapshot.computed.map { MeshStatus.BroadcastRoute(source: $0.origin, via: $0.hops) },
            connections: liveConnections() + maker.status(now: now), terminationCount: maker.terminationCount,
            targets: maker.directTargets, trustedSubnets: configuration.trustedSubnets)
    }

    private func peers() -> [MeshStatus.Peer] {
        var table = table
        table.refreshOwnConnections()
        return table.sortedSlots.compactMap { slot in
            guard let record = table.record(slot) else { return nil }
            var links: [MeshStatus.PeerConnection] = []
            record.connections.forEach { connection in
                links.append(
                    MeshStatus.PeerConnection(
                        name: connection.name, nickname: nickname(of: connection.name),
                        address: connection.address.description, outbound: connection.outbound,
                        established: connection.established))
            }
            return MeshStatus.Peer(
                name: record.name, nickname: nickname(of: record.name), uid: record.uid, shortID: record.shortID,
                version: record.version, connections: links.sorted { $0.name < $1.name })
        }
    }

    /// A neighbour's own word is newer than what went round about it.
    private func nickname(of name: PeerName) -> String {
        guard let slot = table.slot(of: name) else { return "" }
        if let id = connectionOfSlot[slot], let connection = connections[id] {
            return connection.neighbour.introduction.nickname
        }
        return table.record(slot)?.nickname ?? ""
    }

    private func liveConnections() -> [MeshStatus.Connection] {
        connections.values.sorted { $0.neighbour.id < $1.neighbour.id }.map { connection in
            MeshStatus.Connection(
                address: connection.neighbour.remote.description, outbound: connection.neighbour.outbound,
                state: connection.isEstablished ? .established : .pending, peer: connection.neighbour.name,
                nickname: connection.neighbour.introduction.nickname, overlay: connection.overlay)
        }
    }
}
