import WeaveNetlink

/// The host's own addresses on a bridge of the calling thread's namespace.
struct BridgeAddresses {
    let netlink: RouteNetlink
    let link: Link

    /// - Throws: `NetlinkError`, `notFound` without the bridge.
    init(_ bridge: String) throws(NetlinkError) {
        netlink = try RouteNetlink()
        link = try netlink.existingLink(named: bridge)
    }

    /// Those that mean something beyond the link.
    func list() throws(NetlinkError) -> [IPPrefix] {
        try netlink.addresses(of: link).filter { !$0.isLinkScope }.map(\.prefix)
    }

    /// Gives the host an address and tells the link about it; false when it was there.
    func add(_ prefix: IPPrefix) throws(NetlinkError) -> Bool {
        let isNew = try netlink.add(prefix, to: link)
        if let mac = link.mac { GratuitousARP.announce([prefix], mac: mac, index: link.index) }
        return isNew
    }

    /// Takes an address away and no other; false when it was not there.
    func remove(_ prefix: IPPrefix, _ sysctl: Sysctl) throws(NetlinkError) -> Bool {
        // The first address of a subnet takes the others with it, unless they may move up.
        _ = sysctl.apply(SysctlSetting("net/ipv4/conf/\(link.name)/promote_secondaries", "1"))
        let before = try list()
        let removed = try netlink.remove(prefix, from: link)
        let after = try list()
        for lost in before where lost != prefix && !after.contains(lost) { _ = try add(lost) }
        return removed
    }
}
