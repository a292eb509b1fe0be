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
    private let exposure: HostExposure
    private let queue = DispatchQueue(label: "weaver.network")

    /// - Parameters:
    ///   - controlPort: The TCP port of the control interface, when it is on a loopback address.
    ///   - expectsPolicy: Whether a network policy controller decides what containers receive.
    init(bridge: String, controlPort: UInt16? = nil, expectsPolicy: Bool = false, logger: Logger) {
        self.bridge = bridge
        self.logger = logger
        var options = HostExposureOptions()
        options.bridge = bridge
        options.controlPort = controlPort
        options.expectsPolicy = expectsPolicy
        let found = try? IPTablesFlavour.detect()
        for warning in found?.warnings ?? [] { logger.warning("\(warning)") }
        exposure = HostExposure(options, flavour: found?.flavour ?? .standard)
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
        do throws(DaemonError) {
            try await onQueue { [exposure] in try exposure.removeAll() }
        } catch {
            // A host without iptables has no rules of ours.
            logger.warning("Firewall rules were not removed: \(error.message)")
        }
        try await onQueue { [bridge] in
            var configuration = BridgeConfiguration(mac: MACAddress(truncating: 0))
            configuration.name = bridge
            configuration.port = Self.port
            try Bridge(configuration).reset()
        }
    }

    /// Gives a container an interface with these addresses, in addition to those it has.
    ///
    /// - Returns: The host's end of the interface.
    @discardableResult
    func attach(_ order: AttachOrder, addresses: [IPv4CIDR]) async throws(DaemonError) -> String {
        let bridge = bridge
        let report = try await onQueue {
            var request = AttachRequest(
                id: Self.identifier(order.container), addresses: addresses.map { IPPrefix($0) })
            request.bridge = bridge
            request.port = Self.port
            request.hasMulticastRoute = order.multicastRoute
            return try ContainerAttachment().attach(ContainerReference(order.container), request)
        }
        for warning in report.warnings { logger.warning("attach \(order.container): \(warning)") }
        let all = report.addresses.map(\.description).joined(separator: " ")
        let verb = report.isNew ? "Attached" : "Already attached"
        logger.info("\(verb) \(order.container) with \(all), MAC \(report.mac), at \(report.hostDevice)")
        return report.hostDevice
    }

    /// Takes addresses from a container, all of them when `addresses` is empty.
    ///
    /// - Returns: The addresses it had.
    func detach(_ container: String, _ addresses: [IPv4CIDR]) async throws(DaemonError) -> [IPv4CIDR] {
        let plan = try await onQueue {
            let prefixes = addresses.isEmpty ? nil : addresses.map { IPPrefix($0) }
            return try ContainerAttachment().detach(ContainerReference(container), addresses: prefixes)
        }
        guard !plan.removed.isEmpty || !plan.remaining.isEmpty else {
            logger.info("\(container) is not attached")
            return []
        }
        let removed = plan.removed.map(\.description).joined(separator: " ")
        logger.info("Detached \(container) from \(removed)\(plan.remaining.isEmpty ? "" : "; it keeps others")")
        return plan.removed.compactMap(\.v4)
    }

    // MARK: The host itself

    /// What the host has in the network, as addresses and rules show it.
    func exposures() async throws(DaemonError) -> [Exposure] {
        try await onQueue { [exposure] in try exposure.current().exposures }
    }

    func expose(_ addresses: [IPv4CIDR], masquerade: Bool) async throws(DaemonError) -> ExposureReport {
        try await onQueue { [exposure] in try exposure.expose(addresses, masquerade: masquerade) }
    }

    func hide(_ addresses: [IPv4CIDR]) async throws(DaemonError) -> [IPv4CIDR] {
        try await onQueue { [exposure] in try exposure.hide(addresses) }
    }

    /// Puts back what is missing of what is wanted.
    func audit(_ wanted: ExposureState) async throws(DaemonError) -> ExposureReport {
        try await onQueue { [exposure] in try exposure.audit(wanted) }
    }

    // MARK: Looking

    /// What tells a container's network namespace from others.
    ///
    /// - Throws: `DaemonError` (badRequest) when there is none, or it is the host's.
    func namespace(of container: String) async throws(DaemonError) -> String {
        try await onQueue { Self.text(try ContainerReference(container).open().identity) }
    }

    func isAlive(_ entry: ContainerLedger.Entry) async -> Bool { !(await alive(["": entry])).isEmpty }

    /// Those containers that are there: their namespace can be opened, or their interface is on the bridge.
    func alive(_ entries: [String: ContainerLedger.Entry]) async -> Set<String> {
        let bridge = bridge
        let found = try? await onQueue {
            let netlink = try RouteNetlink()
            let master = try netlink.link(named: bridge)?.index
            let devices = Set(try netlink.links().filter { $0.master == master && master != nil }.map(\.name))
            return Set(
                entries.filter { _, entry in
                    if let device = entry.device, devices.contains(device) { return true }
                    let namespace = try? ContainerReference(entry.container).open()
                    return namespace.map { Self.text($0.identity) } == entry.namespace
                }.keys)
        }
        // Nobody is called dead because the kernel did not answer.
        return found ?? Set(entries.keys)
    }

    /// The addresses of a container in the network.
    func addresses(of container: String) async throws(DaemonError) -> [IPv4CIDR] {
        try await onQueue { try ContainerReference(container).open().run { try Self.addresses(of: "ethwe") } }
    }

    /// The addresses of this host in the network.
    func hostAddresses() async throws(DaemonError) -> [IPv4CIDR] {
        try await onQueue { [bridge] in try Self.addresses(of: bridge) }
    }

    /// The containers on the bridge, whoever attached them: for each a way to it, what tells its namespace from others,
    /// and its port with its addresses.
    func survey() async throws(DaemonError) -> [SurveyedContainer] {
        try await onQueue { [bridge] in
            try ContainerPort.list(bridge: bridge).compactMap { port in
                guard let namespace = try? NetworkNamespace(path: port.namespacePath) else { return nil }
                let named = NetworkNamespace.namedDirectory + "/"
                let container =
                    port.processID.map(String.init)
                    ?? (port.namespacePath.hasPrefix(named)
                        ? String(port.namespacePath.dropFirst(named.count)) : port.namespacePath)
                return SurveyedContainer(
                    container: container, namespace: Self.text(namespace.identity), device: port.hostDevice,
                    addresses: port.addresses.compactMap(\.v4))
            }
        }
    }

    private static func addresses(of device: String) throws(NetlinkError) -> [IPv4CIDR] {
        let netlink = try RouteNetlink()
        guard let link = try netlink.link(named: device) else { return [] }
        return try netlink.addresses(of: link).filter { !$0.isLinkScope }.compactMap(\.prefix.v4)
    }

    private static func text(_ identity: NetworkNamespace.Identity) -> String { "\(identity.device):\(identity.inode)" }

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

/// A container that was found on the bridge.
struct SurveyedContainer: Sendable {
    var container: String
    var namespace: String
    var device: String
    var addresses: [IPv4CIDR]
}
