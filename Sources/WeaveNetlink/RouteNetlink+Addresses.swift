import CNetlink
import Glibc
import WeaveCore

/// An address of a device.
public struct InterfaceAddress: Hashable, Sendable {
    /// The address with the length of its subnet's prefix.
    public let prefix: IPPrefix
    /// The device.
    public let index: Int
    /// Whether it means something on this link only.
    public let isLinkScope: Bool

    public init(prefix: IPPrefix, index: Int, isLinkScope: Bool = false) {
        self.prefix = prefix
        self.index = index
        self.isLinkScope = isLinkScope
    }
}

extension RouteNetlink {
    /// All addresses of the namespace, or those of one device.
    public func addresses(of link: Link? = nil) throws(NetlinkError) -> [InterfaceAddress] {
        try unsafe dump("addresses") { cache in
            unsafe rtnl_addr_alloc_cache(socket, cache)
        } each: { object in
            let index = Int(unsafe rtnl_addr_get_ifindex(object))
            guard link == nil || link?.index == index else { return nil }
            guard let address = unsafe ipAddress(of: rtnl_addr_get_local(object)),
                let prefix = IPPrefix(address, length: Int(unsafe rtnl_addr_get_prefixlen(object)))
            else { return nil }
            return InterfaceAddress(
                prefix: prefix, index: index,
                isLinkScope: unsafe rtnl_addr_get_scope(object) == Int32(RT_SCOPE_LINK.rawValue))
        }
    }

    /// Gives a device an address. IPv4 subnets of more than two addresses get their broadcast address; IPv6 addresses
    /// skip duplicate detection, because whoever hands them out promises that they are unique.
    ///
    /// - Returns: false when the device has it already.
    @discardableResult
    public func add(_ prefix: IPPrefix, to link: Link) throws(NetlinkError) -> Bool {
        let what = "give \(prefix) to \"\(link.name)\""
        let result = try unsafe withAddress(prefix, link, what) { raw in
            unsafe rtnl_addr_add(socket, raw, NLM_F_CREATE | NLM_F_EXCL)
        }
        if result == -NLE_EXIST { return false }
        try check(
            result, what, feature: "IPv6 switched on for \"\(link.name)\" (disable_ipv6 is set, or ipv6.disable=1)")
        return true
    }

    /// Takes an address away from a device.
    ///
    /// - Returns: false when the device does not have it.
    @discardableResult
    public func remove(_ prefix: IPPrefix, from link: Link) throws(NetlinkError) -> Bool {
        let what = "take \(prefix) away from \"\(link.name)\""
        let result = try unsafe withAddress(prefix, link, what) { unsafe rtnl_addr_delete(socket, $0, 0) }
        if result == -NLE_NOADDR || result == -NLE_OBJ_NOTFOUND { return false }
        try check(result, what)
        return true
    }

    private func withAddress(
        _ prefix: IPPrefix, _ link: Link, _ what: String, _ body: (OpaquePointer) -> Int32
    ) throws(NetlinkError) -> Int32 {
        guard let raw = unsafe rtnl_addr_alloc() else { throw noMemory(what) }
        defer { unsafe rtnl_addr_put(raw) }
        unsafe rtnl_addr_set_ifindex(raw, Int32(link.index))
        let set = try unsafe withLibraryAddress(prefix.address, prefixLength: prefix.length) {
            unsafe rtnl_addr_set_local(raw, $0)
        }
        try check(set, what)
        if let cidr = prefix.v4 {
            if cidr.prefixLength < 31 {
                _ = try unsafe withLibraryAddress(.v4(cidr.last), prefixLength: nil) {
                    unsafe rtnl_addr_set_broadcast(raw, $0)
                }
            }
        } else {
            unsafe rtnl_addr_set_flags(raw, UInt32(IFA_F_NODAD))
        }
        return unsafe body(raw)
    }
}
