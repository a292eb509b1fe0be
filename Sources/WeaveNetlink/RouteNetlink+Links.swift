import CNetlink
import Glibc
public import WeaveCore

extension RouteNetlink {
    /// All devices of the namespace.
    public func links() throws(NetlinkError) -> [Link] {
        try unsafe dump("devices") { cache in
            unsafe rtnl_link_alloc_cache(socket, AF_UNSPEC, cache)
        } each: { object in
            unsafe Self.link(object)
        }
    }

    /// The device called `name`; nil when there is none.
    public func link(named name: String) throws(NetlinkError) -> Link? {
        try checkDeviceName(name)
        return try lookUp(index: 0, name: name)
    }

    /// The device with this index; nil when there is none.
    public func link(index: Int) throws(NetlinkError) -> Link? { try lookUp(index: index, name: nil) }

    /// The device called `name`.
    ///
    /// - Throws: `NetlinkError` with code `notFound` when there is none.
    public func existingLink(named name: String) throws(NetlinkError) -> Link {
        guard let link = try link(named: name) else {
            throw NetlinkError(.notFound, "there is no network device \"\(name)\" in this network namespace")
        }
        return link
    }

    private func lookUp(index: Int, name: String?) throws(NetlinkError) -> Link? {
        var found: OpaquePointer?
        let result = unsafe rtnl_link_get_kernel(socket, Int32(index), name, &found)
        if result == -NLE_OBJ_NOTFOUND || result == -NLE_NODEV { return nil }
        try check(result, "look up device \(name ?? "#\(index)")")
        guard let found = unsafe found else { return nil }
        defer { unsafe rtnl_link_put(found) }
        return unsafe Self.link(found)
    }

    private static func link(_ raw: OpaquePointer) -> Link {
        let flags = unsafe rtnl_link_get_flags(raw)
        let master = Int(unsafe rtnl_link_get_master(raw))
        let peer = Int(unsafe rtnl_link_get_link(raw))
        var namespace: Int32 = 0
        let isElsewhere = unsafe rtnl_link_get_link_netnsid(raw, &namespace) == 0
        return Link(
            index: Int(unsafe rtnl_link_get_ifindex(raw)),
            name: unsafe rtnl_link_get_name(raw).map { unsafe String(cString: $0) } ?? "",
            kind: unsafe rtnl_link_get_type(raw).map { unsafe String(cString: $0) } ?? "",
            mac: MACAddress(bytes: unsafe bytes(of: rtnl_link_get_addr(raw))),
            mtu: Int(unsafe rtnl_link_get_mtu(raw)), isUp: flags & UInt32(IFF_UP) != 0,
            isRunning: flags & UInt32(IFF_RUNNING) != 0, master: master == 0 ? nil : master,
            peerIndex: peer == 0 ? nil : peer, peerNamespace: isElsewhere ? Int(namespace) : nil)
    }

    /// Makes a bridge without spanning tree, switched off.
    public func createBridge(_ name: String) throws(NetlinkError) {
        try checkDeviceName(name)
        guard let link = unsafe rtnl_link_bridge_alloc() else { throw noMemory("create bridge \"\(name)\"") }
        defer { unsafe rtnl_link_put(link) }
        unsafe rtnl_link_set_name(link, name)
        try check(
            unsafe rtnl_link_add(socket, link, NLM_F_CREATE | NLM_F_EXCL), "create bridge \"\(name)\"",
            feature: "CONFIG_BRIDGE (module \"bridge\")")
    }

    /// One end of a veth pair to be.
    public struct VethEnd: Hashable, Sendable {
        public var name: String
        /// Nil leaves the choice to the kernel.
        public var mac: MACAddress?

        public init(_ name: String, mac: MACAddress? = nil) {
            self.name = name
            self.mac = mac
        }
    }

    /// Makes a veth pair, switched off: `near` in this namespace, `far` in `namespace` or here when that is nil.
    public func createVeth(
        _ near: VethEnd, _ far: VethEnd, in namespace: NetworkNamespace? = nil, mtu: Int? = nil
    ) throws(NetlinkError) {
        try checkDeviceName(near.name)
        try checkDeviceName(far.name)
        let what = "create the veth pair \"\(near.name)\", \"\(far.name)\""
        guard let link = unsafe rtnl_link_veth_alloc() else { throw noMemory(what) }
        // Frees the part about the peer too.
        defer { unsafe rtnl_link_veth_release(link) }
        guard let peer = unsafe rtnl_link_veth_get_peer(link) else { throw noMemory(what) }
        defer { unsafe rtnl_link_put(peer) }
        try unsafe fill(link, near, mtu)
        try unsafe fill(peer, far, mtu)
        if let namespace { unsafe rtnl_link_set_ns_fd(peer, namespace.descriptor) }
        try check(
            unsafe rtnl_link_add(socket, link, NLM_F_CREATE | NLM_F_EXCL), what,
            feature: "CONFIG_VETH (module \"veth\")")
    }

    private func fill(_ raw: OpaquePointer, _ end: VethEnd, _ mtu: Int?) throws(NetlinkError) {
        unsafe rtnl_link_set_name(raw, end.name)
        if let mtu { unsafe rtnl_link_set_mtu(raw, UInt32(clamping: mtu)) }
        if let mac = end.mac {
            try unsafe withLibraryAddress(mac) { unsafe rtnl_link_set_addr(raw, $0) }
        }
    }

    /// Removes a device; the other end of a veth pair goes too.
    public func delete(_ link: Link) throws(NetlinkError) {
        guard let raw = unsafe rtnl_link_alloc() else { throw noMemory("delete \"\(link.name)\"") }
        defer { unsafe rtnl_link_put(raw) }
        unsafe rtnl_link_set_ifindex(raw, Int32(link.index))
        try check(unsafe rtnl_link_delete(socket, raw), "delete device \"\(link.name)\"")
    }

    /// Switches a device on or off.
    public func set(_ link: Link, up: Bool) throws(NetlinkError) {
        try unsafe change(link, "switch \"\(link.name)\" \(up ? "on" : "off")") { raw in
            let flag = UInt32(IFF_UP)
            if up { unsafe rtnl_link_set_flags(raw, flag) } else { unsafe rtnl_link_unset_flags(raw, flag) }
        }
    }

    /// Sets the largest packet a device takes, in bytes without its Ethernet header.
    public func set(_ link: Link, mtu: Int) throws(NetlinkError) {
        try unsafe change(link, "set the MTU of \"\(link.name)\" to \(mtu)") {
            unsafe rtnl_link_set_mtu($0, UInt32(clamping: mtu))
        }
    }

    /// Sets the hardware address.
    public func set(_ link: Link, mac: MACAddress) throws(NetlinkError) {
        let what = "set the hardware address of \"\(link.name)\" to \(mac)"
        guard let changes = unsafe rtnl_link_alloc() else { throw noMemory(what) }
        defer { unsafe rtnl_link_put(changes) }
        try unsafe withLibraryAddress(mac) { unsafe rtnl_link_set_addr(changes, $0) }
        try unsafe apply(unsafe changes, to: link, what)
    }

    /// Renames a device, which must be off.
    public func rename(_ link: Link, to name: String) throws(NetlinkError) {
        try checkDeviceName(name)
        try unsafe change(link, "rename \"\(link.name)\" to \"\(name)\"") { unsafe rtnl_link_set_name($0, name) }
    }

    /// Makes a device a port of a bridge, or of none.
    public func set(_ link: Link, master: Link?) throws(NetlinkError) {
        let what = master.map { "make \"\(link.name)\" a port of \"\($0.name)\"" } ?? "release \"\(link.name)\""
        try unsafe change(link, what) { unsafe rtnl_link_set_master($0, Int32(master?.index ?? 0)) }
    }

    /// Moves a device to another namespace. It is off afterwards.
    public func move(_ link: Link, to namespace: NetworkNamespace) throws(NetlinkError) {
        try unsafe change(link, "move \"\(link.name)\" to \(namespace)") {
            unsafe rtnl_link_set_ns_fd($0, namespace.descriptor)
        }
    }

    private func change(_ link: Link, _ what: String, _ fill: (OpaquePointer) -> Void) throws(NetlinkError) {
        guard let changes = unsafe rtnl_link_alloc() else { throw noMemory(what) }
        defer { unsafe rtnl_link_put(changes) }
        unsafe fill(changes)
        try unsafe apply(unsafe changes, to: link, what)
    }

    private func apply(_ changes: OpaquePointer, to link: Link, _ what: String) throws(NetlinkError) {
        guard let original = unsafe rtnl_link_alloc() else { throw noMemory(what) }
        defer { unsafe rtnl_link_put(original) }
        unsafe rtnl_link_set_ifindex(original, Int32(link.index))
        try check(unsafe rtnl_link_change(socket, original, changes, 0), what)
    }

    /// Sets a switch of a bridge port.
    public func set(_ port: Link, _ flag: BridgePortFlag, _ on: Bool) throws(NetlinkError) {
        let what = "switch \(flag.name) \(on ? "on" : "off") for bridge port \"\(port.name)\""
        guard let message = unsafe nlmsg_alloc_simple(Int32(RTM_SETLINK), 0) else { throw noMemory(what) }
        var header = ifinfomsg()
        header.ifi_family = UInt8(AF_BRIDGE)
        header.ifi_index = Int32(port.index)
        var isWhole =
            unsafe nlmsg_append(message, &header, MemoryLayout<ifinfomsg>.size, Int32(NLMSG_ALIGNTO)) == 0
        if let nest = unsafe nla_nest_start(message, Int32(IFLA_PROTINFO) | NLA_F_NESTED) {
            isWhole = unsafe isWhole && nla_put_u8(message, flag.attribute, on ? 1 : 0) == 0
            isWhole = unsafe nla_nest_end(message, nest) == 0 && isWhole
        } else {
            isWhole = false
        }
        guard isWhole else {
            unsafe nlmsg_free(message)
            throw noMemory(what)
        }
        try unsafe transact(unsafe message, what)
    }

    /// Whether frames may go back out of the bridge port they came from; nil when `port` is not a bridge port.
    public func hairpin(_ port: Link) throws(NetlinkError) -> Bool? {
        guard port.master != nil else { return nil }
        let states: [(index: Int, on: Bool)] = try unsafe dump("bridge ports") { cache in
            unsafe rtnl_link_alloc_cache(socket, AF_BRIDGE, cache)
        } each: { object in
            guard unsafe rtnl_link_is_bridge(object) != 0 else { return nil }
            let flags = unsafe rtnl_link_bridge_get_flags(object)
            guard flags >= 0 else { return nil }
            return (
                Int(unsafe rtnl_link_get_ifindex(object)), flags & Int32(RTNL_BRIDGE_HAIRPIN_MODE.rawValue) != 0
            )
        }
        return states.first { $0.index == port.index }?.on
    }
}
