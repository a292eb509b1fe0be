import Logging
import ServiceLifecycle
import WeaveCore
import WeaveIPAM
import WeaveMesh

/// Address allocation as a part of the daemon.
struct AddressService: Service {
    let book: AddressBook
    let logger: Logger

    /// How often containers are looked at.
    private static let interval: Duration = .seconds(5)

    func run() async throws {
        try? await cancelWhenGracefulShutdown {
            while true {
                await book.reclaim()
                try await Task.sleep(for: Self.interval)
            }
        }
        // Requests that wait hold the control interface up; they end here.
        await book.allocator.stop()
    }

    /// Makes the book with what is known from earlier runs and from the containers on the bridge.
    ///
    /// - Throws: `DaemonError` (system) when what was stored cannot be read.
    static func makeBook(
        _ configuration: AddressConfiguration, name: PeerName, nickname: String, targets: Int, network: NetworkSetup,
        store: DaemonStore, logger: Logger
    ) async throws(DaemonError) -> AddressBook {
        var ledger = ContainerLedger(try await store.containers())
        let preClaims = try await preClaims(&ledger, network, store)
        var settings = AllocatorConfiguration(
            peer: name, uid: .random(in: 1 ... .max), nickname: nickname, universe: configuration.universe,
            start: start(configuration, store, logger), quorum: quorum(configuration, targets), preClaims: preClaims)
        settings.policy = .standard
        let allocator: AddressAllocator
        do {
            allocator = try AddressAllocator(
                settings, store: store,
                onLog: { level, text in
                    logger.log(level: Self.level(level), "[allocator] \(printable(text))")
                })
        } catch {
            throw DaemonError(.usage, "--ipalloc-range: \(error.message)")
        }
        return AddressBook(
            allocator: allocator, configuration: configuration, network: network, store: store, ledger: ledger,
            logger: logger)
    }

    /// Begins to allocate; to be done before the mesh runs, so that no message is missed.
    static func start(_ book: AddressBook, on mesh: MeshRouter) async throws(DaemonError) {
        do {
            let channel = try await mesh.register(AddressAllocator.channelName, book.allocator)
            try await book.allocator.start(on: channel)
        } catch {
            throw DaemonError(.system, "address allocation cannot start: \(error)")
        }
    }

    /// Addresses that are in use on this host, and that nothing stored says so of.
    private static func preClaims(
        _ ledger: inout ContainerLedger, _ network: NetworkSetup, _ store: DaemonStore
    ) async throws(DaemonError) -> [AllocatorConfiguration.PreClaim] {
        let owned: [String: OwnedAddresses]
        do {
            owned = try await store.load()?.owned ?? [:]
        } catch {
            throw DaemonError(.system, "\(error)")
        }
        let known = Set(owned.values.flatMap(\.cidrs).map(\.address))
        var claims: [AllocatorConfiguration.PreClaim] = []
        for address in try await network.hostAddresses() where !known.contains(address.address) {
            claims.append(.init(ident: AddressBook.hostIdent, isContainer: false, cidr: address))
        }
        for container in try await network.survey() {
            let new = container.addresses.filter { !known.contains($0.address) }
            guard !new.isEmpty else { continue }
            let entry = ContainerLedger.Entry(
                container: container.container, namespace: container.namespace, device: container.device)
            let wish = NetworkSetup.identifier(container.container)
            let ident = ledger.file(entry, wish: wish) { owned[$0] != nil }
            ledger.setDevice(container.device, of: ident)
            try await store.setContainer(ident, ledger.entries[ident])
            claims += new.map { .init(ident: ident, isContainer: true, cidr: $0) }
        }
        return claims
    }

    /// How the ring begins when nothing is stored.
    private static func start(
        _ configuration: AddressConfiguration, _ store: DaemonStore, _ logger: Logger
    ) -> AllocatorConfiguration.Start {
        switch configuration.start {
        case .consensus: return .consensus
        case .observer: return .observer
        case .seed(let peers):
            guard store.setAside != nil else { return .seed(peers) }
            // Our part of the seed may have gone to others since; only they know.
            logger.warning(
                "The ring was lost with the database: waiting for another peer to tell it, not using the seed")
            return .observer
        }
    }

    private static func quorum(_ configuration: AddressConfiguration, _ targets: Int) -> Int {
        if case .consensus(let peers?) = configuration.start { return AllocatorConfiguration.quorum(among: peers) }
        return AllocatorConfiguration.quorum(among: targets + 1)
    }

    private static func level(_ level: AllocatorDirective.LogLevel) -> Logger.Level {
        switch level {
        case .debug: .debug
        case .info: .info
        case .warning: .warning
        case .error: .error
        }
    }
}
