import WeaveCore
import WeaveMesh

/// The object of `/report`: keys, their order and the use of `null` are those of 2.8.1.
struct StatusReport {
    let status: DaemonStatus

    private var mesh: MeshStatus { status.mesh }

    var value: ReportValue {
        .object(
            [
                .init("Ready", .bool(true)),
                .init("Version", .text(WeaveNetVersion.current)),
                .init(
                    "VersionCheck",
                    .object([
                        .init("Enabled", .bool(false)), .init("Success", .bool(false)), .init("NewVersion", .text("")),
                        .init("NextCheckAt", .text("0001-01-01T00:00:00Z")),
                    ])),
                .init("Router", router),
            ] + (status.addresses.map { [.init("IPAM", $0.report)] } ?? []))
    }

    private var router: ReportValue {
        .object([
            .init("Protocol", .text("weave")),
            .init("ProtocolMinVersion", .signed(mesh.minimumProtocolVersion)),
            .init("ProtocolMaxVersion", .signed(mesh.maximumProtocolVersion)),
            .init("Encryption", .bool(mesh.encryption)),
            .init("PeerDiscovery", .bool(mesh.peerDiscovery)),
            .init("Name", .text("\(mesh.name)")),
            .init("NickName", .text(mesh.nickname)),
            .init("Port", .signed(Int(mesh.port))),
            .init("Peers", .listOrNull(mesh.peers.map(peer))),
            .init(
                "UnicastRoutes",
                .listOrNull(
                    mesh.unicastRoutes.map {
                        .object([.init("Dest", .text("\($0.destination)")), .init("Via", .text("\($0.via)"))])
                    })),
            .init(
                "BroadcastRoutes",
                .listOrNull(
                    mesh.broadcastRoutes.map {
                        .object([
                            .init("Source", .text("\($0.source)")),
                            .init("Via", .listOrNull($0.via.map { .text("\($0)") })),
                        ])
                    })),
            .init("Connections", .listOrNull(mesh.connections.map(connection))),
            .init("TerminationCount", .signed(mesh.terminationCount)),
            .init("Targets", .listOrNull(mesh.targets.map { .text($0) })),
            .init("OverlayDiagnostics", .object([.init("sleeve", .null)])),
            .init("TrustedSubnets", .list(mesh.trustedSubnets.map { .text("\($0)") })),
            .init("Interface", .text(status.interface)),
            .init("CaptureStats", .object(status.counters.map { .init($0.name, .unsigned($0.value)) })),
            .init("MACs", .listOrNull(status.macs.map(mac))),
        ])
    }

    private func peer(_ peer: MeshStatus.Peer) -> ReportValue {
        .object([
            .init("Name", .text("\(peer.name)")),
            .init("NickName", .text(peer.nickname)),
            .init("UID", .unsigned(peer.uid)),
            .init("ShortID", .unsigned(UInt64(peer.shortID?.rawValue ?? 0))),
            .init("Version", .unsigned(peer.version)),
            .init(
                "Connections",
                .listOrNull(
                    peer.connections.map {
                        .object([
                            .init("Name", .text("\($0.name)")), .init("NickName", .text($0.nickname)),
                            .init("Address", .text($0.address)), .init("Outbound", .bool($0.outbound)),
                            .init("Established", .bool($0.established)),
                        ])
                    })),
        ])
    }

    private func connection(_ connection: MeshStatus.Connection) -> ReportValue {
        .object([
            .init("Address", .text(connection.address)),
            .init("Outbound", .bool(connection.outbound)),
            .init("State", .text(connection.state.rawValue)),
            .init("Info", .text(connection.info(encryption: mesh.encryption, now: status.time))),
            .init("Attrs", attributes(connection)),
        ])
    }

    private func attributes(_ connection: MeshStatus.Connection) -> ReportValue {
        guard connection.isLive, let overlay = connection.overlay else { return .null }
        var members: [ReportValue.Member] = []
        if overlay.encrypted { members.append(.init("encrypted", .bool(true))) }
        if let mtu = overlay.mtu { members.append(.init("mtu", .signed(mtu))) }
        return .object(members + [.init("name", .text(overlay.name))])
    }

    private func mac(_ mac: DaemonStatus.MAC) -> ReportValue {
        .object([
            .init("Mac", .text("\(mac.address)")), .init("Name", .text("\(mac.peer)")),
            .init("NickName", .text(mac.nickname)), .init("LastSeen", .text(CivilTime(mac.lastSeen).rfc3339)),
        ])
    }
}
