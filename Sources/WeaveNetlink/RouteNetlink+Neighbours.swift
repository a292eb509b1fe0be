import CNetlink
import Glibc
public import WeaveCore

/// Which hardware address an address on the link has.
public struct Neighbour: Hashable, Sendable {
    public var address: IPAddress
    /// Nil while it is being looked for.
    public var mac: MACAddress?
    public var index: Int
    /// Whether it was set by hand and never expires.
    public var isPermanent: Bool

    public init(address: IPAddress, mac: MACAddress?, index: Int, isPermanent: Bool = true) {
        self.address = address
        self.mac = mac
        self.index = index
        self.isPermanent = isPermanent
    }
}

extension RouteNetlink {
    /// The neighbours known in the namespace, or on one device.
    public func neighbours(of link: Link? = nil) throws(NetlinkError) -> [Neighbour] {
        try unsafe dump("neighbours") { cache in
            unsafe rtnl_neigh_alloc_cache(socket, cache)
        } each: { object in
            let index = Int(unsafe rtnl_neigh_get_ifindex(object))
            guard link == nil || link?.index == index,
                let address = unsafe ipAddress(of: rtnl_neigh_get_dst(object))
            else { return nil }
            return Neighbour(
                address: address, mac: MACAddress(bytes: unsafe bytes(of: rtnl_neigh_get_lladdr(object))),
                index: index, isPermanent: unsafe rtnl_neigh_get_state(object) & NUD_PERMANENT != 0)
        }
    }

    /// Sets a neighbour, in place of what was known.
    public func set(_ neighbour: Neighbour) throws(NetlinkError) {
        let what = "set neighbour \(neighbour.address)"
        let result = try unsafe withNeighbour(neighbour, what) {
            unsafe rtnl_neigh_add(socket, $0, NLM_F_CREATE | NLM_F_REPLACE)
        }
        try check(result, what)
    }

    /// Forgets a neighbour.
    ///
    /// - Returns: false when it is not known.
    @discardableResult
    public func remove(_ neighbour: Neighbour) throws(NetlinkError) -> Bool {
        let what = "remove neighbour \(neighbour.address)"
        let result = try unsafe withNeighbour(neighbour, what) { unsafe rtnl_neigh_delete(socket, $0, 0) }
        if result == -NLE_OBJ_NOTFOUND { return false }
        try check(result, what)
        return true
    }

    private func withNeighbour(
        _ neighbour: Neighbour, _ what: String, _ body: (OpaquePointer) -> Int32
    ) throws(NetlinkError) -> Int32 {
        guard let raw = unsafe rtnl_neigh_alloc() else { throw noMemory(what) }
        defer { unsafe rtnl_neigh_put(raw) }
        unsafe rtnl_neigh_set_ifindex(raw, Int32(neighbour.index))
        unsafe rtnl_neigh_set_state(raw, neighbour.isPermanent ? NUD_PERMANENT : NUD_REACHABLE)
        let set = try unsafe withLibraryAddress(neighbour.address, prefixLength: nil) {
            unsafe rtnl_neigh_set_dst(raw, $0)
        }
        try check(set, what)
        if let mac = neighbour.mac {
            try unsafe withLibraryAddress(mac) { unsafe rtnl_neigh_set_lladdr(raw, $0) }
        }
        return unsafe body(raw)
    }
}
