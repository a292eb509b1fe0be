public import WeaveCore

/// A network device, as one moment shows it.
public struct Link: Hashable, Sendable {
    public let index: Int
    public let name: String
    /// What the kernel calls its kind: `bridge`, `veth`, `tun`, `openvswitch`, `vxlan`...; empty for plain devices.
    public let kind: String
    /// The hardware address; nil for devices without one.
    public let mac: MACAddress?
    public let mtu: Int
    /// Whether it was switched on.
    public let isUp: Bool
    /// Whether it is on and has a carrier.
    public let isRunning: Bool
    /// The index of the bridge it is a port of.
    public let master: Int?
    /// For a veth the index of its other end, in the other end's namespace.
    public let peerIndex: Int?
    /// The kernel's number for the other end's namespace, nil when that is the same one.
    public let peerNamespace: Int?

    public init(
        index: Int, name: String, kind: String, mac: MACAddress? = nil, mtu: Int = 1500, isUp: Bool = false,
        isRunning: Bool = false, master: Int? = nil, peerIndex: Int? = nil, peerNamespace: Int? = nil
    ) {
        self.index = index
        self.name = name
        self.kind = kind
        self.mac = mac
        self.mtu = mtu
        self.isUp = isUp
        self.isRunning = isRunning
        self.master = master
        self.peerIndex = peerIndex
        self.peerNamespace = peerNamespace
    }
}

/// Switches of a bridge port.
public struct BridgePortFlag: Hashable, Sendable {
    /// The attribute's number in the kernel's interface.
    let attribute: Int32
    let name: String

    /// Frames may go back out of the port they came from.
    public static let hairpin = BridgePortFlag(attribute: 4, name: "hairpin")
    /// Addresses are learned from what arrives.
    public static let learning = BridgePortFlag(attribute: 8, name: "learning")
    /// Frames to unknown addresses are sent out here.
    public static let flood = BridgePortFlag(attribute: 9, name: "flood")
    /// Multicast is sent out here although nobody asked for it.
    public static let multicastFlood = BridgePortFlag(attribute: 27, name: "mcast_flood")
    /// Frames are not exchanged with other isolated ports.
    public static let isolated = BridgePortFlag(attribute: 33, name: "isolated")
}
