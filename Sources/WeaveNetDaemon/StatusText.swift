import Foundation
import WeaveCore
import WeaveIPAM
import WeaveMesh

/// The text of `weave status` and its pages. Words and columns are those of 2.8.1, which scripts search for; lines come
/// in a fixed order and attributes have a blank between them.
struct StatusText {
    let status: DaemonStatus

    private var mesh: MeshStatus { status.mesh }

    /// `/status`.
    var summary: String {
        let versions =
            mesh.minimumProtocolVersion == mesh.maximumProtocolVersion
            ? "\(mesh.maximumProtocolVersion)" : "\(mesh.minimumProtocolVersion)..\(mesh.maximumProtocolVersion)"
        let subnets = mesh.trustedSubnets.map(\.description).joined(separator: ", ")
        return line("Version", "\(WeaveNetVersion.current) (version check update disabled)") + "\n"
            + line("Service", "router")
            + line("Protocol", "weave \(versions)")
            + line("Name", "\(mesh.name)(\(printable(mesh.nickname)))")
            + line("Encryption", mesh.encryption ? "enabled" : "disabled")
            + line("PeerDiscovery", mesh.peerDiscovery ? "enabled" : "disabled")
            + line("Targets", "\(mesh.targets.count)")
            + line("Connections", connectionCounts)
            + line("Peers", peerCounts)
            + line("TrustedSubnets", subnets.isEmpty ? "none" : subnets)
            + (status.addresses.map(section) ?? "")
    }

    private func section(_ addresses: AddressStatus) -> String {
        "\n" + line("Service", "ipam")
            + line("Status", addresses.condition)
            + line("Range", "\(addresses.allocator.universe)")
            + line("DefaultSubnet", "\(addresses.defaultSubnet)")
    }

    /// `/status/connections`: live connections first, each part in the order of addresses.
    var connections: String {
        sortedConnections.map { connection in
            let attributes = connection.attributes.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
            return arrow(connection.outbound) + " " + printable(connection.address).padded(to: 21) + " "
                + connection.state.rawValue.padded(to: 11) + " "
                + connection.info(encryption: mesh.encryption, now: status.time) + " " + attributes + "\n"
        }.joined()
    }

    /// `/status/peers`.
    var peers: String {
        mesh.peers.sorted { $0.name < $1.name }.map { peer in
            "\(peer.name)(\(printable(peer.nickname)))\n"
                + peer.connections.map { connection in
                    let name = "\(connection.name)(\(printable(connection.nickname)))"
                    return "   " + arrow(connection.outbound) + " " + printable(connection.address).padded(to: 21) + " "
                        + name.padded(to: 37) + " " + (connection.established ? "established" : "pending") + "\n"
                }.joined()
        }.joined()
    }

    /// `/status/targets`.
    var targets: String { mesh.targets.map { printable($0) + "\n" }.joined() }

    private var sortedConnections: [MeshStatus.Connection] {
        mesh.connections.sorted {
            ($0.isLive ? 0 : 1, $0.address, $0.outbound ? 0 : 1) < ($1.isLive ? 0 : 1, $1.address, $1.outbound ? 0 : 1)
        }
    }

    private var connectionCounts: String {
        let order: [MeshStatus.ConnectionState] = [.established, .pending, .retrying, .failed, .connecting, .waiting]
        let parts = order.compactMap { state -> String? in
            let count = mesh.connections.count { $0.state == state }
            return count > 0 ? "\(count) \(state.rawValue)" : nil
        }
        return "\(mesh.connections.count)" + (parts.isEmpty ? "" : " (\(parts.joined(separator: ", ")))")
    }

    private var peerCounts: String {
        let all = mesh.peers.flatMap(\.connections)
        let established = all.count { $0.established }
        var parts: [String] = []
        if established > 0 { parts.append("\(established) established") }
        if all.count > established { parts.append("\(all.count - established) pending") }
        return "\(mesh.peers.count)" + (parts.isEmpty ? "" : " (with \(parts.joined(separator: ", ")) connections)")
    }

    private func arrow(_ outbound: Bool) -> String { outbound ? "->" : "<-" }

    private func line(_ label: String, _ value: String) -> String { label.rightAligned(to: 15) + ": " + value + "\n" }
}
