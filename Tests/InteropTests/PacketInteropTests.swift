import Foundation
import NetLab
import Testing

extension InteropTests {
    @Suite("Packets that are old, damaged or late, with 2.8.1", .serialized, .enabled(if: InteropTests.isPossible))
    struct Packets {
        @Test("under load each side restarts, traffic is back in seconds, and packets under the old key are refused")
        func newKey() throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            try Underlay.separateDatagrams(pair.hosts)
            try pair.launch(Pairing(oursDials: true, password: "wEaVe"))
            #expect(try pair.ours.isConnected() && pair.theirs.isConnected(), "\(pair.hosts.shown)")
            let (mine, other) = try pair.attachContainers()
            #expect(try mine.reaches("10.40.0.2") && other.reaches("10.40.0.1"))
            let underlay = try Underlay(pair.cluster)
            let flood = try Flood(pair.cluster, [mine, other], seconds: 50)

            var restarts: [(kind: LabRouterKind, back: Date, resent: Date)] = []
            for restarted in [pair.ours, pair.theirs, pair.ours, pair.theirs] {
                let packets = try pair.hosts.map { try underlay.capture(100, at: $0) }
                restarted.kill()
                try restarted.relaunch()
                let back = Date()
                #expect(try pair.ours.isConnected() && pair.theirs.isConnected(), "\(pair.hosts.shown)")
                // Frames flow under the new key before the old ones come again.
                Thread.sleep(forTimeInterval: 2)
                restarts.append((restarted.kind, back, Date()))
                let before = try pair.refused()
                try underlay.send(packets[0], from: pair.theirs, to: pair.ours.addresses[0])
                try underlay.send(packets[1], from: pair.ours, to: pair.theirs.addresses[0])
                let after = try pair.refused(differs: before, by: [100, 0, 100])
                #expect(zip(after, before).map { $0 - $1 } == [100, 0, 100], "\(restarted.kind)")
                #expect(try pair.hosts.allSatisfy { try $0.isConnected(1, within: 1) })
            }

            let figures = try flood.figures(within: 90)
            for (kind, back, resent) in restarts {
                let times = figures.map { $0.recovery(after: back, before: resent) }
                print("interop: \(kind) restarted under load, datagrams flow again after \(times) s")
                for time in times { #expect(time < 10, "\(kind): \(figures)") }
            }
            for figure in figures {
                #expect(figure.repeated == 0)
                #expect(figure.received > figure.sent / 3, "\(figure)")
            }
            // Nothing else stopped the flow.
            #expect(figures.allSatisfy { $0.silences <= restarts.count }, "\(figures)")
            print("interop: of \(figures.map(\.sent)) datagrams came \(figures.map(\.received)), none twice")
        }

        @Test("sealed packets that are repeated, changed, cut or longer are refused, and the connection stays")
        func sealed() throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            try Underlay.separateDatagrams(pair.hosts)
            try pair.launch(Pairing(oursDials: true, password: "wEaVe"))
            #expect(try pair.ours.isConnected() && pair.theirs.isConnected(), "\(pair.hosts.shown)")
            let (mine, other) = try pair.attachContainers()
            #expect(try mine.reaches("10.40.0.2") && other.reaches("10.40.0.1"))
            let underlay = try Underlay(pair.cluster)
            let flood = try Flood(pair.cluster, [mine, other], seconds: 15)
            let packets = try pair.hosts.map { try underlay.capture(100, at: $0) }
            for change in Underlay.Change.allCases {
                let before = try pair.refused()
                try underlay.send(packets[0], from: pair.theirs, to: pair.ours.addresses[0], change)
                try underlay.send(packets[1], from: pair.ours, to: pair.theirs.addresses[0], change)
                // 2.8.1 does not say that it has seen a packet before.
                let expected = change == .none ? [0, 100, 0] : [100, 0, 100]
                let after = try pair.refused(differs: before, by: expected)
                #expect(zip(after, before).map { $0 - $1 } == expected, "\(change)")
            }
            for figure in try flood.figures(within: 30) {
                #expect(figure.repeated == 0 && figure.silences == 0, "\(figure)")
            }
            for host in pair.hosts { host.expectsOneConnection(each: 1, "with damaged packets") }
        }

        @Test("plain packets that are cut or longer are counted and logged, and the connection stays")
        func plain() throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            try Underlay.separateDatagrams(pair.hosts)
            try pair.launch(Pairing(oursDials: false))
            #expect(try pair.ours.isConnected() && pair.theirs.isConnected(), "\(pair.hosts.shown)")
            let (mine, other) = try pair.attachContainers()
            #expect(try mine.reaches("10.40.0.2") && other.reaches("10.40.0.1"))
            let underlay = try Underlay(pair.cluster)
            let flood = try Flood(pair.cluster, [mine, other], seconds: 12)
            let packets = try pair.hosts.map { try underlay.capture(100, at: $0) }
            for (change, text) in [
                (Underlay.Change.cut, "too short; expected frame"), (.trailing, "1 octets of trailing garbage"),
            ] {
                let before = try pair.ours.counter("malformed_datagrams") ?? 0
                var counts = (ours: 0, theirs: 0)
                try underlay.send(packets[0], from: pair.theirs, to: pair.ours.addresses[0], change)
                try underlay.send(packets[1], from: pair.ours, to: pair.theirs.addresses[0], change)
                _ = try LabShell.poll(seconds: 5) {
                    counts.ours = try (pair.ours.counter("malformed_datagrams") ?? 0) - before
                    counts.theirs = pair.theirs.log.components(separatedBy: text).count - 1
                    return counts == (100, 100)
                }
                #expect(counts == (100, 100), "\(change)")
                // Ours says it too, but not a hundred times.
                #expect(pair.ours.log.contains(text), "\(pair.ours.log)")
            }
            _ = try flood.figures(within: 30)
            #expect(try mine.reaches("10.40.0.2") && other.reaches("10.40.0.1"))
            for host in pair.hosts { host.expectsOneConnection(each: 1, "with damaged packets") }
        }

        @Test(
            "when the first heartbeats are lost the connection waits and comes about on a later one",
            arguments: Pairing.all)
        func lateHeartbeats(_ pairing: Pairing) throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            for host in pair.hosts {
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
            try pair.launch(pairing)
            for host in pair.hosts {
                #expect(try LabShell.poll(seconds: 10) { try host.connections().contains { $0.contains(" pending ") } })
            }
            Thread.sleep(forTimeInterval: 3)
            #expect(try pair.hosts.allSatisfy { try $0.connections().contains { $0.contains(" pending ") } })
            for host in pair.hosts { try host.run("nft", "delete", "table", "inet", "wall") }
            #expect(try pair.hosts.allSatisfy { try $0.isConnected(within: 3) }, "\(pair.hosts.shown)")
            let mtu = pairing.password == nil ? 1438 : 1414
            #expect(try pair.hosts.allSatisfy { try $0.measures(mtu) }, "\(pair.hosts.shown)")
            let (mine, other) = try pair.attachContainers()
            #expect(try mine.reaches("10.40.0.2") && other.reaches("10.40.0.1"))
            for host in pair.hosts { host.expectsOneConnection(each: 1, "after late heartbeats") }
        }
    }
}

extension MixedPair {
    /// Packets that ours could not open, packets that ours had seen before, and packets of which 2.8.1 said that it
    /// could not open them.
    func refused() throws -> [Int] {
        [
            try ours.counter("undecryptable") ?? -1, try ours.counter("replays") ?? -1,
            theirs.log.components(separatedBy: "UDP packet decryption failed").count - 1,
        ]
    }

    /// The same once it is so much more than `before`, or after five seconds.
    func refused(differs before: [Int], by difference: [Int]) throws -> [Int] {
        var after = before
        _ = try LabShell.poll(seconds: 5) {
            after = try refused()
            return zip(after, before).map { $0 - $1 } == difference
        }
        return after
    }
}
