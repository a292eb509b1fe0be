import Foundation
import NetLab
import Testing

extension InteropTests {
    /// Three hosts in a line: the ends have no underlay route to each other.
    @Suite("Three hosts in a line, some of them 2.8.1", .serialized, .enabled(if: InteropTests.isPossible))
    struct Lines {
        static let lines: [[LabRouterKind]] = [
            [.weaver, .reference, .weaver], [.reference, .weaver, .reference], [.weaver, .weaver, .reference],
        ]

        @Test("ends talk through the middle, encrypted and plain", arguments: lines, [nil, "wEaVe"] as [String?])
        func relays(_ kinds: [LabRouterKind], _ password: String?) throws {
            let cluster = try LabCluster()
            defer { cluster.takeDown() }
            let hosts = try Self.makeLine(cluster, kinds, password: password)
            let containers = try hosts.enumerated().map { index, host in
                let container = try cluster.addContainer()
                try container.attach(to: host, "10.40.0.\(index + 1)")
                return container
            }
            #expect(try containers[0].reaches("10.40.0.3") && containers[2].reaches("10.40.0.1"))
            #expect(try containers[0].reaches("10.40.0.2") && containers[2].reaches("10.40.0.2"))
            try containers[2].startEchoServers()
            #expect(try containers[0].udpEchoFailures(to: "10.40.0.3", sizes: [1, 1000, 1400, 8000, 60_000]) == [])
            #expect(try containers[0].tcpEchoes(to: "10.40.0.3", bytes: 3_000_000))

            let topologies = try hosts.map { try $0.topology() }
            #expect(topologies[0].count == 4)
            #expect(
                try LabShell.poll(seconds: 10) { try Set(hosts.map { try $0.topology() }).count == 1 },
                "\(hosts.shown)")
        }

        @Test("the middle restarts and traffic heals", arguments: [lines[0], lines[1]])
        func middleRestarts(_ kinds: [LabRouterKind]) throws {
            let cluster = try LabCluster()
            defer { cluster.takeDown() }
            let hosts = try Self.makeLine(cluster, kinds, password: "wEaVe")
            let ends = try [0, 2].map { index in
                let container = try cluster.addContainer()
                try container.attach(to: hosts[index], "10.40.0.\(index + 1)")
                return container
            }
            #expect(try ends[0].reaches("10.40.0.3"))
            hosts[1].kill()
            #expect(try !ends[0].pings("10.40.0.3"))
            try hosts[1].relaunch()
            #expect(try ends[0].reaches("10.40.0.3", within: 60) && ends[1].reaches("10.40.0.1", within: 10))
        }

        @Test("we carry gossip of channels that only the 2.8.1 ends know")
        func surrogate() throws {
            let cluster = try LabCluster()
            defer { cluster.takeDown() }
            let flags = ["--no-discovery", "--ipalloc-range=10.50.0.0/16", "--ipalloc-init=consensus=2"]
            let hosts = try Self.makeLine(
                cluster, [.reference, .weaver, .reference], password: nil, flags: [0: flags, 2: flags])
            // Consensus of two needs unicast, broadcast and gossip of a channel that the middle does not have.
            let first = try hosts[0].http("/ip/aaaa", method: "POST")
            #expect(first.status == 0 && first.output.hasPrefix("10.50."), "\(first.output)\n\(hosts[0].log)")
            let second = try hosts[2].http("/ip/bbbb", method: "POST")
            #expect(second.status == 0 && second.output.hasPrefix("10.50."), "\(second.output)")
            #expect(first.output != second.output)
        }

        @Test("with discovery the ends of a triangle find each other")
        func discovery() throws {
            let cluster = try LabCluster()
            defer { cluster.takeDown() }
            let hosts = try [LabRouterKind.weaver, .reference, .weaver].map { try cluster.addHost($0) }
            try cluster.link(hosts[0], hosts[1])
            try cluster.link(hosts[1], hosts[2])
            try cluster.link(hosts[0], hosts[2])
            // The third side of the triangle is reached over addresses that the middle sees.
            try hosts[0].run("ip", "route", "add", "10.99.2.0/24", "via", "10.99.3.3")
            try hosts[2].run("ip", "route", "add", "10.99.1.0/24", "via", "10.99.3.1")
            try hosts[1].launch()
            try hosts[0].launch(peers: ["10.99.1.2"])
            try hosts[2].launch(peers: ["10.99.2.2"])
            for host in hosts { #expect(try host.isConnected(2, within: 30), "\(host.shown)") }
        }

        static func makeLine(
            _ cluster: LabCluster, _ kinds: [LabRouterKind], password: String?, flags: [Int: [String]] = [:]
        ) throws -> [LabHost] {
            let hosts = try kinds.map { try cluster.addHost($0) }
            try cluster.link(hosts[0], hosts[1])
            try cluster.link(hosts[1], hosts[2])
            try hosts[1].launch(flags: flags[1] ?? ["--no-discovery"], password: password)
            try hosts[0].launch(peers: ["10.99.1.2"], flags: flags[0] ?? ["--no-discovery"], password: password)
            try hosts[2].launch(peers: ["10.99.2.2"], flags: flags[2] ?? ["--no-discovery"], password: password)
            #expect(try hosts[0].isConnected() && hosts[2].isConnected() && hosts[1].isConnected(2))
            return hosts
        }
    }
}
