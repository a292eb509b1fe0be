import Foundation
import NetLab
import Testing

extension InteropTests {
    @Suite("Two hosts, one of them 2.8.1", .serialized, .enabled(if: InteropTests.isPossible))
    struct Pairs {
        @Test(
            "each side dials, plain and encrypted, and both ends agree on status and topology", arguments: Pairing.all)
        func connects(_ pairing: Pairing) throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            try pair.launch(pairing)
            #expect(try pair.ours.isConnected() && pair.theirs.isConnected(), "\(pair.ours.log)\n\(pair.theirs.log)")

            let mtu = pairing.password == nil ? 1438 : 1414
            for host in [pair.ours, pair.theirs] {
                #expect(
                    try LabShell.poll(seconds: 10) { try host.connections().allSatisfy { $0.contains("mtu=\(mtu)") } },
                    "\(host.shown)")
            }
            let ourLine = try #require(try pair.ours.connections().first)
            #expect(ourLine.hasPrefix(pairing.oursDials ? "-> " : "<- "))
            #expect(ourLine.contains("sleeve \(pair.theirs.peerName)(host2)"))
            #expect(ourLine.contains(" encrypted   sleeve") == (pairing.password != nil))
            #expect(
                try LabShell.poll(seconds: 10) { try pair.ours.topology() == pair.theirs.topology() },
                "\(pair.ours.shown)\n\(pair.theirs.shown)")
            #expect(try pair.ours.topology().count == 2)
        }

        @Test("traffic of every size passes", arguments: [Pairing.all[0], Pairing.all[3]])
        func traffic(_ pairing: Pairing) throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            try pair.launch(pairing)
            #expect(try pair.ours.isConnected() && pair.theirs.isConnected())
            let (mine, other) = try pair.attachContainers()
            #expect(try mine.reaches("10.40.0.2") && other.reaches("10.40.0.1"))
            try mine.startEchoServers()
            try other.startEchoServers()
            let sizes = [
                1, 2, 63, 64, 100, 512, 1000, 1371, 1385, 1386, 1387, 1410, 1411, 1472, 2000, 9000, 20_000, 60_000,
            ]
            #expect(try mine.udpEchoFailures(to: "10.40.0.2", sizes: sizes) == [])
            #expect(try other.udpEchoFailures(to: "10.40.0.1", sizes: sizes) == [])
            for bytes in [1, 1000, 60_000, 5_000_000] {
                #expect(try mine.tcpEchoes(to: "10.40.0.2", bytes: bytes), "ours to 2.8.1, \(bytes) bytes")
                #expect(try other.tcpEchoes(to: "10.40.0.1", bytes: bytes), "2.8.1 to ours, \(bytes) bytes")
            }
        }

        @Test(
            "the path MTU is found on underlays of 1500 and 1400", arguments: [1500, 1400], [nil, "wEaVe"] as [String?])
        func underlayMTU(_ mtu: Int, _ password: String?) throws {
            let pair = try MixedPair(mtu: mtu)
            defer { pair.cluster.takeDown() }
            try pair.launch(Pairing(oursDials: true, password: password))
            let overlay = mtu - (password == nil ? 62 : 86)
            for host in [pair.ours, pair.theirs] {
                #expect(
                    try LabShell.poll(seconds: 15) {
                        try host.connections().contains { $0.contains("mtu=\(overlay)") }
                    },
                    "\(host.shown)")
            }
            let (mine, other) = try pair.attachContainers()
            #expect(try mine.reaches("10.40.0.2"))
            // The first probe of each size may be the one that teaches the sender its path MTU.
            let fits = overlay - 28
            #expect(try mine.pings("10.40.0.2", size: fits, dontFragment: true))
            #expect(try other.pings("10.40.0.1", size: fits, dontFragment: true))
            #expect(try !mine.pings("10.40.0.2", size: fits + 1, dontFragment: true))
            #expect(try !other.pings("10.40.0.1", size: fits + 1, dontFragment: true))
        }

        @Test("a wrong password is refused on both sides and shown", arguments: [true, false])
        func wrongPassword(_ oursDials: Bool) throws {
            try refuses(oursDials: oursDials, ours: "right", theirs: "wrong", texts: ["Unable to decrypt TCP msg"])
        }

        @Test("a password on one side only is refused and shown", arguments: [true, false], [true, false])
        func oneSidedPassword(_ oursDials: Bool, _ oursHasOne: Bool) throws {
            try refuses(
                oursDials: oursDials, ours: oursHasOne ? "secret" : nil, theirs: oursHasOne ? nil : "secret",
                texts: [
                    "no password specificed, but peer requested an encrypted connection",
                    "password specified, but peer requested an unencrypted connection",
                ])
        }

        private func refuses(oursDials: Bool, ours: String?, theirs: String?, texts: [String]) throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            let (dialler, listener) = oursDials ? (pair.ours, pair.theirs) : (pair.theirs, pair.ours)
            let (dialling, listening) = oursDials ? (ours, theirs) : (theirs, ours)
            try listener.launch(password: listening)
            try dialler.launch(peers: [listener.addresses[0]], password: dialling)
            let shown = texts + ["connection reset by peer"]
            #expect(
                try LabShell.poll(seconds: 10) {
                    try dialler.connections().contains { line in
                        (line.contains(" failed ") || line.contains(" retrying "))
                            && shown.contains { line.contains($0) }
                    }
                }, "\(dialler.shown)")
            #expect(
                texts.contains { pair.ours.log.contains($0) } || pair.ours.log.contains("connection reset"),
                "\(pair.ours.log)")
            #expect(try !pair.ours.isConnected(1, within: 1))
        }

        @Test("each side restarts and the other knows it for the same peer", arguments: [true, false])
        func restart(_ oursRestarts: Bool) throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            try pair.launch(Pairing(oursDials: true))
            #expect(try pair.ours.isConnected() && pair.theirs.isConnected())
            let (mine, other) = try pair.attachContainers()
            #expect(try mine.reaches("10.40.0.2"))

            let restarted = oursRestarts ? pair.ours : pair.theirs
            restarted.kill()
            try restarted.relaunch()
            #expect(try pair.ours.isConnected(within: 30) && pair.theirs.isConnected(within: 30))
            #expect(try mine.reaches("10.40.0.2") && other.reaches("10.40.0.1"))
            #expect(
                try LabShell.poll(seconds: 10) { try pair.ours.topology() == pair.theirs.topology() },
                "\(pair.ours.shown)\n\(pair.theirs.shown)")
            let uids = { (host: LabHost) throws -> [String: UInt64] in
                let peers = try host.report()["Peers"] as? [[String: Any]] ?? []
                return Dictionary(
                    peers.map { ($0["Name"] as? String ?? "", ($0["UID"] as? NSNumber)?.uint64Value ?? 0) },
                    uniquingKeysWith: { first, _ in first })
            }
            #expect(try LabShell.poll(seconds: 10) { try uids(pair.ours) == uids(pair.theirs) })
            let witness = oursRestarts ? pair.theirs : pair.ours
            #expect(witness.log.components(separatedBy: ": connection added").count == 3, "\(witness.log)")
        }

        @Test(
            "frames go unsealed only when both ends trust the path",
            arguments: [(true, true), (true, false), (false, true)])
        func trustedSubnets(_ ours: Bool, _ theirs: Bool) throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            try pair.launch(
                Pairing(oursDials: true, password: "wEaVe"),
                ourFlags: ours ? ["--trusted-subnets=10.99.0.0/16"] : [],
                theirFlags: theirs ? ["--trusted-subnets=10.99.0.0/16"] : [])
            #expect(try pair.ours.isConnected() && pair.theirs.isConnected())
            for host in [pair.ours, pair.theirs] {
                let line = try #require(try host.connections().first)
                #expect(line.contains(" unencrypted ") == (ours && theirs), "\(line)")
            }
            let (mine, _) = try pair.attachContainers()
            #expect(try mine.reaches("10.40.0.2"))
        }

        @Test("both dial at once, many times, and exactly one connection survives, the same on both sides")
        func simultaneousDial() throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            try pair.theirs.launch()
            try pair.ours.launch()
            for round in 1...(InteropTests.isLong ? 100 : 25) {
                try pair.dialAtOnce()
                #expect(try pair.ours.isConnected() && pair.theirs.isConnected(), "round \(round)")
                #expect(
                    try LabShell.poll(seconds: 5) {
                        try pair.connectionPorts(pair.ours) == pair.connectionPorts(pair.theirs)
                    },
                    "round \(round)\n\(pair.ours.shown)\n\(pair.theirs.shown)")
                #expect(try pair.ours.topology().count == 2, "round \(round)\n\(pair.ours.shown)")
                try pair.breakConnections()
            }
        }

        @Test("a peer with our own name is refused for good and says so", arguments: [true, false])
        func nameCollision(_ oursDials: Bool) throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            try pair.launch(
                Pairing(oursDials: oursDials), ourFlags: ["--name=7a:00:00:00:00:aa"],
                theirFlags: ["--name=7a:00:00:00:00:aa"])
            let dialler = oursDials ? pair.ours : pair.theirs
            #expect(
                try LabShell.poll(seconds: 10) {
                    try dialler.connections().contains {
                        $0.contains("peer names collision") && $0.contains("retry: never")
                    }
                }, "\(dialler.shown)")
        }

        @Test("a target without port whose peer has connected to us already is not dialled", arguments: [true, false])
        func inboundTarget(_ oursDials: Bool) throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            try pair.launch(Pairing(oursDials: oursDials))
            #expect(try pair.ours.isConnected() && pair.theirs.isConnected())
            let (dialler, listener) = oursDials ? (pair.ours, pair.theirs) : (pair.theirs, pair.ours)
            #expect(try listener.connect([dialler.addresses[0]]).status == 0)
            Thread.sleep(forTimeInterval: 4)
            let lines = try listener.connections()
            #expect(lines.count == 1 && lines[0].hasPrefix("<- ") && lines[0].contains(" established "), "\(lines)")
            #expect(try listener.status("targets") == dialler.addresses[0] + "\n")
            #expect(!listener.log.contains("attempting connection"), "\(listener.log)")
            for host in [dialler, listener] { host.expectsOneConnection(each: 1, "with a target that is connected") }
        }

        @Test("forget keeps the connection, and connect --replace swaps the targets")
        func targets() throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            try pair.launch(Pairing(oursDials: true))
            #expect(try pair.ours.isConnected())
            _ = try pair.ours.forget([pair.theirs.addresses[0]])
            #expect(try pair.ours.status("targets").isEmpty)
            #expect(try pair.ours.isConnected())
            _ = try pair.ours.connect(["10.99.1.77", "10.99.1.78"])
            _ = try pair.ours.connect([pair.theirs.addresses[0]], replace: true)
            #expect(
                try pair.ours.status("targets").split(separator: "\n").map(String.init) == [pair.theirs.addresses[0]])
        }
    }
}
