public import WeaveCore
public import WeaveNetlink

/// How a container is found.
public enum ContainerReference: Hashable, Sendable, CustomStringConvertible {
    /// The file of its network namespace.
    case path(String)
    /// A name `ip netns` knows.
    case name(String)
    /// A process inside.
    case process(Int32)

    /// Takes what people type: a path when it has a slash, a process when it is a number, otherwise a name.
    public init(_ text: String) {
        if text.utf8.contains(UInt8(ascii: "/")) {
            self = .path(text)
        } else if let number = Int32(text), number > 0 {
            self = .process(number)
        } else {
            self = .name(text)
        }
    }

    public var description: String {
        switch self {
        case .path(let path): path
        case .name(let name): name
        case .process(let number): "process \(number)"
        }
    }

    /// Opens the container's network namespace.
    ///
    /// - Throws: `NetlinkError`; `invalid` when it is the namespace of the calling thread, the host's: joining that to
    ///   the bridge would take the host off its network.
    /// - Parameter procRoot: the host's `/proc`.
    public func open(procRoot: String = "/proc") throws(NetlinkError) -> NetworkNamespace {
        let namespace: NetworkNamespace =
            switch self {
            case .path(let path): try NetworkNamespace(path: path)
            case .name(let name): try NetworkNamespace(named: name)
            case .process(let number): try NetworkNamespace(processID: number, procRoot: procRoot)
            }
        guard try namespace != NetworkNamespace.current() else {
            throw NetlinkError(
                .invalid,
                "container \(self) is running in the host network namespace, and therefore cannot be attached; "
                    + "start it with a network namespace of its own")
        }
        return namespace
    }
}

/// A route a container should have through its interface.
public struct ContainerRoute: Hashable, Sendable {
    /// Nil is the default route.
    public var destination: IPPrefix?
    /// Nil when the destination is on the link itself. A gateway outside the container's subnets is made reachable.
    public var gateway: IPAddress?

    public init(destination: IPPrefix?, gateway: IPAddress?) {
        self.destination = destination
        self.gateway = gateway
    }
}

/// How a container should be attached.
public struct AttachRequest: Hashable, Sendable {
    /// What the host's device is named after: a process number, a container's id, a name.
    public var id: String
    /// The bridge on the host.
    public var bridge = "weave"
    /// The overlay's port of the bridge; its MTU bounds the container's.
    public var port = "vethwe-tap"
    /// The device inside the container.
    public var interface = "ethwe"
    /// Addresses to have in addition to those that are there.
    public var addresses: [IPPrefix]
    /// Nil takes the most that bridge and overlay carry.
    public var mtu: Int?
    /// The device's hardware address; nil leaves the choice to the kernel.
    public var mac: MACAddress?
    /// Whether all multicast leaves through the interface.
    public var hasMulticastRoute = true
    /// Whether the container may reach itself by way of the bridge.
    public var isHairpin = true
    /// Whether packets may leave the container without checksums. The overlay's port completes them; switch it off when
    /// something else on the bridge reads frames raw.
    public var keepsChecksumOffload = true
    /// Further routes, in order.
    public var routes: [ContainerRoute] = []

    public init(id: String, addresses: [IPPrefix]) {
        self.id = id
        self.addresses = addresses
    }
}
