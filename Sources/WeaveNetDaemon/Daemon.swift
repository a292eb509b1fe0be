import Foundation
import Logging
import ServiceLifecycle
import UnixSignals
import WeaveCore
import WeaveDatapath
import WeaveIPAM
import WeaveMesh

/// The wiring: from a configuration to running libraries, and back.
///
/// What can be refused is refused before anything on the host is changed.
struct Daemon {
    let configuration: DaemonConfiguration
    let logger: Logger

    /// Runs until a signal ends it.
    ///
    /// - Throws: `DaemonError` when it cannot start, or a part of it fails.
    func run() async throws(DaemonError) {
        try Self.requireRoot()
        let lock = try StateLock(path: configuration.databasePrefix + "data.lock")
        let store = try DaemonStore(prefix: configuration.databasePrefix, now: Date())
        if let aside = store.setAside {
            logger.error("The database was damaged and is now \(aside); name and targets of earlier runs are lost")
        }
        try await PortProbe.check(configuration)
        let network = makeNetwork()
        let name = try await chooseName(network, store)
        let targets = try await initialTargets(store)
        try await network.ensureBridge(mac: MACAddress(name), mtu: configuration.mtu)
        let host = try await HostNetwork(network: network, store: store, logger: logger)
        let book = try await makeBook(name, targets.count, network, store)
        if configuration.exemptsLocalRanges, let book {
            await host.exempt { await book.ownRanges() }
        }
        let sleeve = try makeSleeve(name)
        let mesh = makeMesh(name, sleeve, book?.allocator)
        if let book { try await AddressService.start(book, on: mesh) }
        let pidFile = configuration.pidFile.map { PidFile(path: $0) }
        try pidFile?.write()
        defer { pidFile?.remove() }
        let controller = DaemonController(
            mesh: mesh, sleeve: sleeve, network: network, store: store, logger: logger, host: host, book: book)
        do {
            try await serve(controller, targets)
        } catch {
            sleeve.shutdown()
            throw Self.explain(error)
        }
        sleeve.shutdown()
        try? store.close()
        logger.info("*** exiting; the bridge and the containers on it stay")
        withExtendedLifetime(lock) {}
    }

    /// Prints what `run` would use.
    func peerName() async throws(DaemonError) -> PeerName {
        return try await choose(makeNetwork(), stored: nil).name
    }

    /// Removes what the daemon leaves on a host: devices and state.
    func reset() async throws(DaemonError) {
        try Self.requireRoot()
        let lock = try StateLock(path: configuration.databasePrefix + "data.lock")
        try await makeNetwork().reset()
        for suffix in ["data.sqlite", "data.sqlite-wal", "data.sqlite-shm", "data.lock"] {
            let path = configuration.databasePrefix + suffix
            guard FileManager.default.fileExists(atPath: path) else { continue }
            do {
                try FileManager.default.removeItem(atPath: path)
            } catch {
                throw DaemonError(.system, "cannot remove \(path): \((error as NSError).localizedDescription)")
            }
        }
        withExtendedLifetime(lock) {}
    }

    // MARK: Parts

    private func makeNetwork() -> NetworkSetup {
        NetworkSetup(
            bridge: configuration.bridge, controlPort: configuration.control?.loopbackPort,
            expectsPolicy: configuration.expectsPolicy, logger: logger)
    }

    private static func requireRoot() throws(DaemonError) {
        guard geteuid() == 0 else {
            throw DaemonError(.system, "weaver makes network devices and needs to run as root")
        }
    }

    private func chooseName(_ network: NetworkSetup, _ store: DaemonStore) async throws(DaemonError) -> PeerName {
        let stored = try await store.peerName()
        let (name, source) = try await choose(network, stored: stored)
        if let stored, stored != name { logger.info("Our name was \(stored) in the last run") }
        if source == .random {
            logger.warning("This host has no machine id: its peer name is random, and kept in \(store.path)")
        }
        if stored != name { try await store.setPeerName(name) }
        logger.info("Our name is \(name)(\(configuration.nickname))")
        return name
    }

    private func choose(
        _ network: NetworkSetup, stored: PeerName?
    ) async throws(DaemonError) -> (name: PeerName, source: PeerIdentity.Source) {
        let system: PeerName?
        do {
            system = try SystemPeerName.ofMachine(root: configuration.hostRoot, persisted: stored)
        } catch {
            throw DaemonError(.system, error.description)
        }
        var random = SystemRandomNumberGenerator()
        return PeerIdentity.choose(
            flag: configuration.name, bridge: try await network.bridgeName(), system: system, stored: stored,
            using: &random)
    }

    private func initialTargets(_ store: DaemonStore) async throws(DaemonError) -> [String] {
        guard configuration.resume else {
            logger.info("Launch detected - using supplied peer list: [\(configuration.peers.joined(separator: " "))]")
            return configuration.peers
        }
        let targets = try await store.targets()
        logger.info("Restart/resume detected - using persisted peer list: [\(targets.joined(separator: " "))]")
        return targets
    }

    private func makeSleeve(_ name: PeerName) throws(DaemonError) -> SleeveOverlay {
        let settings = SleeveConfiguration(
            ourself: name, port: configuration.port, host: configuration.host ?? .any,
            device: .name(NetworkSetup.port), threads: configuration.threads)
        do {
            return try SleeveOverlay(configuration: settings, logger: logger)
        } catch {
            throw DaemonError(.system, error.description)
        }
    }

    private func makeBook(
        _ name: PeerName, _ targets: Int, _ network: NetworkSetup, _ store: DaemonStore
    ) async throws(DaemonError) -> AddressBook? {
        guard let addresses = configuration.addresses else { return nil }
        return try await AddressService.makeBook(
            addresses, name: name, nickname: configuration.nickname, targets: targets, network: network, store: store,
            logger: logger)
    }

    private func makeMesh(_ name: PeerName, _ sleeve: SleeveOverlay, _ allocator: AddressAllocator?) -> MeshRouter {
        var settings = MeshConfiguration(name: name, nickname: configuration.nickname, logger: logger)
        settings.host = configuration.host.map { .v4($0) }
        settings.port = configuration.port
        settings.password = configuration.password
        settings.connectionLimit = configuration.connectionLimit
        settings.discovery = configuration.discovery
        settings.trustedSubnets = configuration.trustedSubnets
        settings.minimumProtocolVersion = UInt8(configuration.minimumProtocolVersion)
        logger.info(
            configuration.password == nil
                ? "Communication between peers is unencrypted."
                : "Communication between peers via untrusted networks is encrypted.")
        return MeshRouter(configuration: settings, overlay: SleeveAdapter(sleeve: sleeve, allocator: allocator))
    }

    // MARK: Services

    private func serve(_ controller: DaemonController, _ targets: [String]) async throws {
        var services: [any Service] = [
            MeshService(mesh: controller.mesh),
            TargetService(controller: controller, targets: targets, logger: logger),
        ]
        let listeners: [(ListenAddress?, ControlScope)] = [
            (configuration.metrics, .metrics), (configuration.status, .status), (configuration.control, .control),
        ]
        for case (let address?, let scope) in listeners {
            // Browsers do not reach Unix sockets; and metrics are made to be fetched under any name.
            let isAnyName = address.host == nil || scope == .metrics
            let routes = ControlRoutes(
                control: controller, scope: scope, hostNames: isAnyName ? nil : configuration.hostNames)
            services.append(ControlServer(address: address, routes: routes, logger: logger))
        }
        services.append(HostNetworkService(host: controller.host))
        services.append(ProgramPagesService(logger: logger))
        // The last is the first to stop: requests that wait for an address end before the listeners do.
        if let book = controller.book { services.append(AddressService(book: book, logger: logger)) }
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .error)
        var settings = ServiceGroupConfiguration(
            services: services, gracefulShutdownSignals: [.sigterm, .sigint], logger: quiet)
        settings.maximumGracefulShutdownDuration = Self.patience
        do {
            try await ServiceGroup(configuration: settings).run()
        } catch is CancellationError {
            // A client of the control interface kept its request open beyond our patience.
            return
        }
    }

    /// How long clients that are being served may hold up the end. Supervisors wait ten seconds or more.
    private static let patience: Duration = .seconds(3)

    private static func explain(_ error: any Error) -> DaemonError {
        if let error = error as? DaemonError { return error }
        return DaemonError(.system, (error as? MeshError)?.message ?? "\(error)")
    }
}

/// The mesh as a part of the daemon.
private struct MeshService: Service {
    let mesh: MeshRouter

    func run() async throws {
        try await cancelWhenGracefulShutdown { try await mesh.run() }
    }
}

/// Gives the mesh its first targets. Names may take a while to resolve, which is no reason to keep others waiting.
private struct TargetService: Service {
    let controller: DaemonController
    let targets: [String]
    let logger: Logger

    func run() async throws {
        for error in await controller.mesh.connect(to: targets) {
            logger.warning("Target \(error.target): \(error.message); it is tried again")
        }
        try await controller.saveTargets()
        try await gracefulShutdown()
    }
}
