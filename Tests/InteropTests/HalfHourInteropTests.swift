import Foundation
import NetLab
import Testing

extension InteropTests {
    /// True when the half hour is asked for too; says how to ask when not.
    static let isLong: Bool = {
        guard isPossible else { return false }
        let wanted = ProcessInfo.processInfo.environment["WEAVE_LONG"] ?? ""
        guard !wanted.isEmpty, wanted != "0" else {
            print("interop: what takes half an hour is skipped, ask for it with WEAVE_LONG=1 (make interop LONG=1)")
            return false
        }
        return true
    }()

    /// What needs minutes of waiting, side by side: seven meshes that do not know of each other.
    @Suite("Half an hour with 2.8.1", .serialized, .enabled(if: InteropTests.isLong))
    struct HalfHour {
        /// The fragmentation test of the thirtieth minute and its answer fall into it.
        static let seconds: Double = 1820

        @Test("idle links stay, frames to forgotten addresses arrive, and fragmentation tests change nothing")
        func halfHour() throws {
            let cluster = try LabCluster()
            defer { cluster.takeDown() }
            let soaks = try [nil, "wEaVe"].map { try FragmentationSoak(cluster, password: $0, seconds: Self.seconds) }
            let links = try Pairing.all.prefix(3).map { try IdleLink(cluster, $0) }
            let triangles = try [LabRouterKind.weaver, .reference].map { try IdleTriangle(cluster, sender: $0) }

            let start = Date()
            var isFiveMinutes = false
            var isTwelveMinutes = false
            while Date().timeIntervalSince(start) < Self.seconds {
                for soak in soaks { try soak.observe() }
                if !isFiveMinutes, Date().timeIntervalSince(start) > 310 {
                    isFiveMinutes = true
                    for link in links { try link.check("after five minutes") }
                }
                if !isTwelveMinutes, Date().timeIntervalSince(start) > 735 {
                    isTwelveMinutes = true
                    for triangle in triangles { try triangle.check() }
                }
                Thread.sleep(forTimeInterval: 10)
            }
            for link in links { try link.check("after half an hour") }
            for soak in soaks { try soak.check() }
        }
    }

    /// Two hosts without containers, whose connection carries heartbeats and the gossip of every half minute.
    struct IdleLink {
        let pairing: Pairing
        let hosts: [LabHost]
        private let before: [[String]]

        init(_ cluster: LabCluster, _ pairing: Pairing) throws {
            self.pairing = pairing
            let ours = try cluster.addHost(.weaver)
            let theirs = try cluster.addHost(.reference)
            hosts = [ours, theirs]
            try cluster.link(ours, theirs)
            let (dialler, listener) = pairing.oursDials ? (ours, theirs) : (theirs, ours)
            try listener.launch(password: pairing.password)
            try dialler.launch(peers: [listener.addresses[0]], password: pairing.password)
            #expect(try hosts.allSatisfy { try $0.isConnected() }, "\(hosts.shown)")
            #expect(try hosts.allSatisfy { try $0.measures(pairing.password == nil ? 1438 : 1414) }, "\(hosts.shown)")
            before = try hosts.map { try $0.connections() }
        }

        /// The same connection, ephemeral port included, and no other since.
        func check(_ moment: String) throws {
            #expect(try hosts.map { try $0.connections() } == before, "\(pairing), \(moment): \(hosts.shown)")
            for host in hosts { host.expectsOneConnection(each: 1, "\(pairing), \(moment)") }
            print("interop: \(pairing), idle \(moment): \(before[0][0])")
        }
    }

    /// Three hosts that know each other, and a container on each that says nothing until every MAC address has aged
    /// out everywhere.
    struct IdleTriangle {
        let hosts: [LabHost]
        let containers: [LabContainer]
        private let cluster: LabCluster
        private let macs: [String]

        /// - Parameter sender: the kind of the host whose container speaks first, to one on a host of the other kind.
        init(_ cluster: LabCluster, sender: LabRouterKind) throws {
            self.cluster = cluster
            let kinds: [LabRouterKind] = [sender, sender == .weaver ? .reference : .weaver, .weaver]
            let hosts = try kinds.map { try cluster.addHost($0) }
            var dials: [[String]] = [[], [], []]
            for (a, b) in [(0, 1), (0, 2), (1, 2)] { dials[b].append(try cluster.link(hosts[a], hosts[b]).a) }
            for (host, peers) in zip(hosts, dials) { try host.launch(peers: peers) }
            for host in hosts { #expect(try host.isConnected(2), "\(host.shown)") }
            containers = try hosts.enumerated().map { index, host in
                let container = try cluster.addContainer()
                try container.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
                try container.attach(to: host, "10.40.0.\(index + 1)")
                return container
            }
            macs = try containers.map {
                try $0.run("cat", "/sys/class/net/ethwe/address").trimmingCharacters(in: .whitespacesAndNewlines)
            }
            // With these nobody asks by broadcast first, which would teach every host.
            for (from, to) in [(0, 1), (1, 0)] {
                try containers[from].run(
                    "ip", "neighbour", "replace", "10.40.0.\(to + 1)", "lladdr", macs[to], "dev", "ethwe", "nud",
                    "permanent")
            }
            try containers[1].startEchoServers()
            self.hosts = hosts
            #expect(try containers[0].udpEchoFailures(to: "10.40.0.2", sizes: [100]) == [])
            for host in hosts[0...1] { #expect(try Set(macs[0...1]).isSubset(of: Self.known(by: host))) }
        }

        /// The MAC addresses that a host's router remembers.
        static func known(by host: LabHost) throws -> Set<String> {
            let entries = try host.report()["MACs"] as? [[String: Any]] ?? []
            return Set(entries.compactMap { $0["Mac"] as? String })
        }

        /// The first frame goes to everybody and arrives; the answer and what follows go straight.
        func check() throws {
            for host in hosts {
                let known = try Self.known(by: host)
                #expect(known.isDisjoint(with: macs), "\(host.kind) still knows \(known)")
            }
            let script = """
                import socket, sys, time
                if sys.argv[1] == 'watch':
                    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind(('ethwe', 0))
                    # Frames to others are what is watched for (PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC).
                    i = socket.if_nametoindex('ethwe').to_bytes(4, 'little')
                    s.setsockopt(263, 1, i + (1).to_bytes(2, 'little') + bytes(10)); s.settimeout(0.5)
                    seen = {}; end = time.time() + 8
                    while time.time() < end:
                        try: d = s.recv(4096)
                        except OSError: continue
                        if d[-6:-1] == b'HELLO': seen[d[-1:].decode()] = seen.get(d[-1:].decode(), 0) + 1
                    print('watched ' + ' '.join('%s:%d' % e for e in sorted(seen.items())))
                else:
                    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2); time.sleep(2); heard = ''
                    for i in b'123':
                        d = bytes(30) + b'HELLO' + bytes([i]); s.sendto(d, ('10.40.0.2', 7777))
                        try: heard += chr(s.recv(100)[-1])
                        except OSError: pass
                        time.sleep(0.3)
                    print('answered ' + heard)
                """
            let file = cluster.directory.appendingPathComponent("unknown.py")
            try script.write(to: file, atomically: true, encoding: .utf8)
            let output = try LabShell.run(
                "sh", "-c",
                """
                ip netns exec \(containers[2].namespace) python3 \(file.path) watch &
                ip netns exec \(containers[0].namespace) python3 \(file.path) send; wait
                """)
            let lines = Set(output.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) })
            #expect(lines == ["answered 123", "watched 1:1"], "\(hosts[0].kind) sends: \(output)\n\(hosts.shown)")
            for host in hosts[0...1] { #expect(try Set(macs[0...1]).isSubset(of: Self.known(by: host))) }
            print("interop: \(hosts[0].kind) sends to an address that nobody remembers: \(lines.sorted())")
        }
    }

    /// Two hosts with containers between which large packets pass all the time, while each tests every five minutes
    /// whether fragments arrive.
    final class FragmentationSoak {
        private let hosts: [LabHost]
        private let mtu: Int
        private let before: [[String]]
        private let pings: [LabTask]
        private var observations = 0

        init(_ cluster: LabCluster, password: String?, seconds: Double) throws {
            let ours = try cluster.addHost(.weaver)
            let theirs = try cluster.addHost(.reference)
            hosts = [ours, theirs]
            mtu = password == nil ? 1438 : 1414
            try cluster.link(ours, theirs)
            // Whole by then: fragments are put together before the hook.
            for host in hosts {
                try host.addRules(
                    """
                    table inet soak {
                        counter tests { }
                        chain input {
                            type filter hook input priority 0;
                            udp dport 6783 udp length \(password == nil ? 60_029 : 60_053) counter name tests
                        }
                    }
                    """)
            }
            try theirs.launch(password: password)
            try ours.launch(peers: [theirs.addresses[0]], password: password)
            let mtu = self.mtu
            #expect(try hosts.allSatisfy { try $0.isConnected() && $0.measures(mtu) }, "\(hosts.shown)")
            let containers = try hosts.enumerated().map { index, host in
                let container = try cluster.addContainer()
                try container.attach(to: host, "10.40.0.\(index + 1)")
                return container
            }
            #expect(try containers[0].reaches("10.40.0.2") && containers[1].reaches("10.40.0.1"))
            before = try hosts.map { try $0.connections() }
            pings = try zip(containers, ["10.40.0.2", "10.40.0.1"]).flatMap { container, address in
                // Large ones that may be fragmented, and the largest that may not and need not.
                try [["-M", "dont", "-s", "9000"], ["-M", "do", "-s", String(mtu - 28)]].map {
                    try cluster.start(
                        ["ip", "netns", "exec", container.namespace, "ping", "-q", "-i", "0.5", "-w"]
                            + [String(Int(seconds))] + $0 + [address])
                }
            }
        }

        /// The connection and its MTU are what they were.
        func observe() throws {
            observations += 1
            #expect(try hosts.map { try $0.connections() } == before, "\(hosts.shown)")
        }

        /// Nothing was lost but a packet here and there, and every host was tested every five minutes.
        func check() throws {
            var losses: [String] = []
            for ping in pings {
                let output = try #require(ping.outcome(within: 30), "a ping does not end").output
                let figures = try #require(
                    output.firstMatch(of: /(\d+) packets transmitted, (\d+) received/), "\(output)")
                let (sent, received) = (Int(figures.1) ?? 0, Int(figures.2) ?? 0)
                losses.append("\(sent - received)/\(sent)")
                #expect(sent > 3000 && sent - received <= sent / 200, "\(output)")
            }
            let tests = try hosts.map { host in
                let counter = try host.run("nft", "list", "counter", "inet", "soak", "tests")
                return counter.firstMatch(of: /packets (\d+)/).flatMap { Int($0.1) } ?? 0
            }
            // One at the start and six more.
            for (host, count) in zip(hosts, tests) {
                #expect((7...9).contains(count), "\(host.kind) got \(count) tests")
            }
            for host in hosts { host.expectsOneConnection(each: 1, "while fragmentation is tested") }
            print(
                "interop: mtu \(mtu) in \(observations) observations; fragmentation tests that came to ours \(tests[0]),",
                "to 2.8.1 \(tests[1]); lost of large and of unfragmented pings, ours and 2.8.1: \(losses)")
        }
    }
}

extension LabHost {
    /// Expects that each of so many peers was connected once and that no connection ended since.
    func expectsOneConnection(each peers: Int, _ moment: String) {
        let added = log.components(separatedBy: ": connection added").count - 1
        #expect(added == peers, "\(kind), \(moment): \(added) connections\n\(log.suffix(3000))")
        #expect(!log.contains("connection shutting down"), "\(kind), \(moment): \(log.suffix(3000))")
    }
}
