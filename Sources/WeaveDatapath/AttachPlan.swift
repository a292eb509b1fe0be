public import WeaveCore
public import WeaveNetlink

/// What there is, on the host and in the container.
public struct AttachObservation: Hashable, Sendable {
    /// The devices of the host.
    public var host: [Link]
    /// The devices of the container.
    public var container: [Link]
    /// The addresses of the container's interface, without those of link scope.
    public var addresses: [IPPrefix]
    /// The routes through the container's interface.
    public var routes: [Route]
    /// The host's number for the container's namespace; nil when no device of the host leads there.
    public var namespaceNumber: Int?

    public init(
        host: [Link], container: [Link], namespaceNumber: Int? = nil, addresses: [IPPrefix] = [], routes: [Route] = []
    ) {
        self.host = host
        self.container = container
        self.namespaceNumber = namespaceNumber
        self.addresses = addresses
        self.routes = routes
    }
}

/// What to do to get a container from how it is attached to how it should be. Made without touching anything; carried out
/// by `ContainerAttachment`. Empty lists are left out, so an attachment that is as it should be costs a look.
public struct AttachPlan: Hashable, Sendable {
    /// The pair to make; nil when there is one.
    public struct Pair: Hashable, Sendable {
        public var hostDevice: String
        public var interface: String
        public var mtu: Int
        public var mac: MACAddress?
    }

    /// The device on the host.
    public var hostDevice: String
    public var pair: Pair?
    /// Whether the host's device has to become a port of the bridge.
    public var joinsBridge: Bool
    /// Addresses to add, in order and without repetition.
    public var newAddresses: [IPPrefix]
    /// Routes to add, in order.
    public var newRoutes: [ContainerRoute]
    /// All subnets of the container in the end: multicast from elsewhere is not let in.
    public var subnets: [IPPrefix]

    /// All of multicast.
    static let multicast = IPPrefix(.v4(IPv4Address(rawValue: 0xe000_0000)), length: 4)
    /// What the host's device of a container starts with.
    public static let prefix = "vethwepl"
    /// How much of the id fits a device name after the prefix.
    static let idLength = 7

    /// Decides.
    ///
    /// - Throws: `NetlinkError`: `invalid` for a bad request, `notFound` without the bridge, `exists` when the interface
    ///   is there and is somebody else's.
    public static func make(_ request: AttachRequest, from observation: AttachObservation) throws(NetlinkError)
        -> AttachPlan
    {
        try check(request)
        guard let bridge = observation.host.first(where: { $0.name == request.bridge }) else {
            throw NetlinkError(
                .notFound, "there is no bridge \"\(request.bridge)\" on this host; is the router running?")
        }
        let inner = observation.container.first { $0.name == request.interface }
        var outer: Link?
        if let inner { outer = try otherEnd(of: inner, bridge, observation, request) }
        let name: String
        if let outer {
            name = outer.name
        } else {
            name = try deviceName(for: request.id, taken: Set(observation.host.map(\.name)))
        }
        let port = observation.host.first { $0.name == request.port }
        let pair = Pair(
            hostDevice: name, interface: request.interface,
            mtu: request.mtu ?? min(bridge.mtu, port?.mtu ?? bridge.mtu), mac: request.mac)
        let newAddresses = request.addresses.uniqued().filter { !observation.addresses.contains($0) }
        let addresses = observation.addresses + newAddresses
        return AttachPlan(
            hostDevice: name, pair: inner == nil ? pair : nil, joinsBridge: outer?.master == nil,
            newAddresses: newAddresses,
            newRoutes: routes(request, addresses: addresses, existing: observation.routes),
            subnets: addresses.filter { $0.v4 != nil }.map(\.masked).uniqued())
    }

    private static func check(_ request: AttachRequest) throws(NetlinkError) {
        try checkDeviceName(request.interface)
        try checkDeviceName(request.bridge)
        guard !request.id.isEmpty else {
            throw NetlinkError(.invalid, "a container needs an id that is not empty")
        }
        if let mtu = request.mtu,
            !(BridgeConfiguration.minimumMTU...BridgeConfiguration.defaultMTU).contains(mtu)
        {
            throw NetlinkError(.invalid, "the MTU \(mtu) of \"\(request.interface)\" is out of range")
        }
        for prefix in request.addresses {
            let isNetwork = prefix.v4.map { $0.prefixLength < 31 && $0.address == $0.network } ?? false
            let isBroadcast = prefix.v4.map { $0.prefixLength < 31 && $0.address == $0.last } ?? false
            let isGroup = prefix.v4.map { $0.address.rawValue >> 28 == 0xe } ?? false
            guard !isNetwork, !isBroadcast, !isGroup, prefix.length > 0 else {
                throw NetlinkError(.invalid, "\(prefix) is not the address of a host in a subnet")
            }
        }
        if let mac = request.mac, mac.isGroup || mac.rawValue == 0 {
            throw NetlinkError(.invalid, "\(mac) is not the hardware address of one device")
        }
    }

    /// The host's end of an interface that is there already.
    private static func otherEnd(
        of inner: Link, _ bridge: Link, _ observation: AttachObservation, _ request: AttachRequest
    ) throws(NetlinkError) -> Link {
        guard inner.kind == "veth", let index = inner.peerIndex,
            let outer = observation.host.first(where: { $0.index == index }), outer.kind == "veth",
            outer.peerIndex == inner.index, outer.peerNamespace == observation.namespaceNumber
        else {
            throw NetlinkError(
                .exists,
                "the container has a device \"\(request.interface)\" that does not lead to this host; remove it first")
        }
        guard outer.master == nil || outer.master == bridge.index else {
            throw NetlinkError(
                .busy,
                "\"\(request.interface)\" leads to \"\(outer.name)\", which belongs to another bridge than "
                    + "\"\(bridge.name)\"")
        }
        return outer
    }

    /// The host's device for a container: as much of the id as fits, or when another container has that name a hash of the
    /// whole id.
    static func deviceName(for id: String, taken: Set<String>) throws(NetlinkError) -> String {
        let clean = id.utf8.filter { $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") }
        let plain = prefix + String(decoding: clean.prefix(idLength), as: UTF8.self)
        if !clean.isEmpty, !taken.contains(plain) { return plain }
        // FNV-1a; a collision of the hash is passed over by the salt.
        for salt in UInt8(0)..<16 {
            let hash = (Array(id.utf8) + [salt]).reduce(UInt64(0xcbf2_9ce4_8422_2325)) {
                ($0 ^ UInt64($1)) &* 0x100_0000_01b3
            }
            let digits = String(hash, radix: 16)
            let name = prefix + String(repeating: "0", count: max(0, idLength - digits.count)) + digits.prefix(idLength)
            if !taken.contains(name) { return name }
        }
        throw NetlinkError(.exists, "no device name is left for container \(id)")
    }

    /// What is missing of the wanted routes; multicast last, because waiting programs take it as the sign that all is done.
    private static func routes(_ request: AttachRequest, addresses: [IPPrefix], existing: [Route]) -> [ContainerRoute] {
        var wanted: [ContainerRoute] = []
        for route in request.routes {
            if let gateway = route.gateway, let host = IPPrefix(gateway, length: gateway.v4 == nil ? 128 : 32),
                !addresses.contains(where: { IPPrefix(gateway, length: $0.length)?.masked == $0.masked })
            {
                wanted.append(ContainerRoute(destination: host, gateway: nil))
            }
            wanted.append(route)
        }
        if request.hasMulticastRoute { wanted.append(ContainerRoute(destination: multicast, gateway: nil)) }
        return wanted.uniqued().filter { route in
            !existing.contains { $0.destination == route.destination?.masked && $0.gateway == route.gateway }
        }
    }
}

/// What to do to detach a container.
public struct DetachPlan: Hashable, Sendable {
    /// Addresses to take away.
    public var removed: [IPPrefix]
    /// Those that stay. When there are none, the interface goes.
    public var remaining: [IPPrefix]

    /// Decides; `addresses` nil means all.
    public static func make(addresses: [IPPrefix]?, present: [IPPrefix]) -> DetachPlan {
        guard let addresses else { return DetachPlan(removed: present, remaining: []) }
        return DetachPlan(
            removed: present.filter { addresses.contains($0) }, remaining: present.filter { !addresses.contains($0) })
    }
}

extension Array where Element: Hashable {
    /// Without repetitions, in order.
    fileprivate func uniqued() -> [Element] {
        var seen: Set<Element> = []
        return filter { seen.insert($0).inserted }
    }
}
