public import WeaveCore
public import WeaveNetlink

/// What the host's bridge should be.
public struct BridgeConfiguration: Hashable, Sendable {
    /// The bridge's name.
    public var name = "weave"
    /// The name of the overlay's port.
    public var port = "vethwe-tap"
    /// The bridge's hardware address: the peer name.
    public var mac: MACAddress
    /// The largest packet, in bytes without its Ethernet header. Nil keeps what an existing bridge has, so that the
    /// containers on it and new ones agree, and gives a new one `defaultMTU`.
    public var mtu: Int?

    /// As large as a packet can be: the sleeve finds out what fits the underlay.
    public static let defaultMTU = 65535
    /// What IPv4 asks every link to carry, at least.
    public static let minimumMTU = 68

    public init(mac: MACAddress, mtu: Int? = nil) {
        self.mac = mac
        self.mtu = mtu
    }
}

/// What there is.
public struct BridgeObservation: Hashable, Sendable {
    /// The devices of the host's namespace.
    public var links: [Link]

    public init(links: [Link]) { self.links = links }

    func link(_ name: String) -> Link? { links.first { $0.name == name } }
}

/// One thing to do to get from what there is to what should be.
public enum BridgeStep: Hashable, Sendable {
    case delete(String)
    case createBridge(String)
    case createTAP(String)
    case setMAC(String, MACAddress)
    case setMTU(String, Int)
    case setMaster(String, String)
    case apply([SysctlSetting])
    case switchOn(String)
}

/// Decides what to do about the bridge. Pure: the same question always has the same answer, and a host that is as it should
/// be needs nothing but a look at its settings.
public enum BridgePlan {
    /// The devices 2.8.1 joins the bridge to its datapaths by. Left in place, they would carry every frame a second time.
    static let leftovers = ["vethwe-bridge", "vethwe-pcap", "vethwe-datapath", "vethwedu"]

    /// The steps, in order.
    ///
    /// - Throws: `NetlinkError` with code `invalid` for a configuration that cannot be, `exists` when the bridge's name
    ///   is taken by a device of another kind.
    public static func steps(
        for configuration: BridgeConfiguration, from observation: BridgeObservation
    ) throws(NetlinkError) -> [BridgeStep] {
        try checkDeviceName(configuration.name)
        try checkDeviceName(configuration.port)
        if let mtu = configuration.mtu,
            !(BridgeConfiguration.minimumMTU...BridgeConfiguration.defaultMTU).contains(mtu)
        {
            throw NetlinkError(
                .invalid,
                "the MTU \(mtu) is out of range: it takes \(BridgeConfiguration.minimumMTU) to "
                    + "\(BridgeConfiguration.defaultMTU) bytes, or 0 for the default")
        }
        let bridge = observation.link(configuration.name)
        let port = observation.link(configuration.port)
        try checkKind(bridge, "bridge", configuration.name)
        try checkKind(port, "tun", configuration.port)

        let mtu = configuration.mtu ?? bridge?.mtu ?? BridgeConfiguration.defaultMTU
        let portMTU = min(mtu, TAPPort.maximumMTU)
        var steps: [BridgeStep] = leftovers.filter { observation.link($0) != nil }.map { .delete($0) }
        if bridge == nil { steps.append(.createBridge(configuration.name)) }
        // Older kernels enter the address into the forwarding table only when it is set after creation.
        if bridge?.mac != configuration.mac { steps.append(.setMAC(configuration.name, configuration.mac)) }
        if port == nil { steps.append(.createTAP(configuration.port)) }
        if port?.mtu != portMTU { steps.append(.setMTU(configuration.port, portMTU)) }
        steps.append(.apply(SysctlSetting.noAddresses(configuration.port)))
        if port?.master == nil || port?.master != bridge?.index {
            steps.append(.setMaster(configuration.port, configuration.name))
        }
        // After the port: a bridge follows its smallest port until its own MTU is set.
        if bridge?.mtu != mtu || port?.master == nil { steps.append(.setMTU(configuration.name, mtu)) }
        steps.append(
            .apply(
                SysctlSetting.neighbourTuning(configuration.name)
                    + SysctlSetting.ignoreRouterAdvertisements(configuration.name)))
        steps += strays(observation, configuration.name)
        if port?.isUp != true { steps.append(.switchOn(configuration.port)) }
        if bridge?.isUp != true { steps.append(.switchOn(configuration.name)) }
        return steps
    }

    /// Containers' ports that something else on the host took off the bridge, as network managers are known to do.
    private static func strays(_ observation: BridgeObservation, _ bridge: String) -> [BridgeStep] {
        observation.links.filter {
            $0.name.hasPrefix(AttachPlan.prefix) && $0.kind == "veth" && $0.peerNamespace != nil && $0.master == nil
        }.flatMap { link -> [BridgeStep] in
            [.setMaster(link.name, bridge)] + (link.isUp ? [] : [.switchOn(link.name)])
        }
    }

    private static func checkKind(_ link: Link?, _ kind: String, _ name: String) throws(NetlinkError) {
        guard let link, link.kind != kind else { return }
        let found = link.kind.isEmpty ? "a device of unknown kind" : "of kind \"\(link.kind)\""
        throw NetlinkError(
            .exists,
            "the device \"\(name)\" exists and is \(found), not \"\(kind)\"; remove it with 'weave reset' or "
                + "'ip link delete \(name)' and start again")
    }
}
