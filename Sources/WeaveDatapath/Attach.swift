import Glibc
public import WeaveCore
public import WeaveNetlink

/// Joins containers to the bridge of the calling thread's namespace, and parts them from it. Blocks for some milliseconds.
///
/// Attaching is idempotent: what is there stays, what is missing is added. The veth pair appears whole or not at all, so an
/// attachment that was cut short is completed by the next.
public struct ContainerAttachment: Sendable {
    let procRoot: String
    let sysctl: Sysctl

    /// - Parameter procRoot: the host's `/proc`.
    public init(procRoot: String = "/proc") {
        self.procRoot = procRoot
        sysctl = Sysctl(root: procRoot + "/sys")
    }

    /// How it went.
    public struct Report: Hashable, Sendable {
        /// The container's port on the bridge.
        public let hostDevice: String
        public let mac: MACAddress
        public let mtu: Int
        /// All addresses of the interface now, without those of link scope.
        public let addresses: [IPPrefix]
        /// Whether there was no interface before.
        public let isNew: Bool
        /// What could not be done and does not stop the container from working.
        public let warnings: [String]
    }

    /// How long an interface may take to be ready to send, after which announcements are sent anyway.
    static let carrierMilliseconds = 200

    /// Attaches a container.
    ///
    /// - Throws: `NetlinkError`. A pair made by a failed attempt is removed.
    public func attach(_ container: ContainerReference, _ request: AttachRequest) throws -> Report {
        try attach(container.open(procRoot: procRoot), request)
    }

    /// Attaches the container with this namespace.
    public func attach(_ namespace: NetworkNamespace, _ request: AttachRequest) throws -> Report {
        let host = try RouteNetlink()
        let hostLinks = try host.links()
        let inside = try namespace.run { try Self.observe(request.interface) }
        let plan = try AttachPlan.make(
            request,
            from: AttachObservation(
                host: hostLinks, container: inside.links, namespaceNumber: namespace.number(),
                addresses: inside.addresses, routes: inside.routes))
        var warnings: [String] = []
        if let pair = plan.pair {
            try host.createVeth(
                .init(pair.hostDevice), .init(pair.interface, mac: pair.mac), in: namespace, mtu: pair.mtu)
        }
        do {
            warnings += try prepareHostEnd(plan, request, host)
            let sysctl = sysctl
            let done = try namespace.run { try Self.configure(plan, request, sysctl) }
            return Report(
                hostDevice: plan.hostDevice, mac: done.mac, mtu: done.mtu, addresses: done.addresses,
                isNew: plan.pair != nil, warnings: warnings + done.warnings)
        } catch {
            if plan.pair != nil, let link = try? host.link(named: plan.hostDevice) { try? host.delete(link) }
            throw error
        }
    }

    private func prepareHostEnd(_ plan: AttachPlan, _ request: AttachRequest, _ host: RouteNetlink)
        throws(NetlinkError) -> [String]
    {
        let device = try host.existingLink(named: plan.hostDevice)
        let warnings = sysctl.apply(SysctlSetting.noAddresses(plan.hostDevice))
        if plan.joinsBridge { try host.set(device, master: host.existingLink(named: request.bridge)) }
        try host.set(device, .hairpin, request.isHairpin)
        if !device.isUp { try host.set(device, up: true) }
        return warnings
    }

    /// What the container has, seen from inside.
    private struct Inside: Sendable {
        let links: [Link]
        let addresses: [IPPrefix]
        let routes: [Route]
    }

    private static func observe(_ interface: String) throws(NetlinkError) -> Inside {
        let netlink = try RouteNetlink()
        let links = try netlink.links()
        guard let link = links.first(where: { $0.name == interface }) else {
            return Inside(links: links, addresses: [], routes: [])
        }
        return Inside(
            links: links,
            addresses: try netlink.addresses(of: link).filter { !$0.isLinkScope }.map(\.prefix),
            routes: try netlink.routes().filter { $0.index == link.index })
    }

    /// The outcome inside.
    private struct Configured: Sendable {
        let mac: MACAddress
        let mtu: Int
        let addresses: [IPPrefix]
        let warnings: [String]
    }

    /// Runs in the container's namespace.
    private static func configure(_ plan: AttachPlan, _ request: AttachRequest, _ sysctl: Sysctl)
        throws(NetlinkError) -> Configured
    {
        let netlink = try RouteNetlink()
        let link = try netlink.existingLink(named: request.interface)
        let settings =
            SysctlSetting.neighbourTuning(link.name) + SysctlSetting.ignoreRouterAdvertisements(link.name)
        var warnings = sysctl.apply(settings)
        if !request.keepsChecksumOffload { try Offload.txChecksum.set(link.name, on: false) }
        for prefix in plan.newAddresses { try netlink.add(prefix, to: link) }
        if !link.isUp { try netlink.set(link, up: true) }
        if let warning = MulticastFilter.install(interface: link.name, subnets: plan.subnets) {
            warnings.append(warning)
        }
        let ready = try waitForCarrier(link, netlink)
        let mac = ready.mac ?? .broadcast
        GratuitousARP.announce(plan.newAddresses, mac: mac, index: link.index)
        for route in plan.newRoutes {
            try netlink.add(Route(destination: route.destination, gateway: route.gateway, index: link.index))
        }
        let addresses = try netlink.addresses(of: link).filter { !$0.isLinkScope }.map(\.prefix)
        return Configured(mac: mac, mtu: ready.mtu, addresses: addresses, warnings: warnings)
    }

    /// A device that was just switched on drops what it is given until the kernel has noticed the carrier.
    private static func waitForCarrier(_ link: Link, _ netlink: RouteNetlink) throws(NetlinkError) -> Link {
        var current = try netlink.existingLink(named: link.name)
        for _ in 0..<carrierMilliseconds where !current.isRunning {
            usleep(1000)
            current = try netlink.existingLink(named: link.name)
        }
        return current
    }

    /// Takes addresses away from a container, or with `addresses` nil all; the interface goes with its last address.
    ///
    /// - Returns: what was removed and what remains; nothing at all when the container is not attached.
    @discardableResult
    public func detach(_ container: ContainerReference, interface: String = "ethwe", addresses: [IPPrefix]?) throws
        -> DetachPlan
    {
        try checkDeviceName(interface)
        return try container.open(procRoot: procRoot).run {
            let netlink = try RouteNetlink()
            guard let link = try netlink.link(named: interface) else { return DetachPlan(removed: [], remaining: []) }
            guard link.kind == "veth" else {
                throw NetlinkError(.exists, "\"\(interface)\" of the container is no attachment; it is left alone")
            }
            let present = try netlink.addresses(of: link).filter { !$0.isLinkScope }.map(\.prefix)
            let plan = DetachPlan.make(addresses: addresses, present: present)
            for prefix in plan.removed { try netlink.remove(prefix, from: link) }
            if plan.remaining.isEmpty {
                MulticastFilter.remove(interface: interface)
                try netlink.delete(link)
            } else if !plan.removed.isEmpty {
                let subnets = plan.remaining.filter { $0.v4 != nil }.map(\.masked)
                _ = MulticastFilter.install(interface: interface, subnets: subnets)
            }
            return plan
        }
    }
}
