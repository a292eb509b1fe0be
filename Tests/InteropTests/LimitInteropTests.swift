import Foundation
import NetLab
import Testing

extension InteropTests {
    @Suite("Options and limits, towards 2.8.1", .serialized, .enabled(if: InteropTests.isPossible))
    struct Limits {
        @Test(
            "a host at its limit of connections says so and takes the next when a place is free",
            arguments: [LabRouterKind.weaver, .reference])
        func connectionLimit(_ kind: LabRouterKind) throws {
            let cluster = try LabCluster()
            defer { cluster.takeDown() }
            let limited = try cluster.addHost(kind)
            let others = try [cluster.addHost(.weaver), cluster.addHost(.reference)]
            for other in others { try cluster.link(limited, other) }
            try limited.launch(flags: ["--conn-limit=1", "--no-discovery"])
            try others[0].launch(peers: [limited.addresses[0]], flags: ["--no-discovery"])
            #expect(try others[0].isConnected())
            try others[1].launch(peers: [limited.addresses[1]], flags: ["--no-discovery"])
            #expect(
                try LabShell.poll(seconds: 10) {
                    try others[1].connections().contains { $0.contains(" failed ") || $0.contains(" retrying ") }
                }, "\(others.shown)")
            #expect(limited.log.contains("Connection limit reached (1)"), "\(limited.log)")
            #expect(try limited.isConnected(1, within: 1))
            others[0].kill()
            #expect(try others[1].isConnected(within: 40), "\(others[1].shown)")
        }

        @Test("both insist on protocol version 2", arguments: [true, false])
        func protocolVersion(_ oursDials: Bool) throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            let flags = ["--min-protocol-version=2"]
            try pair.launch(Pairing(oursDials: oursDials), ourFlags: flags, theirFlags: flags)
            #expect(try pair.ours.isConnected() && pair.theirs.isConnected(), "\(pair.hosts.shown)")
            for host in pair.hosts { #expect(host.log.contains("connection ready; using protocol version 2")) }
        }

        @Test("a 2.8.1 that wants its fast datapath agrees with us on what both have")
        func fastDatapath() throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            // The last of two equal flags counts, so this takes back the lab's --no-fastdp.
            try pair.launch(Pairing(oursDials: true), theirFlags: ["--no-fastdp=false"])
            #expect(try pair.ours.isConnected() && pair.theirs.isConnected(), "\(pair.hosts.shown)")
            #expect(try pair.ours.connections().allSatisfy { $0.contains(" sleeve ") })
        }

        @Test("without discovery nobody dials who was not named", arguments: [LabRouterKind.weaver, .reference])
        func noDiscovery(_ middle: LabRouterKind) throws {
            let cluster = try LabCluster()
            defer { cluster.takeDown() }
            let hosts = try [LabRouterKind.weaver, middle, .reference].map { try cluster.addHost($0) }
            for (a, b) in [(0, 1), (1, 2), (0, 2)] { try cluster.link(hosts[a], hosts[b]) }
            for host in hosts {
                try host.launch(
                    peers: host === hosts[1] ? [] : [host === hosts[0] ? "10.99.1.2" : "10.99.2.2"],
                    flags: ["--no-discovery"])
            }
            #expect(try hosts[1].isConnected(2) && hosts[0].isConnected() && hosts[2].isConnected())
            Thread.sleep(forTimeInterval: 5)
            #expect(try hosts[0].connections().count == 1 && hosts[2].connections().count == 1, "\(hosts.shown)")
            hosts[2].kill()
            for host in hosts[0...1] {
                let forgets = try LabShell.poll(seconds: 15) {
                    let peers = try host.report()["Peers"] as? [[String: Any]] ?? []
                    return peers.count == 2 && peers.allSatisfy { $0["Name"] as? String != hosts[2].peerName }
                }
                #expect(forgets, "\(host.kind) keeps a peer that is gone")
            }
        }

        @Test("among four that know each other each broadcast arrives once")
        func broadcasts() throws {
            let cluster = try LabCluster()
            defer { cluster.takeDown() }
            let hosts = try [LabRouterKind.weaver, .reference, .weaver, .reference].map { try cluster.addHost($0) }
            var dials: [[String]] = [[], [], [], []]
            for b in 1..<4 {
                for a in 0..<b { dials[b].append(try cluster.link(hosts[a], hosts[b]).a) }
            }
            for (host, peers) in zip(hosts, dials) { try host.launch(peers: peers) }
            for host in hosts { #expect(try host.isConnected(3), "\(host.shown)") }
            let containers = try hosts.map { host in
                let container = try cluster.addContainer()
                try container.attach(to: host, "10.40.0.\(host.number)")
                return container
            }
            for container in containers.dropFirst() { #expect(try containers[0].reaches(container.address ?? "")) }
            #expect(try LabShell.poll(seconds: 15) { try Set(hosts.map { try $0.topology() }).count == 1 })
            Thread.sleep(forTimeInterval: 1)

            let script = """
                import socket, sys, time
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                if sys.argv[1] == 'hear':
                    s.bind(('', 7778)); s.settimeout(0.5); n = 0; heard = {}; end = time.time() + 5
                    while time.time() < end:
                        try: d = s.recv(100)
                        except OSError: continue
                        heard[d] = heard.get(d, 0) + 1
                    line = '%s %d %s' % (sys.argv[2], len(heard), 'once' if set(heard.values()) <= {1} else 'repeated')
                    sys.stdout.write(line + '\\n')
                else:
                    time.sleep(1.5)
                    for i in range(50): s.sendto(b'%d' % i, ('10.40.0.255', 7778)); time.sleep(0.02)
                """
            let file = cluster.directory.appendingPathComponent("broadcast.py")
            try script.write(to: file, atomically: true, encoding: .utf8)
            for sender in containers {
                let run = { (container: LabContainer, words: String) in
                    "ip netns exec \(container.namespace) python3 \(file.path) \(words) &"
                }
                let listeners = containers.filter { $0 !== sender }
                let output = try LabShell.run(
                    "sh", "-c",
                    (listeners.map { run($0, "hear \($0.address ?? "")") } + [run(sender, "send"), "wait"])
                        .joined(separator: "\n"))
                let expected = listeners.map { "\($0.address ?? "") 50 once" }.sorted()
                #expect(output.split(separator: "\n").map(String.init).sorted() == expected)
            }
        }
    }
}
