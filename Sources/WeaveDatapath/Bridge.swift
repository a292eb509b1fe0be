public import WeaveCore
public import WeaveNetlink

/// The host's bridge, in the network namespace of the calling thread.
public struct Bridge: Sendable {
    public let configuration: BridgeConfiguration
    let sysctl: Sysctl

    /// - Parameter procRoot: the host's `/proc`.
    public init(_ configuration: BridgeConfiguration, procRoot: String = "/proc") {
        self.configuration = configuration
        sysctl = Sysctl(root: procRoot + "/sys")
    }

    /// How it went.
    public struct Report: Hashable, Sendable {
        /// Whether the bridge was there before.
        public let wasAdopted: Bool
        /// The bridge's MTU.
        public let mtu: Int
        /// The largest packet that the overlay's port takes: the MTU for containers.
        public let portMTU: Int
        /// What could not be done and does not stop the host from working; worth one line each in the log.
        public let warnings: [String]
    }

    /// Makes the bridge what it should be, or finds that it is: as often as you like. Calling it every few seconds repairs
    /// what other programs on the host undo: a bridge switched off, a port taken away, rules flushed.
    ///
    /// - Throws: `NetlinkError`; what was done by then stays, and is taken up by the next call.
    @discardableResult
    public func ensure() throws(NetlinkError) -> Report {
        let netlink = try RouteNetlink()
        let observation = try BridgeObservation(links: netlink.links())
        let steps = try BridgePlan.steps(for: configuration, from: observation)
        var warnings: [String] = []
        for step in steps { warnings += try perform(step, netlink) }
        if let warning = RouterAdvertisementGuard.install() { warnings.append(warning) }
        return Report(
            wasAdopted: observation.link(configuration.name) != nil,
            mtu: try netlink.existingLink(named: configuration.name).mtu,
            portMTU: try netlink.existingLink(named: configuration.port).mtu, warnings: warnings)
    }

    private func perform(_ step: BridgeStep, _ netlink: RouteNetlink) throws(NetlinkError) -> [String] {
        switch step {
        case .delete(let name):
            // The other end of a pair is gone by the time its turn comes.
            if let link = try netlink.link(named: name) { try netlink.delete(link) }
        case .createBridge(let name): try netlink.createBridge(name)
        case .createTAP(let name): try TAPPort.create(name)
        case .setMAC(let name, let mac): try netlink.set(netlink.existingLink(named: name), mac: mac)
        case .setMTU(let name, let mtu): try netlink.set(netlink.existingLink(named: name), mtu: mtu)
        case .setMaster(let name, let master):
            try netlink.set(netlink.existingLink(named: name), master: netlink.existingLink(named: master))
        case .apply(let settings): return sysctl.apply(settings)
        case .switchOn(let name): try netlink.set(netlink.existingLink(named: name), up: true)
        }
        return []
    }

    /// The address of the device called like the bridge, which a host keeps as its peer name; nil when there is none.
    public static func existingAddress(_ name: String = "weave") throws(NetlinkError) -> MACAddress? {
        try RouteNetlink().link(named: name)?.mac
    }

    /// Gives the host an address in the overlay and tells the link about it.
    ///
    /// - Returns: false when the bridge has it already.
    @discardableResult
    public func expose(_ prefix: IPPrefix) throws(NetlinkError) -> Bool {
        try BridgeAddresses(configuration.name).add(prefix)
    }

    /// Takes an address of the host in the overlay away.
    ///
    /// - Returns: false when the bridge does not have it.
    @discardableResult
    public func hide(_ prefix: IPPrefix) throws(NetlinkError) -> Bool {
        try BridgeAddresses(configuration.name).remove(prefix, sysctl)
    }

    /// The addresses of the host in the overlay.
    public func exposed() throws(NetlinkError) -> [IPPrefix] {
        guard try RouteNetlink().link(named: configuration.name) != nil else { return [] }
        return try BridgeAddresses(configuration.name).list()
    }

    /// Removes the bridge, the overlay's port and every container's device on this host (`vethwe...`).
    public func reset() throws(NetlinkError) {
        let netlink = try RouteNetlink()
        for link in try netlink.links()
        where link.name == configuration.name || link.name.hasPrefix("vethwe") || link.name == configuration.port {
            // The other end of a pair may have gone with the first.
            if let link = try netlink.link(index: link.index) { try netlink.delete(link) }
        }
        RouterAdvertisementGuard.remove()
    }
}
