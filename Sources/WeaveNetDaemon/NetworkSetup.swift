import Dispatch
import Logging
import WeaveCore
import WeaveDatapath
import WeaveNetlink

/// The kernel's side of the daemon: the bridge and the containers on it. Work is done on a thread of its own, one thing
/// after the other, because the kernel's answers block.
final class NetworkSetup: Sendable {
    static let port = "vethwe-tap"

    private let bridge: String
    private let logger: Logger
    private let queue = DispatchQueue(label: "weaver.network")

    init(bridge: String, logger: Logger) {
        self.bridge = bridge
        self.logger = logger
    }

    /// Makes the bridge and the overlay's port, or finds them as they should be.
    ///
    /// - Parameter mtu: nil keeps the MTU of an existing bridge.
    /// - Throws: `DaemonError` (system).
    func ensureBridge(mac: MACAddress, mtu: Int?) async throws(DaemonError) {
        let report = try await onQueue { [bridge] in
            var configuration = BridgeConfiguration(mac: mac, mtu: mtu)
            configuration.name = bridge
            configuration.port = Self.port
            return try Bridge(configuration).ensure()
        }
        for warning in report.warnings { logger.warning("\(warning)") }
        logger.info("Bridge type is bridge, MTU \(report.mtu)\(report.wasAdopted ? ", as it was left" : "")")
    }

    /// The peer name of an earlier run: the address of its bridge.
    func bridgeName() async throws(DaemonError) -> PeerName? {
        try await onQueue { [bridge] in try Bridge.existingAddress(bridge) }.map { PeerName(truncating: $0.rawValue) }
    }

    /// Removes the bridge and every interface on it.
    func reset() async throws(DaemonError) {
        try await onQueue { [bridge] in
            var configuration = BridgeConfiguration(mac: MACAddress(truncating: 0))
            configuration.name = bridge
            configuration.port = Self.port
            try Bridge(configuration).reset()
        }
    }

    func attach(_ order: AttachOrder) async throws(DaemonError) {
        let bridge = bridge
        let report = try await onQueue {
            var request = AttachRequest(
                id: Self.identifier(order.container), addresses: order.addresses.map { IPPrefix($0) })
            request.bridge = bridge
            request.port = Self.port
            request.hasMulticastRoute = order.multicastRoute
            return try ContainerAttachment().attach(ContainerReference(order.container), request)
        }
        for warning in report.warnings { logger.warning("attach \(order.container): \(warning)") }
        let addresses = report.addresses.map(\.description).joined(separator: " ")
        let verb = report.isNew ? "Attached" : "Already attached"
        logger.info("\(verb) \(order.container) with \(addresses), MAC \(report.mac), at \(report.hostDevice)")
    }

    func detach(_ order: AttachOrder) async throws(DaemonError) -> [IPv4CIDR] {
        let plan = try await onQueue {
            let addresses = order.addresses.isEmpty ? nil : order.addresses.map { IPPrefix($0) }
            return try ContainerAttachment().detach(ContainerReference(order.container), addresses: addresses)
        }
        guard !plan.removed.isEmpty || !plan.remaining.isEmpty else {
            logger.info("\(order.container) is not attached")
            return []
        }
        let removed = plan.removed.map(\.description).joined(separator: " ")
        logger.info("Detached \(order.container) from \(removed)\(plan.remaining.isEmpty ? "" : "; it keeps others")")
        return plan.removed.compactMap(\.v4)
    }

    /// What the host's interface is named after: the last part of a path says more than its first.
    static func identifier(_ container: String) -> String {
        let parts = container.split(separator: "/")
        // /proc/1234/ns/net and /var/run/netns/web.
        if parts.count >= 4, parts.first == "proc", parts[2] == "ns" { return String(parts[1]) }
        return parts.last.map(String.init) ?? container
    }

    private func onQueue<Value: Sendable>(
        _ work: @escaping @Sendable () throws -> Value
    ) async throws(DaemonError) -> Value {
        let result: Result<Value, any Error> = await withCheckedContinuation { continuation in
            queue.async { continuation.resume(returning: Result { try work() }) }
        }
        do {
            return try result.get()
        } catch let error as NetlinkError {
            throw DaemonError(error.code == .notFound || error.code == .invalid ? .badRequest : .system, error.message)
        } catch {
            throw DaemonError(.system, "\(error)")
        }
    }
}
