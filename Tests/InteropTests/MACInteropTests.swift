import Foundation
import NetLab
import Testing

extension InteropTests {
    @Suite("One MAC address at ours and at 2.8.1", .serialized, .enabled(if: InteropTests.isPossible))
    struct MACs {
        static let twin = "7a:dd:00:00:00:01"

        /// Containers with one MAC address on both hosts, and one more on each to talk to across.
        struct Twins {
            let pair: MixedPair
            /// The twin on ours, the twin on theirs, the other on ours, the other on theirs: 10.40.0.1 to 4.
            let containers: [LabContainer]

            init() throws {
                let pair = try MixedPair()
                self.pair = pair
                try pair.launch(Pairing(oursDials: true))
                #expect(try pair.ours.isConnected() && pair.theirs.isConnected(), "\(pair.hosts.shown)")
                containers = try (0..<4).map { index in
                    let container = try pair.cluster.addContainer()
                    try container.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
                    try container.attach(
                        to: pair.hosts[index % 2], "10.40.0.\(index + 1)", mac: index < 2 ? MACs.twin : nil)
                    return container
                }
            }

            /// The peer at which each host believes the twins' address to be.
            func places() throws -> [String] { try pair.hosts.map(place) }

            func place(_ host: LabHost) throws -> String {
                let entries = try host.report()["MACs"] as? [[String: Any]] ?? []
                return entries.first { $0["Mac"] as? String == MACs.twin }?["Name"] as? String ?? "nowhere"
            }
        }

        @Test("ours takes the address over when its container speaks, 2.8.1 logs the conflict, and nothing circles")
        func twins() throws {
            let twins = try Twins()
            let (pair, containers) = (twins.pair, twins.containers)
            defer { pair.cluster.takeDown() }
            let (ours, theirs) = (pair.ours.peerName, pair.theirs.peerName)

            // First the one on 2.8.1 is there.
            #expect(try containers[1].reaches("10.40.0.3"))
            #expect(try twins.places() == [theirs, theirs])
            // Then the one on ours speaks: it has come, as far as ours knows, and 2.8.1 believes what it is told.
            #expect(try containers[0].reaches("10.40.0.4", within: 5))
            #expect(try twins.places() == [ours, ours])
            // From now on 2.8.1 lets nothing of the other out and says why.
            for _ in 0..<3 { #expect(try !containers[1].pings("10.40.0.3")) }
            #expect(
                pair.theirs.log.contains("Captured frame from MAC (\(MACs.twin)) to (")
                    && pair.theirs.log.contains("associated with another peer \(ours)"), "\(pair.theirs.log)")
            #expect(try containers[0].reaches("10.40.0.4", within: 5))
            #expect(try twins.places() == [ours, ours])

            try pair.ours.addRules(
                """
                table inet count {
                    counter sent { }
                    counter got { }
                    chain output { type filter hook output priority 0; udp dport 6783 counter name sent; }
                    chain input { type filter hook input priority 0; udp dport 6783 counter name got; }
                }
                """)
            let heard = try Self.broadcasts(twins)
            // The twin on ours is heard everywhere, that on 2.8.1 on its own host only, and nothing twice.
            #expect(heard == ["3: a 100 once, b 0 once", "4: a 100 once, b 100 once"], "\(heard)")
            let packets = try ["sent", "got"].map { name in
                let counter = try pair.ours.run("nft", "list", "counter", "inet", "count", name)
                return counter.firstMatch(of: /packets (\d+)/).flatMap { Int($0.1) } ?? 0
            }
            // A hundred broadcasts one way, and what else a few seconds bring.
            #expect((1...150).contains(packets[0]) && packets[1] <= 50, "\(packets)")
            print("interop: both twins broadcast: \(heard), packets of ours and of 2.8.1 \(packets)")
            for host in pair.hosts { host.expectsOneConnection(each: 1, "with one MAC address on both hosts") }

            // 2.8.1 forgets the address with the peer; ours comes back without its container having spoken.
            try containers[0].run("ip", "link", "set", "ethwe", "down")
            pair.ours.kill()
            #expect(try LabShell.poll(seconds: 10) { try twins.place(pair.theirs) != ours })
            try pair.ours.relaunch()
            #expect(try pair.hosts.allSatisfy { try $0.isConnected(within: 30) }, "\(pair.hosts.shown)")
            #expect(try containers[1].reaches("10.40.0.3"))
        }

        /// Both twins broadcast a hundred times at once; what the other containers hear, one line each.
        private static func broadcasts(_ twins: Twins) throws -> [String] {
            let script = """
                import socket, sys, time
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                if sys.argv[1] == 'hear':
                    s.bind(('', 7778)); s.settimeout(0.5); heard = {}; end = time.time() + 6
                    while time.time() < end:
                        try: d = s.recv(100)
                        except OSError: continue
                        heard[d] = heard.get(d, 0) + 1
                    words = []
                    for name in 'ab':
                        counts = [n for d, n in heard.items() if d.decode()[0] == name]
                        words.append('%s %d %s' % (name, len(counts), 'once' if max(counts, default=1) == 1 else 'repeated'))
                    sys.stdout.write('%s: %s\\n' % (sys.argv[2], ', '.join(words)))
                else:
                    time.sleep(1.5)
                    for i in range(100): s.sendto(b'%s%d' % (sys.argv[2].encode(), i), ('10.40.0.255', 7778)); time.sleep(0.02)
                """
            let file = twins.pair.cluster.directory.appendingPathComponent("twins.py")
            try script.write(to: file, atomically: true, encoding: .utf8)
            let words = ["send a", "send b", "hear 3", "hear 4"]
            let lines = zip(twins.containers, words).map {
                "ip netns exec \($0.namespace) python3 \(file.path) \($1) &"
            }
            return try LabShell.run("sh", "-c", (lines + ["wait"]).joined(separator: "\n"))
                .split(separator: "\n").map(String.init).sorted()
        }
    }
}
