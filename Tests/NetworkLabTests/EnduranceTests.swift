import Foundation
import NetLab
import Testing
import WeaveCore

/// Traffic at full rate through three hosts that things happen to: it always comes back, and nothing grows.
@Suite(.serialized, .enabled(if: LabShell.canMakeNamespaces))
struct EnduranceTests {
    /// How long; `WEAVE_ENDURANCE_MINUTES` says otherwise.
    static let minutes =
        ProcessInfo.processInfo.environment["WEAVE_ENDURANCE_MINUTES"].flatMap { Double($0) } ?? 0.7

    enum Fault: String, CaseIterable {
        case none, linkDown, loss, smallerUnderlay, freeze, stop, kill, garbage
    }

    /// What one daemon holds of the machine.
    private struct Holdings: CustomStringConvertible {
        var residentKiB = 0
        var privateKiB = 0
        var descriptors = 0
        var threads = 0

        var description: String {
            "\(residentKiB / 1024) MiB resident, \(privateKiB / 1024) MiB of its own, \(descriptors) descriptors, "
                + "\(threads) threads"
        }
    }

    @Test("full rate with faults: no stall, no leak, no wrong checksum", .timeLimit(.minutes(180)))
    func fullRate() throws {
        let given = ProcessInfo.processInfo.environment["WEAVE_ENDURANCE_SEED"].flatMap { UInt64($0) }
        let seed = given ?? .random(in: 0 ... .max)
        print("endurance: WEAVE_ENDURANCE_SEED=\(seed), \(Self.minutes) minutes")
        var random = SeededGenerator(seed: seed)
        let lab = try Triangle()
        defer { lab.cluster.takeDown() }
        // The first round has everything mapped and learned; growth is counted from its end.
        try lab.round(.none, at: 0)
        let first = try lab.hosts.map(Self.holdings)
        let begin = Date()
        var (rounds, bytes, slowest) = (0, 0.0, 0.0)
        while Date().timeIntervalSince(begin) < Self.minutes * 60 {
            let fault = Fault.allCases[Int(random.next() % UInt64(Fault.allCases.count))]
            let host = Int(random.next() % 3)
            let outcome = try lab.round(fault, at: host)
            #expect(outcome.healed != nil, "seed \(seed), round \(rounds), \(fault) at host \(host + 1)")
            rounds += 1
            bytes += outcome.bytes
            slowest = max(slowest, outcome.healed ?? 99)
            if rounds % 20 == 0 {
                let now = try lab.hosts.map(Self.holdings)
                print("endurance: \(rounds) rounds, \(Int(bytes / 1e9)) GB; \(now.map(\.description))")
            }
        }
        try lab.round(.none, at: 0)
        let last = try lab.hosts.map(Self.holdings)
        print(
            "endurance: \(rounds) rounds, \(String(format: "%.1f", bytes / 1e9)) GB, slowest healing "
                + "\(String(format: "%.1f", slowest)) s; at first \(first.map(\.description)), at last "
                + "\(last.map(\.description))")
        #expect(rounds > 0 && bytes > 100e6)
        for (before, after) in zip(first, last) {
            #expect(after.privateKiB < before.privateKiB + 12 * 1024, "seed \(seed): \(before) became \(after)")
            #expect(after.descriptors < before.descriptors + 16, "seed \(seed): \(before) became \(after)")
            #expect(after.threads < before.threads + 4, "seed \(seed): \(before) became \(after)")
        }
        for container in lab.containers {
            let snmp = try container.run("cat", "/proc/net/snmp")
            for kind in ["Tcp:", "Udp:"] {
                let lines = snmp.split(separator: "\n").filter { $0.hasPrefix(kind) }.map { $0.split(separator: " ") }
                let column = try #require(lines.first?.firstIndex(of: "InCsumErrors"))
                #expect(lines[1][column] == "0", "seed \(seed): \(kind) \(snmp)")
            }
        }
    }

    private static func holdings(_ host: LabHost) throws -> Holdings {
        let process = try #require(host.routerProcessIdentifier)
        var holdings = Holdings()
        let status = try String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)
        for line in status.split(separator: "\n") {
            let words = line.split(whereSeparator: \.isWhitespace)
            guard words.count > 1, let value = Int(words[1]) else { continue }
            switch words[0] {
            case "VmRSS:": holdings.residentKiB = value
            case "RssAnon:": holdings.privateKiB = value
            case "Threads:": holdings.threads = value
            default: break
            }
        }
        holdings.descriptors = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/fd").count
        return holdings
    }

    /// Three hosts that see each other, one of the three links plain and two encrypted, and a container on each.
    private struct Triangle {
        struct Outcome {
            /// Until containers reached each other again, in seconds; nil when they did not.
            var healed: Double?
            var bytes: Double
        }

        let cluster: LabCluster
        let hosts: [LabHost]
        let containers: [LabContainer]

        init() throws {
            cluster = try LabCluster()
            hosts = try [cluster.addHost(), cluster.addHost(), cluster.addHost()]
            let first = try cluster.link(hosts[0], hosts[1])
            let second = try cluster.link(hosts[1], hosts[2])
            let third = try cluster.link(hosts[0], hosts[2])
            // Trust needs both ends: the first link is plain, the others are sealed.
            let trust = ["--trusted-subnets=10.99.1.0/24"]
            try hosts[0].launch(flags: trust, password: "wEaVe")
            try hosts[1].launch(peers: [first.a], flags: trust, password: "wEaVe")
            try hosts[2].launch(peers: [second.a, third.a], flags: trust, password: "wEaVe")
            for host in hosts {
                let isConnected = try host.isConnected(2)
                try #require(isConnected, "\(host.log)")
            }
            let cluster = cluster
            containers = try hosts.enumerated().map { index, host in
                let container = try cluster.addContainer()
                try container.attach(to: host, "10.40.0.\(index + 1)")
                return container
            }
            for container in containers {
                _ = try cluster.start(["ip", "netns", "exec", container.namespace, "iperf3", "-s", "-p", "5201"])
                _ = try cluster.start(["ip", "netns", "exec", container.namespace, "iperf3", "-s", "-p", "5202"])
            }
        }

        /// Two TCP flows and one of datagrams for a few seconds, and a fault in the middle of them.
        @discardableResult
        func round(_ fault: Fault, at host: Int) throws -> Outcome {
            let flows = [(0, 1, "5201"), (2, 0, "5202"), (1, 2, "5201")].enumerated().map { index, flow in
                let words = [
                    "ip", "netns", "exec", containers[flow.0].namespace, "timeout", "-k", "1", "30", "iperf3", "-c",
                    "10.40.0.\(flow.1 + 1)", "-p", flow.2, "-t", "6", "-J", "--connect-timeout", "3000",
                ]
                return words + (index == 2 ? ["-u", "-b", "200M", "-l", "1300"] : [])
            }
            let tasks = try flows.map { try cluster.start($0) }
            Thread.sleep(forTimeInterval: 1.5)
            try inflict(fault, on: host)
            let healed = try timeToHeal()
            var bytes = 0.0
            for task in tasks {
                guard let outcome = task.outcome(within: 40) else { continue }
                bytes += Self.received(outcome.output)
            }
            return Outcome(healed: healed, bytes: bytes)
        }

        private static func received(_ json: String) -> Double {
            guard let object = try? JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any],
                let end = object["end"] as? [String: Any]
            else { return 0 }
            let sum = (end["sum_received"] ?? end["sum"]) as? [String: Any]
            return sum?["bytes"] as? Double ?? 0
        }

        private func inflict(_ fault: Fault, on index: Int) throws {
            let host = hosts[index]
            let devices = ["up1", "up3", "up2"]
            let device = index == 1 ? "up2" : devices[index]
            switch fault {
            case .none: break
            case .linkDown:
                try host.run("ip", "link", "set", device, "down")
                Thread.sleep(forTimeInterval: 1.5)
                try host.run("ip", "link", "set", device, "up")
            case .loss:
                try host.addRules(
                    "table ip lossy { chain in { type filter hook prerouting priority -300; "
                        + "udp dport 6783 numgen random mod 100 < 20 drop; }; }")
                Thread.sleep(forTimeInterval: 2)
                try host.run("nft", "delete", "table", "ip", "lossy")
            case .smallerUnderlay:
                try host.run("ip", "link", "set", device, "mtu", "1400")
                Thread.sleep(forTimeInterval: 2)
                try host.run("ip", "link", "set", device, "mtu", "1500")
            case .freeze:
                guard let process = host.routerProcessIdentifier else { return }
                kill(process, SIGSTOP)
                Thread.sleep(forTimeInterval: 2)
                kill(process, SIGCONT)
            case .stop, .kill:
                if fault == .stop { host.stop() } else { host.kill() }
                try host.relaunch()
            case .garbage:
                try host.run(
                    "python3", "-c",
                    "import socket,os\nu=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
                        + "for i in range(20000): u.sendto(bytes.fromhex('7a0000000001')+os.urandom(i%1400),"
                        + "('\(host.addresses[0])',6783))")
            }
        }

        /// How long until every container reaches each other.
        private func timeToHeal() throws -> Double? {
            let start = Date()
            for from in containers.indices {
                for to in containers.indices where to != from {
                    guard try containers[from].reaches("10.40.0.\(to + 1)", within: 60) else { return nil }
                }
            }
            return Date().timeIntervalSince(start)
        }
    }
}
