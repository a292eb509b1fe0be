import Logging
import WeaveCore
import WeaveIPAM

/// Joins the address allocator to the containers of this host: who has which address, and since when nobody has.
///
/// Waiting for an address holds nobody up. What touches the kernel and the allocator together is done for one container
/// after the other, so that an address is never taken from one request by the failure of another.
actor AddressBook {
    let allocator: AddressAllocator
    nonisolated let configuration: AddressConfiguration
    /// The allocator as the control interface sees it.
    nonisolated let control: AllocatorControl
    private let network: NetworkSetup
    private let store: DaemonStore
    private let logger: Logger
    private var ledger: ContainerLedger
    private let turnstile = Turnstile()

    /// What the host's own addresses are filed under; 2.8.1 does the same.
    static let hostIdent = "weave:expose"
    /// How often an attachment begins again when its addresses were taken away meanwhile.
    private static let attempts = 3

    init(
        allocator: AddressAllocator, configuration: AddressConfiguration, network: NetworkSetup, store: DaemonStore,
        ledger: ContainerLedger, logger: Logger
    ) {
        self.allocator = allocator
        self.configuration = configuration
        control = AllocatorControl(allocator: allocator, defaultSubnet: configuration.defaultSubnet)
        self.network = network
        self.store = store
        self.ledger = ledger
        self.logger = logger
    }

    // MARK: Containers

    /// Joins a container to the network with addresses; without any words, with one of the default subnet.
    ///
    /// - Returns: The address for each word. Waits while there is none.
    func attach(_ order: AttachOrder) async throws -> [IPv4CIDR] {
        let words = order.words.isEmpty ? [.subnet(nil)] : order.words
        let ident = try await turnstile.alone { try await self.file(order.container) }
        for _ in 0..<Self.attempts {
            let before = Set(await addresses(of: ident))
            var given: [IPv4CIDR] = []
            do {
                for word in words { given.append(try await obtain(word, ident, isContainer: true)) }
                if try await turnstile.alone({ [given] in try await self.configure(order, ident, given) }) {
                    return given
                }
            } catch {
                let new = given.filter { !before.contains($0) }
                await turnstile.alone { await self.giveBack(new, of: ident, order.container) }
                throw error
            }
        }
        throw DaemonError(.conflict, "\(order.container) was detached while it was attached; attach it again")
    }

    /// Takes addresses from a container, all of them when the order has none, and makes them free.
    ///
    /// - Returns: The addresses that its interface had.
    func detach(_ order: AttachOrder) async throws -> [IPv4CIDR] {
        try await turnstile.alone { try await self.detachAlone(order) }
    }

    private func detachAlone(_ order: AttachOrder) async throws -> [IPv4CIDR] {
        guard let namespace = try? await network.namespace(of: order.container) else {
            return try await forgetGone(order)
        }
        let ident = ledger.ident(of: namespace)
        let owned = if let ident { await addresses(of: ident) } else { [IPv4CIDR]() }
        var chosen: [IPv4CIDR] = []
        for word in order.words {
            switch word {
            case .address(let address): chosen.append(address)
            case .subnet(let subnet):
                let range = (subnet ?? configuration.defaultSubnet).range
                chosen += owned.filter { range.contains($0.address) }
            }
        }
        guard order.words.isEmpty || !chosen.isEmpty else { return [] }
        let removed = try await network.detach(order.container, order.words.isEmpty ? [] : chosen)
        guard let ident else { return removed }
        let freed = order.words.isEmpty ? owned : owned.filter(chosen.contains)
        for address in freed { try await control.free(ident, address.address) }
        if freed.count == owned.count { try await forget(ident) }
        return removed
    }

    /// A container that cannot be found any more, but whose name is known: its addresses go now, not in a while.
    private func forgetGone(_ order: AttachOrder) async throws -> [IPv4CIDR] {
        let known = ledger.entries.filter { $0.value.container == order.container }.map(\.key).sorted()
        guard let ident = known.first, order.words.isEmpty else {
            // Says why it cannot be found.
            _ = try await network.namespace(of: order.container)
            return []
        }
        let owned = await addresses(of: ident)
        if !owned.isEmpty { try await control.free(ident, nil) }
        try await forget(ident)
        return owned
    }

    private func file(_ container: String) async throws -> String {
        let namespace = try await network.namespace(of: container)
        let wish = NetworkSetup.identifier(container)
        if let old = ledger.entries[wish], old.namespace != namespace, !(await network.isAlive(old)) {
            // A new container of the same name: the one before is gone for good.
            if !(await addresses(of: wish)).isEmpty {
                try await control.free(wish, nil)
            }
            try await forget(wish)
        }
        let taken = Set(await allocator.owned().keys)
        let entry = ContainerLedger.Entry(container: container, namespace: namespace)
        let ident = ledger.file(entry, wish: wish) { taken.contains($0) }
        try await store.setContainer(ident, ledger.entries[ident])
        return ident
    }

    /// False when the addresses are not the container's any more.
    private func configure(_ order: AttachOrder, _ ident: String, _ given: [IPv4CIDR]) async throws -> Bool {
        let owned = await addresses(of: ident)
        guard given.allSatisfy({ mine in owned.contains { $0.address == mine.address } }), ledger.entries[ident] != nil
        else { return false }
        let device = try await network.attach(order, addresses: given)
        ledger.setDevice(device, of: ident)
        try await store.setContainer(ident, ledger.entries[ident])
        return true
    }

    /// Frees what a failed attachment got, unless the container has it.
    private func giveBack(_ addresses: [IPv4CIDR], of ident: String, _ container: String) async {
        guard !addresses.isEmpty else { return }
        let present: [IPv4CIDR]
        do {
            present = try await network.addresses(of: container)
        } catch {
            // It cannot be looked at; if it is gone, its addresses go with the next look at all containers.
            return
        }
        for address in addresses where !present.contains(where: { $0.address == address.address }) {
            try? await allocator.free(ident, address.address)
        }
        if await self.addresses(of: ident).isEmpty { try? await forget(ident) }
    }

    private func forget(_ ident: String) async throws {
        ledger.remove(ident)
        try await store.setContainer(ident, nil)
    }

    // MARK: Addresses

    /// An address as the word asks for, filed under `ident`.
    func obtain(_ word: AddressWord, _ ident: String, isContainer: Bool) async throws -> IPv4CIDR {
        switch word {
        case .subnet(let subnet):
            let subnet = subnet ?? configuration.defaultSubnet
            return try await control.allocate(ident, subnet: subnet, isContainer: isContainer)
        case .address(let address):
            try await control.claim(ident, address, isContainer: isContainer, acceptsUnknown: true)
            return address
        }
    }

    /// All that a name has, and what it was promised before there was anybody to ask.
    func addresses(of ident: String) async -> [IPv4CIDR] { await allocator.held(by: ident) }

    // MARK: Around

    /// What status pages show.
    func status() async -> AddressStatus {
        AddressStatus(
            allocator: await allocator.status(), defaultSubnet: configuration.defaultSubnet,
            storeFailure: await allocator.storeFailure)
    }

    /// The parts of the range that this peer gives addresses from.
    func ownRanges() async -> [IPv4CIDR] {
        let status = await allocator.status()
        let ranges = status.entries.filter { $0.peer == status.peer }.compactMap { entry in
            AddressRange(start: Int(entry.token.rawValue), end: Int(entry.token.rawValue) + entry.size)
        }
        return AddressRange.joined(ranges).flatMap(\.cidrs)
    }

    /// The number of peers that were given as targets says how many there are, unless a flag does.
    func onTargets(_ count: Int) async {
        guard case .consensus(peers: nil) = configuration.start else { return }
        await allocator.setQuorum(AllocatorConfiguration.quorum(among: count + 1))
    }

    /// Looks at the containers; the addresses of those that are gone are free again after half a minute.
    func reclaim() async { await turnstile.alone { await self.reclaimAlone() } }

    private func reclaimAlone() async {
        guard !ledger.entries.isEmpty else { return }
        let verdict = ledger.onLook(alive: await network.alive(ledger.entries))
        for ident in verdict.died {
            logger.info("Container \(ident) is gone; its addresses are free in \(Self.grace)")
            await allocator.containerDied(ident)
        }
        for ident in verdict.returned { await allocator.containerStarted(ident) }
        let owned = Set(await allocator.owned().keys)
        for ident in ledger.departed where !owned.contains(ident) {
            do {
                try await forget(ident)
            } catch {
                logger.warning("Container \(ident) cannot be forgotten yet: \(error)")
            }
        }
    }

    private static let grace = "\(AllocatorLimits.deathGrace.components.seconds) s"
}
