import Foundation
import NetLab

/// A measurement between the containers of hosts that run already, and the cases that it gives figures for.
struct SleeveRun {
    var columns: [(name: String, unit: String)]
    var measure: (ContainerPair, _ seconds: Int) throws -> [Double]

    init(_ name: String, _ unit: String, measure: @escaping (ContainerPair, _ seconds: Int) throws -> Double) {
        columns = [(name, unit)]
        self.measure = { [try measure($0, $1)] }
    }

    init(
        columns: [(name: String, unit: String)], measure: @escaping (ContainerPair, _ seconds: Int) throws -> [Double]
    ) {
        self.columns = columns
        self.measure = measure
    }
}

extension WeaveBench {
    /// What is sent, in Mbit/s: more than a sleeve carries here, so that what arrives is the figure.
    static let offered1300 = 1500
    static let offered64 = 200
    /// The same in datagrams.
    static let offered64PerSecond = offered64 * 1_000_000 / (64 * 8)

    static var sleevePlain: Benchmark {
        let runs = [
            SleeveRun(columns: [("sleeve.tcp.plain", "Mbit/s"), ("sleeve.cpu_per_gb.plain", "s")]) { pair, seconds in
                let before = try pair.processorSeconds()
                let moved = try pair.traffic.tcp(seconds: seconds)
                let spent = try pair.processorSeconds() - before
                return [moved.megabitsPerSecond, spent / (moved.bytes / 1e9)]
            },
            SleeveRun(columns: [("sleeve.tcp8.plain", "Mbit/s"), ("sleeve.rss", "MB")]) { pair, seconds in
                var largest = 0.0
                let moved = try pair.traffic.tcp(seconds: seconds, flows: 8) {
                    largest = max(largest, try pair.residentMegabytes())
                }
                return [moved.megabitsPerSecond, largest]
            },
            udp1300("sleeve.udp1300.plain"),
            SleeveRun("sleeve.udp64.plain", "packets/s") { pair, seconds in
                try pair.traffic.datagramsReceived(length: 64, perSecond: offered64PerSecond, seconds: seconds)
            },
            SleeveRun("sleeve.udp64.iperf3.plain", "packets/s") { pair, seconds in
                try pair.traffic.udpReceived(length: 64, megabits: offered64, seconds: seconds)
            },
            SleeveRun("sleeve.ping.idle.plain", "ms") { pair, _ in
                Row.median(try pair.traffic.echoes(50, every: 0.02, seconds: 5))
            },
            SleeveRun("sleeve.ping.loaded.plain", "ms") { pair, seconds in
                let times = try pair.traffic.echoesUnderLoad(seconds: seconds)
                return times[times.count * 99 / 100]
            },
        ]
        return sleeve(runs) { try ContainerPair($0, password: nil) }
    }

    static var sleeveEncrypted: Benchmark {
        let runs = [
            tcp("sleeve.tcp.encrypted"), tcp("sleeve.tcp8.encrypted", flows: 8), udp1300("sleeve.udp1300.encrypted"),
        ]
        let password = "bench-\(UInt64.random(in: 0 ... .max))"
        return sleeve(runs) { try ContainerPair($0, password: password) }
    }

    /// The two hosts see only a third, which relays.
    static var sleeveRelay: Benchmark {
        sleeve([tcp("sleeve.relay.plain")]) { try ContainerPair($0, password: nil, relayed: true) }
    }

    private static func tcp(_ name: String, flows: Int = 1) -> SleeveRun {
        SleeveRun(name, "Mbit/s") { try $0.traffic.tcp(seconds: $1, flows: flows).megabitsPerSecond }
    }

    private static func udp1300(_ name: String) -> SleeveRun {
        SleeveRun(name, "Mbit/s") { pair, seconds in
            try pair.traffic.udpReceived(length: 1300, megabits: offered1300, seconds: seconds) * 1300 * 8 / 1e6
        }
    }

    /// All runs of a round share one set of hosts.
    private static func sleeve(
        _ runs: [SleeveRun], on hosts: @escaping (LabRouterKind) throws -> ContainerPair
    ) -> Benchmark {
        Benchmark(names: runs.flatMap { $0.columns.map(\.name) }) { options in
            let chosen = runs.filter { $0.columns.contains { options.selects($0.name) } }
            return try Row.alternating(chosen.flatMap(\.columns), options) { kind in
                let pair = try hosts(kind)
                defer { pair.cluster.takeDown() }
                return chosen.flatMap { run -> [Double?] in
                    do {
                        return try run.measure(pair, options.seconds)
                    } catch {
                        say("\(run.columns[0].name): no figure for \(kind): \(error)")
                        return run.columns.map { _ in nil }
                    }
                }
            }
        }
    }
}

/// Two hosts with a router of one kind and a container each; linked to each other or, relayed, to a third one.
struct ContainerPair {
    let cluster: LabCluster
    let hosts: [LabHost]
    let traffic: Traffic
    static let addresses = ["10.40.0.1", "10.40.0.2"]

    init(_ kind: LabRouterKind, password: String?, relayed: Bool = false) throws {
        cluster = try LabCluster()
        do {
            hosts = try [cluster.addHost(kind), cluster.addHost(kind)]
            try hosts[0].launch(password: password)
            if relayed {
                let middle = try cluster.addHost(kind)
                let first = try cluster.link(hosts[0], middle)
                let second = try cluster.link(middle, hosts[1])
                try middle.launch(peers: [first.a], password: password)
                try hosts[1].launch(peers: [second.a], password: password)
            } else {
                let link = try cluster.link(hosts[0], hosts[1])
                try hosts[1].launch(peers: [link.a], password: password)
            }
            let containers = [try cluster.addContainer(), try cluster.addContainer()]
            for index in 0...1 { try containers[index].attach(to: hosts[index], Self.addresses[index]) }
            guard try containers[0].reaches(Self.addresses[1], within: 30) else {
                throw LabShell.Failure(description: "\(kind): the containers do not reach each other:\n\(hosts[0].log)")
            }
            traffic = try Traffic(
                cluster, from: containers[0].namespace, to: containers[1].namespace, at: Self.addresses[1])
            // The path MTU search begins when the link is up; what it finds is what is measured.
            Thread.sleep(forTimeInterval: 1)
        } catch {
            cluster.takeDown()
            throw error
        }
    }

    /// User and system time of the routers of both ends so far.
    func processorSeconds() throws -> Double {
        try hosts.reduce(0) { sum, host in
            let text = try procFile(host, "stat")
            // The name, in parentheses, may hold anything.
            let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
            guard fields.count > 13, let user = Double(fields[12]), let system = Double(fields[13]) else {
                throw LabShell.Failure(description: "no processor time in \(text)")
            }
            return sum + (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
        }
    }

    /// The resident memory of the larger router of the two ends.
    func residentMegabytes() throws -> Double {
        try hosts.reduce(0) { largest, host in
            let line = try procFile(host, "status").split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
            guard let kilobytes = line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap({ Double($0) })
            else { throw LabShell.Failure(description: "no resident memory of \(host.nickname)") }
            return max(largest, kilobytes / 1024)
        }
    }

    private func procFile(_ host: LabHost, _ name: String) throws -> String {
        guard let process = host.routerProcessIdentifier else {
            throw LabShell.Failure(
                description: "the router of \(host.nickname) does not run:\n\(host.log.suffix(1000))")
        }
        return try String(contentsOfFile: "/proc/\(process)/\(name)", encoding: .utf8)
    }
}
