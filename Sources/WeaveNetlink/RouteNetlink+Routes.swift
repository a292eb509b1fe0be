import CNetlink
import Glibc
public import WeaveCore

/// A unicast route.
public struct Route: Hashable, Sendable {
    /// Nil is the default route of the gateway's family.
    public var destination: IPPrefix?
    /// Nil when the destination is on the link itself.
    public var gateway: IPAddress?
    /// The device packets leave by.
    public var index: Int
    /// The routing table; 254 is the main one.
    public var table: Int
    /// The smaller wins.
    public var priority: Int
    /// The kernel's number for who made it: 2 the kernel, 3 at boot, 4 an administrator.
    public var origin: Int
    /// Whether it is of IPv6; says which family a default route without gateway belongs to.
    public var isIPv6: Bool

    /// The kernel's main routing table.
    public static let mainTable = 254

    public init(
        destination: IPPrefix?, gateway: IPAddress? = nil, index: Int, table: Int = Route.mainTable, priority: Int = 0,
        origin: Int = 3, isIPv6: Bool? = nil
    ) {
        self.destination = destination
        self.gateway = gateway
        self.index = index
        self.table = table
        self.priority = priority
        self.origin = origin
        self.isIPv6 = isIPv6 ?? ((destination?.address ?? gateway).map { $0.v4 == nil } ?? false)
    }
}

extension RouteNetlink {
    /// The unicast routes of the namespace in the main table, or in all tables.
    public func routes(inAllTables: Bool = false) throws(NetlinkError) -> [Route] {
        try unsafe dump("routes") { cache in
            unsafe rtnl_route_alloc_cache(socket, AF_UNSPEC, 0, cache)
        } each: { object in
            let table = Int(unsafe rtnl_route_get_table(object))
            guard inAllTables || table == Route.mainTable, unsafe rtnl_route_get_type(object) == 1,
                let hop = unsafe rtnl_route_nexthop_n(object, 0)
            else { return nil }
            let destination = unsafe ipPrefix(of: rtnl_route_get_dst(object))
            return Route(
                destination: destination?.length == 0 ? nil : destination,
                gateway: unsafe ipAddress(of: rtnl_route_nh_get_gateway(hop)),
                index: Int(unsafe rtnl_route_nh_get_ifindex(hop)), table: table,
                priority: Int(unsafe rtnl_route_get_priority(object)),
                origin: Int(unsafe rtnl_route_get_protocol(object)),
                isIPv6: Int32(unsafe rtnl_route_get_family(object)) == AF_INET6)
        }
    }

    /// Adds a route.
    ///
    /// - Returns: false when there is one to the same destination with the same priority already.
    @discardableResult
    public func add(_ route: Route) throws(NetlinkError) -> Bool {
        let what = "add the route to \(route.destination?.description ?? "everywhere")"
        let result = try unsafe withRoute(route, what) { unsafe rtnl_route_add(socket, $0, NLM_F_CREATE | NLM_F_EXCL) }
        if result == -NLE_EXIST { return false }
        try check(result, what)
        return true
    }

    /// Removes a route.
    ///
    /// - Returns: false when there is none.
    @discardableResult
    public func remove(_ route: Route) throws(NetlinkError) -> Bool {
        let what = "remove the route to \(route.destination?.description ?? "everywhere")"
        let result = try unsafe withRoute(route, what) { unsafe rtnl_route_delete(socket, $0, 0) }
        if result == -NLE_OBJ_NOTFOUND { return false }
        try check(result, what)
        return true
    }

    private func withRoute(_ route: Route, _ what: String, _ body: (OpaquePointer) -> Int32) throws(NetlinkError)
        -> Int32
    {
        guard let raw = unsafe rtnl_route_alloc() else { throw noMemory(what) }
        defer { unsafe rtnl_route_put(raw) }
        unsafe rtnl_route_set_family(raw, UInt8(route.isIPv6 ? AF_INET6 : AF_INET))
        unsafe rtnl_route_set_table(raw, UInt32(route.table))
        unsafe rtnl_route_set_priority(raw, UInt32(route.priority))
        unsafe rtnl_route_set_protocol(raw, UInt8(truncatingIfNeeded: route.origin))
        let isOnLink = route.gateway == nil && !route.isIPv6
        unsafe rtnl_route_set_scope(raw, UInt8(isOnLink ? RT_SCOPE_LINK.rawValue : RT_SCOPE_UNIVERSE.rawValue))
        let everywhere = IPPrefix(route.isIPv6 ? .v6(.any) : .v4(.any), length: 0)
        if let destination = (route.destination ?? everywhere)?.masked {
            let set = try unsafe withLibraryAddress(destination.address, prefixLength: destination.length) {
                unsafe rtnl_route_set_dst(raw, $0)
            }
            try check(set, what)
        }
        guard let hop = unsafe rtnl_route_nh_alloc() else { throw noMemory(what) }
        unsafe rtnl_route_nh_set_ifindex(hop, Int32(route.index))
        // The route owns the hop from here on.
        unsafe rtnl_route_add_nexthop(raw, hop)
        if let gateway = route.gateway {
            try unsafe withLibraryAddress(gateway, prefixLength: nil) { unsafe rtnl_route_nh_set_gateway(hop, $0) }
        }
        return unsafe body(raw)
    }
}
