import Foundation
import NetLab
import Synchronization
import WeaveCore
import WeaveIPAM

extension WeaveBench {
    static let clients = 8

    /// Addresses from a daemon that is alone, each durable before it is told, through eight clients at once.
    static func allocation(_ name: String) -> Benchmark {
        Benchmark(name: name) { options in
            let columns = [(name, "1/s"), (name + ".p50", "ms"), (name + ".p99", "ms")]
            return try Row.alternating(columns, options) { kind in
                let cluster = try LabCluster()
                defer { cluster.takeDown() }
                let host = try cluster.addHost(kind)
                host.controlSocket = host.directory.appendingPathComponent("s").path
                try host.launch(flags: ["--ipalloc-range=10.32.0.0/12", "--ipalloc-init=seed=\(host.peerName)"])
                return try load(host, seconds: options.seconds)
            }
        }
    }

    /// Rate, median and 99th percentile.
    private static func load(_ host: LabHost, seconds: Int) throws -> [Double] {
        let path = host.controlSocket ?? ""
        _ = try ControlClient(path: path).request("POST", "/ip/first")
        let times = Mutex<[Double]>([])
        let failures = Mutex<[String]>([])
        let end = Date().addingTimeInterval(Double(seconds))
        let group = DispatchGroup()
        // Threads, not a parallel loop: that one would run as many clients at a time as there are cores.
        for client in 0..<clients {
            group.enter()
            Thread.detachNewThread {
                defer { group.leave() }
                var mine: [Double] = []
                do {
                    let connection = try ControlClient(path: path)
                    while Date() < end {
                        let start = DispatchTime.now().uptimeNanoseconds
                        let answer = try connection.request("POST", "/ip/c\(client)-\(mine.count)")
                        guard answer.status == 200 else { throw LabShell.Failure(description: "\(answer)") }
                        mine.append(Double(DispatchTime.now().uptimeNanoseconds - start) / 1e6)
                    }
                } catch {
                    failures.withLock { $0.append("\(error)") }
                }
                times.withLock { $0 += mine }
            }
        }
        group.wait()
        if let failure = failures.withLock({ $0.first }) {
            throw LabShell.Failure(description: "\(host.kind): \(failure)")
        }
        let sorted = times.withLock { $0.sorted() }
        return [Double(sorted.count) / Double(seconds), sorted[sorted.count / 2], sorted[sorted.count * 99 / 100]]
    }

    /// A ring of a thousand peers takes in one that differs in every entry.
    static func ringMerge(_ name: String) -> Benchmark {
        Benchmark(name: name) { options in
            let peers = (1...1000).map { PeerName(truncating: 0x7a00_0000_0000 + UInt64($0)) }
            guard let universe = IPv4CIDR("10.32.0.0/12") else { return [] }
            var ring = try Ring(universe: universe.range, peer: peers[0])
            try ring.divide(among: peers)
            // Every other peer has given something out since.
            let changed = ring.entries.map { entry in
                entry.peer == ring.peer
                    ? entry
                    : RingEntry(token: entry.token, peer: entry.peer, version: entry.version + 1, free: entry.free - 1)
            }
            let newer = Ring(universe: ring.universe, peer: peers[1], entries: changed, seeds: ring.seeds)
            var times: [Double] = []
            for _ in 0..<(options.rounds * 200) {
                var target = ring
                let start = DispatchTime.now().uptimeNanoseconds
                _ = try target.merge(newer) { _ in false }
                times.append(Double(DispatchTime.now().uptimeNanoseconds - start) / 1e6)
            }
            return [Row(name: name, unit: "ms", ours: Row.median(times), reference: nil)]
        }
    }
}
