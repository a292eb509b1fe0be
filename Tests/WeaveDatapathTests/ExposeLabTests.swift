import NetLab
import Testing
import WeaveCore
import WeaveNetlink

@testable import WeaveDatapath

/// A host with its bridge, containers on it, and a neighbour beyond the overlay that knows no way into it.
private final class Lab {
    static let outside = "192.0.2.2"

    let cluster: LabCluster
    let hostName: String
    let host: NetworkNamespace
    let outer: LabContainer
    let exposure: HostExposure

    init(_ flavour: IPTablesFlavour = .standard, change: (inout HostExposureOptions) -> Void = { _ in }) throws {
        var options = HostExposureOptions()
        change(&options)
        exposure = HostExposure(options, flavour: flavour)
        cluster = try LabCluster()
        hostName = try cluster.addContainer().namespace
        host = try NetworkNamespace(named: hostName)
        outer = try cluster.addContainer()
        try LabShell.run(
            "ip", "link", "add", "out0", "netns", hostName, "type", "veth", "peer", "name", "out0", "netns",
            outer.namespace)
        for (name, address) in [(hostName, "192.0.2.1/24"), (outer.namespace, Self.outside + "/24")] {
            try LabShell.run("ip", "-n", name, "address", "add", address, "dev", "out0")
            try LabShell.run("ip", "-n", name, "link", "set", "out0", "up")
        }
        try makeBridge()
    }

    func makeBridge() throws {
        try host.run {
            _ = try Bridge(BridgeConfiguration(mac: MACAddress(truncating: 0x7a00_0000_0001))).ensure()
        }
    }

    func forwards(_ isOn: Bool = true) throws {
        try run("sysctl", "-qw", "net.ipv4.ip_forward=\(isOn ? 1 : 0)")
    }

    func container(_ address: String, gateway: String? = nil) throws -> LabContainer {
        let container = try cluster.addContainer()
        var request = AttachRequest(id: container.namespace, addresses: [address].compactMap { IPPrefix($0) })
        if let gateway = gateway.flatMap({ IPAddress($0) }) {
            request.routes = [ContainerRoute(destination: nil, gateway: gateway)]
        }
        let name = container.namespace
        _ = try host.run { [request] in try ContainerAttachment().attach(.name(name), request) }
        return container
    }

    /// Works on the host.
    func on<Value: Sendable>(_ body: @Sendable (HostExposure) throws -> Value) throws -> Value {
        let exposure = exposure
        return try host.run { try body(exposure) }
    }

    @discardableResult
    func run(_ words: String...) throws -> String { try LabShell.run(["ip", "netns", "exec", hostName] + words) }

    func iptables(_ words: String...) throws {
        try LabShell.run(["ip", "netns", "exec", hostName, exposure.flavour.description, "-w", "5"] + words)
    }

    /// All rules, without what differs from one look to the next.
    func saved() throws -> String {
        try run(exposure.flavour.description + "-save").split(separator: "\n").filter { !$0.hasPrefix("#") }
            .map { $0.hasPrefix(":") ? String($0.prefix { $0 != "[" }) : String($0) }.joined(separator: "\n")
    }

    func reachesHost(_ address: String) throws -> Bool {
        try LabShell.outcome(["ip", "netns", "exec", hostName, "ping", "-c", "1", "-W", "1", address]).status == 0
    }
}

private func cidrs(_ texts: String...) -> [IPv4CIDR] { texts.compactMap { IPv4CIDR($0) } }
/// Those that the machine has, or at least what it calls iptables.
private let flavours: [IPTablesFlavour] = {
    let both = [IPTablesFlavour.nft, .legacy].filter { (try? IPTables($0).rules()) != nil }
    return both.isEmpty ? [.standard] : both
}()

@Suite("Exposed hosts in namespaces", .enabled(if: LabShell.canMakeNamespaces))
struct ExposeLabTests {
    @Test("Host and containers reach each other only when exposed, doing it twice changes nothing, and neighbours hear")
    func hostReaches() throws {
        let lab = try Lab()
        #expect(try lab.on { try $0.ensureBaseRules() } == [])
        let container = try lab.container("10.32.0.1/12")
        #expect(try !lab.reachesHost("10.32.0.1"))
        // The container believes that the address is somewhere else.
        try container.run(
            "ip", "neigh", "replace", "10.32.0.9", "lladdr", "02:00:00:00:00:99", "dev", "ethwe", "nud", "stale")
        let report = try lab.on { try $0.expose(cidrs("10.32.0.9/12")) }
        #expect(report.isRepaired && report.warnings.count == 1 && report.warnings[0].contains("ip_forward"))
        let learned = try LabShell.poll(seconds: 3) {
            try container.run("ip", "neigh", "show", "10.32.0.9").contains("7a:00:00:00:00:01")
        }
        #expect(learned)
        #expect(try lab.reachesHost("10.32.0.1"))
        #expect(try container.pings("10.32.0.9"))
        let before = try lab.saved()
        #expect(try lab.on { try $0.expose(cidrs("10.32.0.9/12")) }.repairs == [])
        #expect(try lab.saved() == before)
        #expect(try lab.on { try $0.exposed() } == cidrs("10.32.0.9/12"))
    }

    @Test("Containers reach the world outside by the host's address", arguments: flavours)
    func masquerade(_ flavour: IPTablesFlavour) throws {
        let lab = try Lab(flavour)
        try lab.forwards()
        // As hosts with a container engine have it.
        try lab.iptables("-P", "FORWARD", "DROP")
        let container = try lab.container("10.32.0.1/12", gateway: "10.32.0.9")
        #expect(try !container.pings(Lab.outside))
        #expect(try lab.on { try $0.expose(cidrs("10.32.0.9/12")) }.warnings == [])
        #expect(try container.pings(Lab.outside))
        // The other way the container sees its bridge.
        try lab.outer.run("ip", "route", "add", "10.32.0.0/12", "via", "192.0.2.1")
        try container.run("ip", "route", "del", "default")
        #expect(try lab.outer.pings("10.32.0.1"))
    }

    @Test("Without masquerade containers need a way back", arguments: flavours)
    func withoutMasquerade(_ flavour: IPTablesFlavour) throws {
        let lab = try Lab(flavour)
        try lab.forwards()
        let container = try lab.container("10.32.0.1/12", gateway: "10.32.0.9")
        _ = try lab.on { try $0.expose(cidrs("10.32.0.9/12"), masquerade: false) }
        #expect(try !lab.saved().contains("MASQUERADE"))
        #expect(try !container.pings(Lab.outside))
        try lab.outer.run("ip", "route", "add", "10.32.0.0/12", "via", "192.0.2.1")
        #expect(try container.pings(Lab.outside))
        let exposures = [Exposure(cidrs("10.32.0.9/12")[0], isMasqueraded: false)]
        #expect(try lab.on { try $0.current() } == ExposureState(exposures))
        // Flushed and put back, it is still without.
        try lab.iptables("-t", "nat", "-F")
        #expect(try lab.on { try $0.audit(ExposureState(exposures)) }.isRepaired)
        #expect(try !lab.saved().contains("MASQUERADE"))
    }

    @Test("Rules that were flushed are back after a look", arguments: flavours)
    func flushed(_ flavour: IPTablesFlavour) throws {
        let lab = try Lab(flavour)
        try lab.forwards()
        try lab.iptables("-P", "FORWARD", "DROP")
        let container = try lab.container("10.32.0.1/12", gateway: "10.32.0.9")
        _ = try lab.on { try $0.ensureBaseRules() }
        _ = try lab.on { try $0.expose(cidrs("10.32.0.9/12", "10.99.0.1/24")) }
        let wanted = try lab.on { try $0.current() }
        #expect(wanted.exposures.map(\.description) == ["10.32.0.9/12", "10.99.0.1/24"])
        let good = try lab.saved()
        #expect(try lab.on { try $0.audit(wanted) } == ExposureReport())
        for flush in [[["-F"]], [["-t", "nat", "-F"]], [["-F"], ["-X"], ["-t", "nat", "-F"], ["-t", "nat", "-X"]]] {
            for words in flush {
                try LabShell.run(["ip", "netns", "exec", lab.hostName, flavour.description, "-w", "5"] + words)
            }
            #expect(try lab.saved() != good)
            #expect(try !container.pings(Lab.outside))
            let report = try lab.on { try $0.audit(wanted) }
            #expect(report.isRepaired && report.warnings == [])
            #expect(try lab.saved().split(separator: "\n").sorted() == good.split(separator: "\n").sorted())
            #expect(try container.pings(Lab.outside))
            #expect(try !lab.on { try $0.audit(wanted) }.isRepaired)
        }
    }

    @Test("A bridge that was made anew gets its addresses back")
    func bridgeGone() throws {
        let lab = try Lab()
        _ = try lab.on { try $0.expose(cidrs("10.32.0.9/12")) }
        let wanted = try lab.on { try $0.current() }
        try lab.run("ip", "link", "delete", "weave")
        let error = #expect(throws: NetlinkError.self) { try lab.on { try $0.audit(wanted) } }
        #expect(error?.code == .notFound)
        #expect(try lab.on { try $0.exposed() } == [])
        try lab.makeBridge()
        #expect(try lab.on { try $0.audit(wanted) }.repairs == ["gave 10.32.0.9/12 to \"weave\""])
        #expect(try lab.on { try $0.exposed() } == cidrs("10.32.0.9/12"))
    }

    @Test("Hiding takes away an address and what only it needs, and nothing of others", arguments: flavours)
    func hide(_ flavour: IPTablesFlavour) throws {
        let lab = try Lab(flavour)
        try lab.iptables("-A", "FORWARD", "-o", "weave", "-s", "203.0.113.0/24", "-j", "DROP")
        try lab.iptables("-t", "nat", "-A", "POSTROUTING", "-s", "10.32.0.0/12", "-j", "RETURN")
        _ = try lab.on { try $0.ensureBaseRules() }
        let base = try lab.saved()
        _ = try lab.on { try $0.expose(cidrs("10.32.0.9/12")) }
        let one = try lab.saved()
        _ = try lab.on { try $0.expose(cidrs("10.32.0.10/12")) }
        #expect(try lab.saved() == one, "one subnet, one set of rules")
        _ = try lab.on { try $0.expose(cidrs("10.99.0.1/24"), masquerade: false) }

        #expect(try lab.on { try $0.hide(cidrs("10.99.0.1/24", "10.77.0.1/24")) } == cidrs("10.99.0.1/24"))
        #expect(try lab.saved() == one)
        // The first of a subnet would take the second with it.
        #expect(try lab.on { try $0.hide(cidrs("10.32.0.9/12")) } == cidrs("10.32.0.9/12"))
        #expect(try lab.on { try $0.exposed() } == cidrs("10.32.0.10/12"))
        #expect(try lab.saved() == one)
        let container = try lab.container("10.32.0.1/12")
        #expect(try container.pings("10.32.0.10"))
        #expect(try lab.on { try $0.hide(cidrs("10.32.0.10/12")) } == cidrs("10.32.0.10/12"))
        #expect(try lab.saved() == base)
        #expect(try lab.on { try $0.hide(cidrs("10.32.0.10/12")) } == [])
    }

    @Test("Containers of local ranges see who sends to them, and a flush does not end that", arguments: flavours)
    func localRanges(_ flavour: IPTablesFlavour) throws {
        let lab = try Lab(flavour)
        try lab.forwards()
        try lab.outer.run("ip", "route", "add", "10.32.0.0/12", "via", "192.0.2.1")
        let near = try lab.container("10.32.0.1/12")
        let far = try lab.container("10.40.0.1/12")
        _ = try lab.on { try $0.expose(cidrs("10.32.0.9/12")) }
        _ = try lab.on { try $0.setLocalRanges(cidrs("10.32.0.0/16", "10.33.0.0/16")) }
        #expect(try lab.saved().contains("weaver-no-masq-local"))
        #expect(try lab.on { try $0.current() }.localRanges == cidrs("10.32.0.0/15"))
        for _ in 0..<2 {
            // Neither knows a way back to a stranger, so whoever answers takes the host for the sender.
            #expect(try !lab.outer.pings("10.32.0.1"))
            #expect(try lab.outer.pings("10.40.0.1"))
            let wanted = try lab.on { try $0.current() }
            try lab.iptables("-t", "nat", "-F")
            try lab.run("ipset", "destroy")
            #expect(try lab.on { try $0.audit(wanted) }.isRepaired)
        }
        try near.run("ip", "route", "add", "default", "via", "10.32.0.9")
        #expect(try lab.outer.pings("10.32.0.1"))
        _ = try lab.on { try $0.expose(cidrs("10.99.0.1/24")) }
        #expect(try lab.on { try $0.current() }.localRanges == cidrs("10.32.0.0/15"))
        _ = try lab.on { try $0.setLocalRanges(nil) }
        #expect(try lab.run("ipset", "save") == "" && !lab.saved().contains("no-masq-local"))
        withExtendedLifetime(far) {}
    }

    @Test("A host that ran 2.8.1 keeps its rules as they are", arguments: flavours)
    func replaced(_ flavour: IPTablesFlavour) throws {
        let lab = try Lab(flavour)
        try lab.run("ip", "address", "add", "10.32.0.1/12", "dev", "weave")
        let network = "10.32.0.0/12"
        let comment = ["-m", "comment", "--comment", "Block non-local access to Weave Net control port"]
        let guarding =
            ["-A", "INPUT", "-p", "tcp", "--dst", "127.0.0.1", "--dport", "6784", "-m", "addrtype", "!", "--src-type"]
            + ["LOCAL", "-m", "conntrack", "!", "--ctstate", "RELATED,ESTABLISHED"] + comment + ["-j", "DROP"]
        let commands: [[String]] =
            [
                ["-N", "WEAVE-CANARY"], ["-t", "nat", "-N", "WEAVE"], ["-N", "WEAVE-EXPOSE"], guarding,
                ["-A", "FORWARD", "-i", "weave", "-o", "weave", "-j", "ACCEPT"],
                ["-A", "FORWARD", "-o", "weave", "-j", "WEAVE-EXPOSE"],
                ["-A", "FORWARD", "-i", "weave", "!", "-o", "weave", "-j", "ACCEPT"],
                [
                    "-A", "FORWARD", "-o", "weave", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j",
                    "ACCEPT",
                ],
                ["-t", "nat", "-A", "POSTROUTING", "-j", "WEAVE"],
                ["-t", "nat", "-A", "WEAVE", "-s", network, "-d", "224.0.0.0/4", "-j", "RETURN"],
                ["-t", "nat", "-A", "WEAVE", "-d", network, "!", "-s", network, "-j", "MASQUERADE"],
                ["-t", "nat", "-A", "WEAVE", "-s", network, "!", "-d", network, "-j", "MASQUERADE"],
                ["-A", "WEAVE-EXPOSE", "-d", network, "-j", "ACCEPT"],
            ]
        for words in commands {
            try LabShell.run(["ip", "netns", "exec", lab.hostName, flavour.description, "-w", "5"] + words)
        }
        let before = try lab.saved()
        _ = try lab.on { try $0.ensureBaseRules() }
        let state = try lab.on { try $0.current() }
        #expect(state == ExposureState([Exposure(cidrs("10.32.0.1/12")[0])]))
        #expect(try !lab.on { try $0.audit(state) }.isRepaired)
        #expect(try lab.saved() == before)
    }

    @Test("Policies: the tool takes the rules, and going back leaves none", arguments: flavours)
    func policies(_ flavour: IPTablesFlavour) throws {
        let lab = try Lab(flavour) { $0.expectsPolicy = true }
        _ = try lab.on { try $0.ensureBaseRules() }
        _ = try lab.on { try $0.expose(cidrs("10.32.0.9/12")) }
        try lab.iptables("-A", "WEAVE-NPC", "-j", "ACCEPT")
        let before = try lab.saved()
        #expect(before.contains("--nflog-group 86") && before.contains("KUBE-FORWARD"))
        #expect(try !lab.on { try $0.audit(try $0.current()) }.isRepaired)
        #expect(try lab.saved() == before)
        _ = try lab.host.run { try HostExposure(flavour: flavour).ensureBaseRules() }
        let after = try lab.saved()
        #expect(!after.contains("--nflog-group 86") && !after.contains("-A INPUT -i weave"))
        #expect(after.contains("-A WEAVE-NPC -j ACCEPT"))
    }

    @Test("Removing everything leaves what others made", arguments: flavours)
    func removeAll(_ flavour: IPTablesFlavour) throws {
        let lab = try Lab(flavour) { $0.randomizesPorts = true }
        try lab.iptables("-A", "FORWARD", "-o", "weave", "-s", "203.0.113.0/24", "-j", "DROP")
        try lab.iptables("-t", "nat", "-A", "POSTROUTING", "-s", "10.32.0.0/12", "-j", "RETURN")
        // Some kernels keep a table once it was used.
        for action in ["-N", "-X"] { try lab.iptables("-t", "mangle", action, "SOMEBODY") }
        let before = try lab.saved()
        try lab.iptables("-t", "mangle", "-N", "WEAVE-CANARY")
        _ = try lab.on { try $0.expose(cidrs("10.32.0.9/12")) }
        _ = try lab.on { try $0.setLocalRanges(cidrs("10.32.0.0/16")) }
        #expect(try lab.saved().contains("--random-fully"))
        for _ in 0..<2 {
            try lab.on { try $0.removeAll() }
            #expect(try lab.saved() == before)
        }
        #expect(try lab.on { try $0.exposed() } == [] && lab.run("ipset", "save") == "")
    }

    @Test("Where the host cannot have the set, ranges are kept by rules")
    func withoutSet() throws {
        let lab = try Lab()
        // Of another kind than ours.
        try lab.run("ipset", "create", "weaver-no-masq-local", "list:set")
        _ = try lab.on { try $0.expose(cidrs("10.32.0.9/12")) }
        let wanted = try lab.on {
            try $0.setLocalRanges(cidrs("10.32.0.0/16", "10.33.0.0/16"))
            return try $0.current()
        }
        #expect(wanted.localRanges == cidrs("10.32.0.0/15"))
        #expect(try lab.saved().contains("-A WEAVE -d 10.32.0.0/15 -m comment"))
        try lab.iptables("-t", "nat", "-F")
        try lab.run("ipset", "create", "weaver-no-masq-local", "list:set")
        #expect(try lab.on { try $0.audit(wanted) }.isRepaired)
        #expect(try lab.on { try $0.current() } == wanted)
    }

    @Test("The lock of the tables is waited for", .enabled(if: flavours.contains(.legacy)))
    func locked() throws {
        let lab = try Lab(.legacy)
        let holder = try lab.cluster.start(["flock", "/run/xtables.lock", "sleep", "1.5"])
        #expect(LabShell.poll(seconds: 5) { holder.isRunning })
        let isHeld = try LabShell.poll(seconds: 5, every: 0.02) {
            try LabShell.outcome(["flock", "-n", "/run/xtables.lock", "true"]).status != 0
        }
        #expect(isHeld)
        #expect(try lab.on { try $0.expose(cidrs("10.32.0.9/12")) }.isRepaired)
        #expect(!holder.isRunning)
        #expect(try lab.saved().contains("-A WEAVE-EXPOSE -d 10.32.0.0/12 -j ACCEPT"))
    }

    @Test("The control port on loopback stays shut to neighbours of a host that routes to it")
    func controlPort() throws {
        let lab = try Lab(.standard) { $0.controlPort = 7777 }
        let server = """
            import socket
            s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(('127.0.0.1', 7777)); s.listen(8)
            while True: s.accept()[0].close()
            """
        _ = try lab.cluster.start(["ip", "netns", "exec", lab.hostName, "python3", "-c", server])
        #expect(try LabShell.poll(seconds: 10) { try lab.run("ss", "-ltn").contains(":7777") })
        try lab.run("sysctl", "-qw", "net.ipv4.conf.out0.route_localnet=1")
        try lab.outer.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
        try lab.outer.run("ip", "address", "flush", "dev", "lo")
        try lab.outer.run("ip", "route", "add", "127.0.0.1/32", "via", "192.0.2.1", "src", Lab.outside)
        let connect = "import socket; socket.create_connection(('127.0.0.1', 7777), 1)"
        func connects(_ namespace: String) throws -> Bool {
            try LabShell.outcome(["ip", "netns", "exec", namespace, "python3", "-c", connect]).status == 0
        }
        #expect(try connects(lab.outer.namespace))
        _ = try lab.on { try $0.ensureBaseRules() }
        #expect(try !connects(lab.outer.namespace))
        #expect(try connects(lab.hostName))
    }

    @Test("Forwarding is switched on only where that was asked for, and only when it is off")
    func forwarding() throws {
        let lab = try Lab { $0.switchesOnForwarding = true }
        #expect(try lab.on { try $0.ensureBaseRules() } == [])
        #expect(try lab.run("sysctl", "-n", "net.ipv4.ip_forward") == "0\n")
        #expect(try lab.on { try $0.expose(cidrs("10.32.0.9/12")) }.warnings == [])
        #expect(try lab.run("sysctl", "-n", "net.ipv4.ip_forward") == "1\n")
    }

    @Test("The flavour with rules of ours is found")
    func detection() throws {
        for flavour in flavours {
            let lab = try Lab(flavour)
            _ = try lab.on { try $0.ensureBaseRules() }
            let found = try lab.host.run { try IPTablesFlavour.detect().flavour }
            let rules = try lab.host.run { try IPTables(found).rules() }
            #expect(rules.hasChain("nat", "WEAVE"))
        }
    }

    @Test("Without iptables, without a bridge, and with addresses that cannot be, the error says what to do")
    func refusals() throws {
        let lab = try Lab()
        let nowhere = HostExposure(flavour: IPTablesFlavour(description: "iptables-nowhere"))
        let missing = #expect(throws: NetlinkError.self) {
            try lab.host.run { try nowhere.expose(cidrs("10.0.0.1/8")) }
        }
        #expect(missing?.code == .unsupported && missing?.message.contains("install the package iptables") == true)
        #expect(try lab.on { try $0.exposed() } == [])
        let all = #expect(throws: NetlinkError.self) { try lab.on { try $0.expose(cidrs("10.0.0.1/0")) } }
        #expect(all?.code == .invalid)
        let many = (0..<257).compactMap { IPv4CIDR(IPv4Address(rawValue: 0x0a00_0001 + $0), prefixLength: 8) }
        let full = #expect(throws: NetlinkError.self) { try lab.on { try $0.expose(many) } }
        #expect(full?.code == .invalid)
        try lab.run("ip", "link", "delete", "weave")
        let gone = #expect(throws: NetlinkError.self) { try lab.on { try $0.expose(cidrs("10.0.0.1/8")) } }
        #expect(gone?.code == .notFound)
    }
}
