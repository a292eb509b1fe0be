import Glibc
public import WeaveCore
public import WeaveNetlink

/// A container attached to the bridge, as the kernel shows it: what is known of containers after a restart.
public struct ContainerPort: Hashable, Sendable {
    /// The port of the bridge, `vethwepl...`.
    public let hostDevice: String
    /// The device inside.
    public let interface: String
    public let mac: MACAddress?
    /// Without those of link scope.
    public let addresses: [IPPrefix]
    /// A file by which the container's namespace can be opened.
    public let namespacePath: String
    /// A process inside; nil when it was found by a name of `ip netns`.
    public let processID: Int32?

    /// How many namespaces are looked into, so that a host with very many processes does not hold up the start.
    static let namespaceLimit = 4096

    /// The containers attached to a bridge of the calling thread's namespace, ordered by port. Namespaces are found by the
    /// names of `ip netns` and by the processes of `procRoot`; a container that has neither is not found.
    public static func list(bridge: String = "weave", procRoot: String = "/proc") throws -> [ContainerPort] {
        let netlink = try RouteNetlink()
        guard let master = try netlink.link(named: bridge) else { return [] }
        let ports = try netlink.links().filter {
            $0.master == master.index && $0.kind == "veth" && $0.peerNamespace != nil
        }
        guard !ports.isEmpty else { return [] }
        var missing = Dictionary(uniqueKeysWithValues: ports.map { ($0.index, $0) })
        var found: [ContainerPort] = []
        for place in try places(procRoot: procRoot) where !missing.isEmpty {
            // Index numbers repeat from one namespace to the next, so the namespace has to be the right one too.
            guard let number = try? place.namespace.number() else { continue }
            let wanted = missing.filter { $0.value.peerNamespace == number }
            if wanted.isEmpty { continue }
            // A namespace may go while we look.
            guard let inside = try? place.namespace.run({ try ends(of: wanted) }) else { continue }
            for end in inside {
                guard let port = missing.removeValue(forKey: end.hostIndex) else { continue }
                found.append(
                    ContainerPort(
                        hostDevice: port.name, interface: end.link.name, mac: end.link.mac, addresses: end.addresses,
                        namespacePath: place.namespace.path, processID: place.processID))
            }
        }
        return found.sorted { $0.hostDevice < $1.hostDevice }
    }

    private struct End: Sendable {
        let hostIndex: Int
        let link: Link
        let addresses: [IPPrefix]
    }

    private static func ends(of ports: [Int: Link]) throws(NetlinkError) -> [End] {
        let netlink = try RouteNetlink()
        var ends: [End] = []
        for link in try netlink.links() {
            guard link.kind == "veth", let index = link.peerIndex, ports[index]?.peerIndex == link.index else {
                continue
            }
            let addresses = try netlink.addresses(of: link).filter { !$0.isLinkScope }.map(\.prefix)
            ends.append(End(hostIndex: index, link: link, addresses: addresses))
        }
        return ends
    }

    private struct Place {
        let namespace: NetworkNamespace
        let processID: Int32?
    }

    /// Every namespace that can be found but our own, once.
    private static func places(procRoot: String) throws(NetlinkError) -> [Place] {
        var seen: Set<NetworkNamespace.Identity> = [try NetworkNamespace.current().identity]
        var places: [Place] = []
        func look(_ namespace: NetworkNamespace?, _ processID: Int32?) {
            guard let namespace, places.count < namespaceLimit, seen.insert(namespace.identity).inserted else { return }
            places.append(Place(namespace: namespace, processID: processID))
        }
        for name in NetworkNamespace.names() { look(try? NetworkNamespace(named: name), nil) }
        for number in processes(procRoot) { look(try? NetworkNamespace(path: "\(procRoot)/\(number)/ns/net"), number) }
        return places
    }

    private static func processes(_ procRoot: String) -> [Int32] {
        guard let directory = unsafe opendir(procRoot) else { return [] }
        defer { unsafe closedir(directory) }
        var numbers: [Int32] = []
        while let entry = unsafe readdir(directory) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
                unsafe $0.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            if let number = Int32(name), number > 0 { numbers.append(number) }
        }
        return numbers.sorted()
    }
}
