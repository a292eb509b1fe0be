import Foundation
import Logging
import WeaveCore
import WeaveDatapath
import WeaveMesh

/// Does what the control interface asks for, by the libraries.
struct DaemonController: DaemonControl {
    let mesh: MeshRouter
    let sleeve: SleeveOverlay
    let network: NetworkSetup
    let store: DaemonStore
    let logger: Logger

    func status() async -> DaemonStatus {
        let status = await mesh.status()
        let nicknames = Dictionary(status.peers.map { ($0.name, $0.nickname) }) { first, _ in first }
        let statistics = sleeve.statistics
        let counters =
            PacketCounter.allCases.map { ($0.label, statistics[$0]) }
            + FrameDrop.allCases.map { ("dropped_" + Self.counterName($0.label), statistics[$0]) }
        let now = Date()
        let uptime = ProcessInfo.processInfo.systemUptime
        return DaemonStatus(
            mesh: status, interface: "\(NetworkSetup.port) (via tap)", counters: counters,
            macs: sleeve.macs.map { entry in
                let age = uptime - Double(entry.lastSeen.nanoseconds) / 1e9
                return DaemonStatus.MAC(
                    address: entry.mac, peer: entry.peer, nickname: nicknames[entry.peer] ?? "",
                    lastSeen: now.addingTimeInterval(-max(0, age)))
            }, time: now)
    }

    func connect(_ peers: [String], replace: Bool) async throws -> [String] {
        let errors = await mesh.connect(to: peers, replace: replace)
        try await saveTargets()
        return errors.map(\.message)
    }

    func forget(_ peers: [String]) async throws {
        await mesh.forget(peers)
        try await saveTargets()
    }

    func attach(_ order: AttachOrder) async throws { try await network.attach(order) }

    func detach(_ order: AttachOrder) async throws -> [IPv4CIDR] { try await network.detach(order) }

    /// Keeps the targets for a restart. Two requests at one time may save in either order, so what was saved is
    /// compared with what is.
    func saveTargets() async throws(DaemonError) {
        var targets = await mesh.status().targets
        while true {
            try await store.setTargets(targets)
            let now = await mesh.status().targets
            if now == targets { return }
            targets = now
        }
    }

    /// `too big broadcast` becomes `too_big_broadcast`.
    private static func counterName(_ label: String) -> String {
        label.lowercased().replacing("-", with: "_").replacing(" ", with: "_")
    }
}
