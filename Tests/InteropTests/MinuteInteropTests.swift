import Foundation
import NetLab
import Testing

extension InteropTests {
    /// What takes a minute, all in one minute: five pairs that do not know of each other.
    @Suite("A minute with 2.8.1", .serialized, .enabled(if: InteropTests.isPossible))
    struct Minutes {
        @Test("the silent are dropped in a minute, the idle are kept, and links without an overlay end with its words")
        func minute() throws {
            let cluster = try LabCluster()
            defer { cluster.takeDown() }
            let pairs = try (0..<5).map { _ in
                let ours = try cluster.addHost(.weaver)
                let theirs = try cluster.addHost(.reference)
                try cluster.link(ours, theirs)
                return (ours: ours, theirs: theirs)
            }
            let (weDial, theyDial) = (pairs[3], pairs[4])
            for host in [weDial.ours, weDial.theirs, theyDial.ours, theyDial.theirs] {
                try host.addRules(
                    """
                    table inet wall {
                        chain input {
                            type filter hook input priority 0;
                            udp dport 6783 drop;
                        }
                    }
                    """)
            }
            for (index, pair) in pairs.enumerated() {
                let (dialler, listener) = index % 2 == 1 ? (pair.ours, pair.theirs) : (pair.theirs, pair.ours)
                try listener.launch(flags: ["--no-discovery"])
                try dialler.launch(peers: [listener.addresses[0]], flags: ["--no-discovery"])
            }
            for pair in pairs[0...2] { #expect(try pair.ours.isConnected() && pair.theirs.isConnected()) }
            for host in [weDial.ours, weDial.theirs, theyDial.ours, theyDial.theirs] {
                #expect(
                    try LabShell.poll(seconds: 10) {
                        try host.connections().contains {
                            $0.contains(" pending     sleeve ") && $0.contains("mtu=65535")
                        }
                    }, "\(host.shown)")
            }
            let idle = try pairs[2].ours.connections()

            let start = Date()
            try pairs[0].ours.pause()
            try pairs[1].theirs.pause()
            let watchers = [(pairs[0].theirs, "2.8.1"), (pairs[1].ours, "ours")]
            var dropped: [String: Double] = [:]
            var failed: [Int: String] = [:]
            // Both ends of a link without an overlay give up in the same instant, and whoever is second sees only a
            // closed connection. So the listener is stopped, after its heartbeat at 30 s keeps TCP alive beyond 60 s.
            var waiting = [weDial.theirs, theyDial.ours]
            _ = try LabShell.poll(seconds: 80, every: 0.5) {
                if Date().timeIntervalSince(start) > 38 {
                    for host in waiting { try host.pause() }
                    waiting = []
                }
                for (host, name) in watchers where dropped[name] == nil {
                    if try !host.connections().contains(where: { $0.contains(" established ") }) {
                        dropped[name] = Date().timeIntervalSince(start)
                    }
                }
                for host in [weDial.ours, theyDial.theirs] where failed[host.number] == nil {
                    failed[host.number] = try host.connections().first { $0.contains("no working forwarders to ") }
                }
                return dropped.count == 2 && failed.count == 2
            }
            for (_, name) in watchers {
                // Heartbeats come every 30 s and 60 s without any is too long: half a minute more or less.
                let time = try #require(dropped[name], "\(name) keeps a peer that says nothing")
                #expect(time > 25 && time < 70, "\(name) after \(time) s")
            }
            for (host, remote) in [(weDial.ours, weDial.theirs), (theyDial.theirs, theyDial.ours)] {
                let line = try #require(failed[host.number], "\(host.shown)")
                #expect(
                    line.contains("no working forwarders to \(remote.peerName)(\(remote.nickname))"), "\(line)")
            }
            let rest = 62 - Date().timeIntervalSince(start)
            if rest > 0 { Thread.sleep(forTimeInterval: rest) }
            #expect(try pairs[2].ours.connections() == idle)
            #expect(try pairs[2].theirs.isConnected(within: 1))
        }
    }
}

extension LabHost {
    /// Stops the router in the middle of what it does, as a machine does that hangs.
    func pause() throws {
        let process = try #require(process)
        // `unshare` has the reference as its only child.
        let children = try LabShell.outcome(["pgrep", "-P", String(process.processIdentifier)]).output
        let target = children.split(separator: "\n").first.map(String.init) ?? String(process.processIdentifier)
        try LabShell.run("kill", "-STOP", target)
    }
}
