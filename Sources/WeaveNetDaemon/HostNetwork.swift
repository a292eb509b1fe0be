import Logging
import ServiceLifecycle
import WeaveCore
import WeaveDatapath

/// This host's own place in the network: its addresses on the bridge and the firewall rules that go with them. What was
/// asked for is kept, and put back when it was removed.
actor HostNetwork {
    /// The ranges whose containers run here; nil when they are not exempt from masquerading.
    typealias LocalRanges = @Sendable () async -> [IPv4CIDR]

    private let network: NetworkSetup
    private let store: DaemonStore
    private let logger: Logger
    private var localRanges: LocalRanges?
    /// The trouble that was logged last, so that it is not logged again and again.
    private var lastTrouble: [String] = []
    private(set) var exposed: [Exposure]
    private let turnstile = Turnstile()

    /// Restores what earlier runs were asked for, or what an earlier release has left on the bridge.
    ///
    /// - Throws: `DaemonError` (system) when that cannot be read.
    init(network: NetworkSetup, store: DaemonStore, logger: Logger) async throws(DaemonError) {
        self.network = network
        self.store = store
        self.logger = logger
        exposed = try await store.exposures()
        guard exposed.isEmpty, let found = try? await network.exposures(), !found.isEmpty else { return }
        logger.info("Exposed as they were left: \(found.map(\.description).joined(separator: ", "))")
        try await store.setExposures(found)
        exposed = found
    }

    /// From now on, traffic to these ranges keeps its source.
    func exempt(_ ranges: @escaping LocalRanges) { localRanges = ranges }

    /// Gives this host addresses, and containers a way to other networks through it.
    func expose(_ addresses: [IPv4CIDR], masquerade: Bool) async throws {
        try await turnstile.alone { try await self.exposeAlone(addresses, masquerade) }
    }

    private func exposeAlone(_ addresses: [IPv4CIDR], _ masquerade: Bool) async throws {
        for warning in try await network.expose(addresses, masquerade: masquerade).warnings {
            logger.warning("expose: \(warning)")
        }
        let others = exposed.filter { !addresses.contains($0.address) }
        try await set(others + addresses.map { Exposure($0, isMasqueraded: masquerade) })
        logger.info("Exposed \(addresses.map(\.description).joined(separator: " "))")
    }

    /// Takes addresses from this host; nil takes all.
    ///
    /// - Returns: Those that it had.
    func hide(_ addresses: [IPv4CIDR]?) async throws -> [IPv4CIDR] {
        try await turnstile.alone { try await self.hideAlone(addresses) }
    }

    private func hideAlone(_ addresses: [IPv4CIDR]?) async throws -> [IPv4CIDR] {
        let chosen = addresses ?? exposed.map(\.address)
        // Forgotten first: what is forgotten is not put back by the next look.
        let hidden = exposed.map(\.address).filter(chosen.contains)
        try await set(exposed.filter { !hidden.contains($0.address) })
        return try await network.hide(chosen)
    }

    /// Puts back what somebody removed.
    func audit() async { await turnstile.alone { await self.auditAlone() } }

    private func auditAlone() async {
        do throws(DaemonError) {
            let report = try await network.audit(ExposureState(exposed, localRanges: await localRanges?()))
            if !report.repairs.isEmpty {
                logger.info("Firewall and addresses of this host: \(report.repairs.joined(separator: "; "))")
            }
            tell(report.warnings)
        } catch {
            tell(["not as they should be: \(error.message)"])
        }
    }

    private func tell(_ trouble: [String]) {
        guard trouble != lastTrouble else { return }
        lastTrouble = trouble
        for line in trouble { logger.warning("Firewall and addresses of this host: \(line)") }
    }

    private func set(_ wanted: [Exposure]) async throws(DaemonError) {
        try await store.setExposures(wanted)
        exposed = wanted
    }
}

/// Looks after the host's rules, which other programs flush.
struct HostNetworkService: Service {
    let host: HostNetwork

    private static let interval: Duration = .seconds(10)

    func run() async throws {
        try? await cancelWhenGracefulShutdown {
            while true {
                await host.audit()
                try await Task.sleep(for: Self.interval)
            }
        }
    }
}
