public import WeaveCore
public import WeaveNetlink

/// What the host's own network says about ranges and addresses for the overlay. Pure: asked with what `RouteNetlink` lists.
public struct HostNetwork: Hashable, Sendable {
    public var links: [Link]
    public var routes: [Route]
    public var addresses: [InterfaceAddress]

    public init(links: [Link], routes: [Route], addresses: [InterfaceAddress]) {
        self.links = links
        self.routes = routes
        self.addresses = addresses
    }

    /// The network of the calling thread's namespace as it is now.
    public static func current() throws(NetlinkError) -> HostNetwork {
        let netlink = try RouteNetlink()
        return HostNetwork(
            links: try netlink.links(), routes: try netlink.routes(), addresses: try netlink.addresses())
    }

    /// Why a range is no good for the overlay: the text names the route it shares addresses with. Nil when it is good.
    ///
    /// - Parameter ignored: devices whose routes do not count, the bridge's own above all.
    public func conflict(of range: IPv4CIDR, ignoring ignored: Set<String> = ["weave"]) -> String? {
        let route = destinations(ignored).first { $0.overlaps(range) }
        return route.map { "Network \(range.masked) overlaps with existing route \($0) on host" }
    }

    /// Why an address is no good for the overlay; nil when it is good.
    public func conflict(of address: IPv4Address, ignoring ignored: Set<String> = ["weave"]) -> String? {
        let route = destinations(ignored).first { $0.contains(address) }
        return route.map { "Address \(address) overlaps with existing route \($0) on host" }
    }

    private func destinations(_ ignored: Set<String>) -> [IPv4CIDR] {
        let indices = Set(links.filter { ignored.contains($0.name) }.map(\.index))
        return routes.filter { !indices.contains($0.index) }.compactMap { $0.destination?.v4 }
    }

    /// The IPv4 addresses by which other hosts may reach this one: those of devices that are neither bridges nor loopback.
    public var localAddresses: [IPv4CIDR] {
        let indices = Set(links.filter { $0.kind != "bridge" && $0.name != "lo" }.map(\.index))
        return addresses.filter { indices.contains($0.index) }.compactMap { $0.prefix.v4 }
    }
}
