import NetLab
import Testing
import WeaveCore
import WeaveNetlink

@testable import WeaveDatapath

/// A host with its bridge, and containers, in namespaces of their own.
private final class Lab {
    let cluster: LabCluster
    let hostName: String
    let host: NetworkNamespace
    let mac = MACAddress(truncating: 0x7a00_0000_0001)

    init() throws {
        cluster = try LabCluster()
        hostName = try cluster.addContainer().namespace
        host = try NetworkNamespace(named: hostName)
    }

    func bridge(mtu: Int? = nil) throws -> Bridge.Report {
        let configuration = BridgeConfiguration(mac: mac, mtu: mtu)
        return try host.run { try Bridge(configuration).ensure() }
    }

    func container() throws -> LabContainer { try cluster.addContainer() }

    func attach(
        _ container: LabContainer, _ addresses: String..., change: (inout AttachRequest) -> Void = { _ in }
    ) throws -> ContainerAttachment.Report {
        var request = AttachRequest(id: container.namespace, addresses: addresses.compactMap { IPPrefix($0) })
        change(&request)
        let name = container.namespace
        return try host.run { [request] in try ContainerAttachment().attach(.name(name), request) }
    }

    func detach(_ container: LabContainer, _ addresses: String...) throws -> DetachPlan {
        let name = container.namespace
        let prefixes = addresses.isEmpty ? nil : addresses.compactMap { IPPrefix($0) }
        return try host.run { try ContainerAttachment().detach(.name(name), addresses: prefixes) }
    }

    func run(_ words: String...) throws -> String {
        try LabShell.run(["ip", "netns", "exec", hostName] + words)
    }
}

@Suite("Bridge and containers in namespaces", .enabled(if: LabShell.canMakeNamespaces))
struct AttachLabTests {
    @Test("The bridge is made, carries the peer name and large packets, and making it again changes nothing")
    func bridge() throws {
        let lab = try Lab()
        let report = try lab.bridge()
        #expect(!report.wasAdopted && report.mtu == 65535 && report.portMTU == 65521)
        #expect(report.warnings == [])
        let state = try lab.host.run { try BridgeObservation(links: RouteNetlink().links()) }
        let bridge = try #require(state.links.first { $0.name == "weave" })
        let port = try #require(state.links.first { $0.name == "vethwe-tap" })
        #expect(bridge.mac == lab.mac && bridge.isUp && port.master == bridge.index && port.isUp)
        #expect(try lab.run("cat", "/proc/sys/net/ipv6/conf/weave/accept_ra") == "0\n")
        #expect(try lab.run("cat", "/proc/sys/net/ipv4/neigh/weave/base_reachable_time") == "5\n")
        #expect(try lab.run("cat", "/proc/sys/net/ipv6/conf/vethwe-tap/disable_ipv6") == "1\n")

        let again = try lab.bridge()
        #expect(again.wasAdopted && again.mtu == 65535)
        let after = try lab.host.run { try BridgeObservation(links: RouteNetlink().links()) }
        #expect(after == state)
        #expect(try lab.host.run { try Bridge.existingAddress() } == lab.mac)
    }

    @Test("A bridge of 2.8.1 is adopted with its MTU and its containers, without its datapath's port")
    func adopts() throws {
        let lab = try Lab()
        _ = try lab.run("ip", "link", "add", "weave", "type", "bridge")
        _ = try lab.run("ip", "link", "add", "vethwe-bridge", "type", "veth", "peer", "name", "vethwe-pcap")
        _ = try lab.run("ip", "link", "add", "vethwepl1", "mtu", "1376", "type", "veth", "peer", "name", "x")
        for port in ["vethwe-bridge", "vethwepl1"] { _ = try lab.run("ip", "link", "set", port, "master", "weave") }
        _ = try lab.run("ip", "link", "set", "weave", "mtu", "1376")
        let report = try lab.bridge()
        #expect(report.wasAdopted && report.mtu == 1376 && report.portMTU == 1376)
        let names = try lab.host.run { try RouteNetlink().links().map(\.name) }
        #expect(names.contains("vethwepl1") && !names.contains("vethwe-bridge") && !names.contains("vethwe-pcap"))
    }

    @Test("The overlay's port can be opened with offloads once it is there")
    func port() throws {
        let lab = try Lab()
        _ = try lab.bridge()
        let (hasHeader, queues) = try lab.host.run { () throws in
            let device = try TAPDevice(name: "vethwe-tap", queues: 2, useHeader: true)
            return (device.hasHeader, device.descriptors.count)
        }
        #expect(hasHeader && queues == 2)
    }

    @Test("Containers attached to one bridge reach each other, with checksums left to offloads")
    func reach() throws {
        let lab = try Lab()
        _ = try lab.bridge()
        let a = try lab.container()
        let b = try lab.container()
        let first = try lab.attach(a, "10.32.0.1/12")
        let second = try lab.attach(b, "10.32.0.2/12")
        #expect(first.isNew && first.warnings == [] && first.mtu == 65521)
        #expect(first.hostDevice != second.hostDevice)
        #expect(try a.pings("10.32.0.2"))
        #expect(try b.pings("10.32.0.1", size: 60_000, dontFragment: true))
        #expect(try a.run("ethtool", "-k", "ethwe").contains("tx-checksumming: on"))
        let routes = try a.run("ip", "route")
        #expect(routes.contains("224.0.0.0/4 dev ethwe scope link"))
        #expect(routes.contains("10.32.0.0/12 dev ethwe proto kernel scope link src 10.32.0.1"))
        #expect(try a.run("cat", "/proc/sys/net/ipv6/conf/ethwe/accept_ra") == "0\n")
        #expect(try a.run("cat", "/proc/sys/net/ipv4/neigh/ethwe/ucast_solicit") == "1\n")
        let details = try lab.run("ip", "-d", "link", "show", first.hostDevice)
        #expect(details.contains("hairpin on") && details.contains("master weave"))
        let rules = try a.run("nft", "list", "ruleset")
        #expect(rules.contains("224.0.0.0/4") && rules.contains("10.32.0.0/12"))
    }

    @Test("A kernel without IPv6 settings, or without any, breaks nothing and warns of nothing")
    func withoutSettings() throws {
        let lab = try Lab()
        let mac = lab.mac
        let report = try lab.host.run { try Bridge(BridgeConfiguration(mac: mac), procRoot: "/nonexistent").ensure() }
        #expect(report.warnings == [])
        let a = try lab.container()
        let b = try lab.container()
        for (container, text) in [(a, "10.32.0.1/12"), (b, "10.32.0.2/12")] {
            let name = container.namespace
            let request = AttachRequest(id: name, addresses: [try #require(IPPrefix(text))])
            let report = try lab.host.run {
                try ContainerAttachment(procRoot: "/nonexistent").attach(.name(name), request)
            }
            #expect(report.warnings == [])
        }
        #expect(try a.pings("10.32.0.2"))
    }

    @Test("What other programs undo is repaired by looking again")
    func repairs() throws {
        let lab = try Lab()
        _ = try lab.bridge()
        let a = try lab.container()
        let b = try lab.container()
        let first = try lab.attach(a, "10.32.0.1/12")
        _ = try lab.attach(b, "10.32.0.2/12")
        _ = try lab.run("ip", "link", "set", first.hostDevice, "nomaster")
        _ = try lab.run("ip", "link", "set", "weave", "down")
        _ = try lab.run("nft", "flush", "ruleset")
        #expect(try !a.pings("10.32.0.2"))
        _ = try lab.bridge()
        #expect(try a.reaches("10.32.0.2", within: 5))
        #expect(try lab.run("nft", "list", "ruleset").contains("nd-router-advert"))
    }

    @Test("Options: no multicast route, no hairpin, checksums complete, own MTU and hardware address")
    func options() throws {
        let lab = try Lab()
        _ = try lab.bridge()
        let a = try lab.container()
        let mac = MACAddress(truncating: 0x0200_0000_0042)
        let report = try lab.attach(a, "10.32.0.1/12") {
            $0.hasMulticastRoute = false
            $0.isHairpin = false
            $0.keepsChecksumOffload = false
            $0.mtu = 1400
            $0.mac = mac
            $0.interface = "eth7"
            $0.routes = [ContainerRoute(destination: nil, gateway: IPAddress("10.32.0.99"))]
        }
        #expect(report.mac == mac && report.mtu == 1400)
        let routes = try a.run("ip", "route")
        #expect(!routes.contains("224.0.0.0/4") && routes.contains("default via 10.32.0.99 dev eth7"))
        #expect(try a.run("ethtool", "-k", "eth7").contains("tx-checksumming: off"))
        #expect(try lab.run("ip", "-d", "link", "show", report.hostDevice).contains("hairpin off"))
    }

    @Test("Attaching again adds addresses; detaching removes them one by one, and the interface with the last")
    func againAndDetach() throws {
        let lab = try Lab()
        _ = try lab.bridge()
        let a = try lab.container()
        let first = try lab.attach(a, "10.32.0.1/12")
        let same = try lab.attach(a, "10.32.0.1/12")
        #expect(!same.isNew && same.hostDevice == first.hostDevice && same.mac == first.mac)
        let more = try lab.attach(a, "10.32.0.1/12", "10.50.0.1/24", "fd00::5/64")
        #expect(Set(more.addresses) == Set(["10.32.0.1/12", "10.50.0.1/24", "fd00::5/64"].compactMap { IPPrefix($0) }))

        let one = try lab.detach(a, "10.50.0.1/24", "10.99.0.1/24")
        #expect(one.removed.map(\.description) == ["10.50.0.1/24"])
        #expect(try !a.run("nft", "list", "ruleset").contains("10.50.0.0/24"))
        let rest = try lab.detach(a)
        #expect(rest.remaining == [])
        #expect(try !a.run("ip", "link").contains("ethwe"))
        let left = try lab.host.run { try RouteNetlink().links().map(\.name) }
        #expect(!left.contains(first.hostDevice))
        #expect(try a.run("nft", "list", "ruleset").isEmpty)
        #expect(try lab.detach(a) == DetachPlan(removed: [], remaining: []), "twice is no error")
        #expect(try lab.attach(a, "10.32.0.1/12").isNew)
    }

    @Test("A new address is announced to the neighbours")
    func announces() throws {
        let lab = try Lab()
        _ = try lab.bridge()
        let a = try lab.container()
        let b = try lab.container()
        _ = try lab.attach(a, "10.32.0.1/12")
        // The bystander believes that the address is somewhere else.
        try a.run("ip", "neigh", "replace", "10.32.0.2", "lladdr", "02:00:00:00:00:99", "dev", "ethwe", "nud", "stale")
        let report = try lab.attach(b, "10.32.0.2/12")
        let learned = try LabShell.poll(seconds: 3) {
            try a.run("ip", "neigh", "show", "10.32.0.2").contains(report.mac.description)
        }
        #expect(learned)
    }

    @Test("A failed attachment leaves nothing behind")
    func failure() throws {
        let lab = try Lab()
        _ = try lab.bridge()
        let a = try lab.container()
        let error = #expect(throws: NetlinkError.self) {
            try lab.attach(a, "10.32.0.1/12") {
                $0.routes = [ContainerRoute(destination: IPPrefix("10.60.0.0/16"), gateway: IPAddress("fd00::1"))]
            }
        }
        #expect(error?.message.contains("10.60.0.0/16") == true)
        let left = try lab.host.run { try RouteNetlink().links().filter { $0.name.hasPrefix("vethwepl") } }
        #expect(left == [])
    }

    @Test("Containers that are not there, or are the host, are refused with words")
    func refusals() throws {
        let lab = try Lab()
        _ = try lab.bridge()
        let name = lab.hostName
        let request = AttachRequest(id: "x", addresses: [])
        let own = #expect(throws: NetlinkError.self) {
            try lab.host.run { try ContainerAttachment().attach(.name(name), request) }
        }
        #expect(own?.code == .invalid && own?.message.contains("host network namespace") == true)
        let missing = #expect(throws: NetlinkError.self) {
            try lab.host.run { try ContainerAttachment().attach(.name("nobody-here"), request) }
        }
        #expect(missing?.code == .notFound)
    }

    @Test("Attached containers are found again, as after a restart")
    func discovery() throws {
        let lab = try Lab()
        _ = try lab.bridge()
        let a = try lab.container()
        let b = try lab.container()
        let first = try lab.attach(a, "10.32.0.1/12", "10.50.0.1/24")
        let second = try lab.attach(b, "10.32.0.2/12")
        let found = try lab.host.run { try ContainerPort.list() }
        #expect(found.count == 2)
        for (container, report) in [(a, first), (b, second)] {
            let port = try #require(found.first { $0.hostDevice == report.hostDevice })
            #expect(port.interface == "ethwe" && port.mac == report.mac && port.addresses == report.addresses)
            #expect(port.namespacePath == "/var/run/netns/" + container.namespace)
        }
    }

    @Test("The host's own address comes and goes")
    func expose() throws {
        let lab = try Lab()
        _ = try lab.bridge()
        let a = try lab.container()
        _ = try lab.attach(a, "10.32.0.1/12")
        let mac = lab.mac
        let prefix = try #require(IPPrefix("10.32.0.9/12"))
        try lab.host.run { () throws in
            let bridge = Bridge(BridgeConfiguration(mac: mac))
            #expect(try bridge.expose(prefix))
            #expect(try !bridge.expose(prefix))
            #expect(try bridge.exposed() == [prefix])
        }
        #expect(try a.pings("10.32.0.9"))
        try lab.host.run { () throws in
            let bridge = Bridge(BridgeConfiguration(mac: mac))
            #expect(try bridge.hide(prefix))
            #expect(try !bridge.hide(prefix))
            #expect(try bridge.exposed() == [])
        }
    }

    @Test("Reset leaves nothing on the host")
    func reset() throws {
        let lab = try Lab()
        _ = try lab.bridge()
        _ = try lab.attach(lab.container(), "10.32.0.1/12")
        let mac = lab.mac
        try lab.host.run { try Bridge(BridgeConfiguration(mac: mac)).reset() }
        let left = try lab.host.run {
            try RouteNetlink().links().filter { $0.name.hasPrefix("veth") || $0.name == "weave" }
        }
        #expect(left == [])
        #expect(try lab.run("nft", "list", "ruleset").isEmpty)
    }
}

@Suite("Router advertisements of containers", .enabled(if: LabShell.canMakeNamespaces))
struct BridgeGuardTests {
    /// Sends an advertisement of `fd66::/64` with a lifetime to all nodes, as a container that wants to be router would.
    private static let advertise = """
        import socket, struct
        s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        i = socket.if_nametoindex('ethwe')
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, i)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        prefix = struct.pack('!BBBBIII', 3, 4, 64, 0xc0, 7200, 7200, 0) + socket.inet_pton(socket.AF_INET6, 'fd66::')
        s.sendto(struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0) + prefix, ('ff02::1', 0, 0, i))
        """

    /// Whether `victim`, made to believe advertisements, takes `sender` for a router.
    private func isTakenIn(_ sender: LabContainer, _ victim: LabContainer) throws -> Bool {
        try victim.run("sysctl", "-q", "-w", "net.ipv6.conf.ethwe.accept_ra=2")
        // A link-local address that is still being checked cannot send.
        let ready = try LabShell.poll(seconds: 10) {
            let lines = try sender.run("ip", "-6", "address", "show", "dev", "ethwe")
            return lines.contains("fe80") && !lines.contains("tentative")
        }
        #expect(ready)
        return try LabShell.poll(seconds: 2) {
            try sender.run("python3", "-c", Self.advertise)
            return try victim.run("ip", "-6", "route").contains("default")
        }
    }

    @Test("With the guard nobody is taken in, even who would believe it; without it they are")
    func guarded() throws {
        let lab = try Lab()
        #expect(try lab.bridge().warnings == [])
        let sender = try lab.container()
        let victim = try lab.container()
        _ = try lab.attach(sender, "10.32.0.1/12")
        _ = try lab.attach(victim, "10.32.0.2/12")
        #expect(try !isTakenIn(sender, victim))
        // The same without the guard, so that the test cannot pass for another reason.
        _ = try lab.run("nft", "delete", "table", "bridge", RouterAdvertisementGuard.table)
        #expect(try isTakenIn(sender, victim))
    }

    @Test("Containers as they are attached do not believe advertisements in the first place")
    func deaf() throws {
        let lab = try Lab()
        _ = try lab.bridge()
        let sender = try lab.container()
        let bystander = try lab.container()
        _ = try lab.attach(sender, "10.32.0.1/12")
        _ = try lab.attach(bystander, "10.32.0.2/12")
        let gullible = try lab.container()
        _ = try lab.attach(gullible, "10.32.0.3/12")
        _ = try lab.run("nft", "delete", "table", "bridge", RouterAdvertisementGuard.table)
        // That the gullible one was reached proves that the other was too.
        #expect(try isTakenIn(sender, gullible))
        #expect(try !bystander.run("ip", "-6", "route").contains("default"))
        #expect(try !bystander.run("ip", "-6", "address", "show", "dev", "ethwe").contains("fd66"))
        #expect(try !lab.run("ip", "-6", "route").contains("default"))
    }
}
