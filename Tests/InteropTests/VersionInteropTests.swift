import Foundation
import NetLab
import Testing

extension InteropTests {
    @Suite("Protocol version 1 with 2.8.1", .serialized, .enabled(if: InteropTests.isPossible))
    struct Versions {
        /// Two hosts and a router between them that lowers the version in both headers.
        struct Lowered {
            let cluster: LabCluster
            let ours: LabHost
            let theirs: LabHost
            var hosts: [LabHost] { [ours, theirs] }

            init(_ pairing: Pairing) throws {
                cluster = try LabCluster()
                ours = try cluster.addHost(.weaver)
                theirs = try cluster.addHost(.reference)
                let middle = try cluster.addHost(.weaver)
                try cluster.link(ours, middle)
                try cluster.link(theirs, middle)
                try ours.run("ip", "route", "add", "default", "via", "10.99.1.3")
                try theirs.run("ip", "route", "add", "default", "via", "10.99.2.3")
                try middle.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
                // UDP passes as it is.
                try middle.addRules(
                    """
                    table ip lower {
                        chain before {
                            type nat hook prerouting priority -100;
                            tcp dport 6783 redirect to :7000
                        }
                    }
                    """)
                let (dialler, listener) = pairing.oursDials ? (ours, theirs) : (theirs, ours)
                _ = try middle.start("python3", "-c", Self.proxy, listener.addresses[0])
                #expect(try LabShell.poll(seconds: 10) { try middle.run("ss", "-ltn").contains(":7000") })
                try listener.launch(flags: ["--no-discovery"], password: pairing.password)
                try dialler.launch(
                    peers: [listener.addresses[0]], flags: ["--no-discovery"], password: pairing.password)
            }

            /// Passes on every connection; the seventh byte of either direction becomes 1.
            private static let proxy = """
                import socket, sys, threading
                def carry(a, b):
                    try:
                        head = b''
                        while len(head) < 7:
                            d = a.recv(7 - len(head))
                            if not d: raise OSError
                            head += d
                        b.sendall(head[:6] + b'\\x01')
                        while True:
                            d = a.recv(65536)
                            if not d: break
                            b.sendall(d)
                    except OSError: pass
                    for s in (a, b):
                        try: s.shutdown(socket.SHUT_RDWR)
                        except OSError: pass
                l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                l.bind(('', 7000)); l.listen(8)
                while True:
                    c = l.accept()[0]
                    try: o = socket.create_connection((sys.argv[1], 6783), 5)
                    except OSError: c.close(); continue
                    o.settimeout(None)
                    for pair in ((c, o), (o, c)): threading.Thread(target=carry, args=pair, daemon=True).start()
                """
        }

        @Test(
            "through a proxy that offers version 1 to both they agree on it, and traffic flows", arguments: Pairing.all)
        func versionOne(_ pairing: Pairing) throws {
            let lowered = try Lowered(pairing)
            defer { lowered.cluster.takeDown() }
            let hosts = lowered.hosts
            #expect(try hosts.allSatisfy { try $0.isConnected() }, "\(hosts.shown)\n\(lowered.ours.log)")
            for host in hosts {
                #expect(host.log.contains("connection ready; using protocol version 1"), "\(host.log)")
                #expect(!host.log.contains("using protocol version 2"), "\(host.log)")
            }
            let mtu = pairing.password == nil ? 1438 : 1414
            #expect(try hosts.allSatisfy { try $0.measures(mtu) }, "\(hosts.shown)")
            let line = try #require(try lowered.ours.connections().first)
            #expect(
                line.hasPrefix(pairing.oursDials ? "-> " : "<- ") && line.contains("sleeve \(hosts[1].peerName)(host2)")
            )
            #expect(line.contains(" encrypted   sleeve") == (pairing.password != nil), "\(line)")
            #expect(
                try LabShell.poll(seconds: 10) {
                    try lowered.ours.topology().count == 2 && lowered.ours.topology() == lowered.theirs.topology()
                }, "\(hosts.shown)")

            let containers = try hosts.enumerated().map { index, host in
                let container = try lowered.cluster.addContainer()
                try container.attach(to: host, "10.40.0.\(index + 1)")
                try container.startEchoServers()
                return container
            }
            #expect(try containers[0].reaches("10.40.0.2") && containers[1].reaches("10.40.0.1"))
            for (from, to) in [(0, 1), (1, 0)] {
                let address = "10.40.0.\(to + 1)"
                #expect(try containers[from].udpEchoFailures(to: address, sizes: [1, 1386, 1472, 9000, 60_000]) == [])
                #expect(try containers[from].tcpEchoes(to: address, bytes: 1_000_000), "from \(hosts[from].kind)")
            }
            for host in hosts { host.expectsOneConnection(each: 1, "version 1, \(pairing)") }
        }
    }
}
