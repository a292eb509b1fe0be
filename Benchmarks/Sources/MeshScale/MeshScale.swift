import Glibc
import Synchronization
import WeaveCore
import WeaveCrypto
import WeaveMesh

/// Real routers over loopback TCP in one process: how long until each is connected to each, how long one broadcast takes
/// to reach all, and what they cost at rest. Prints one JSON object.
///
///     MeshScale PEERS [--password] [--idle SECONDS] [--rush] [--trace]
///
/// With `--rush` nobody waits until the others listen, so that many are refused at first and try again seconds later.
///
/// Nothing here uses Foundation, whose libraries would be a good part of what is measured.
@main
struct MeshScale {
    static let firstPort = 21000

    static func main() async throws {
        var words = Array(CommandLine.arguments.dropFirst())
        func takeFlag(_ flag: String) -> Bool {
            defer { words.removeAll { $0 == flag } }
            return words.contains(flag)
        }
        let encrypted = takeFlag("--password")
        let traces = takeFlag("--trace")
        let rushes = takeFlag("--rush")
        var idle = 30
        if let place = words.firstIndex(of: "--idle"), place + 1 < words.count {
            idle = Int(words[place + 1]) ?? idle
            words.removeSubrange(place...place + 1)
        }
        guard words.count == 1, let count = Int(words[0]), (2...1000).contains(count) else {
            report("usage: MeshScale PEERS [--password] [--idle SECONDS] [--rush] [--trace]")
            exit(2)
        }
        raiseFileLimit()
        print(
            try await measure(
                count, password: encrypted ? "scale" : nil, idle: idle, rushes: rushes, traces: traces))
    }

    static func measure(
        _ count: Int, password: String?, idle: Int, rushes: Bool, traces: Bool
    ) async throws -> String {
        let heard = Listener()
        var routers: [MeshRouter] = []
        var channels: [any GossipChannel] = []
        for index in 0..<count {
            let name = PeerName(truncating: 0x7a00_0000_0000 + UInt64(index + 1))
            var configuration = MeshConfiguration(name: name, nickname: "peer\(index)")
            configuration.host = .v4(IPv4Address(rawValue: 0x7f00_0001))
            configuration.port = UInt16(firstPort + index)
            configuration.connectionLimit = 0
            configuration.discovery = false
            configuration.password = password.flatMap { Password($0) }
            let router = MeshRouter(configuration: configuration)
            channels.append(try await router.register("scale", heard))
            routers.append(router)
        }
        let start = Clock.now
        let cpu = Clock.cpu
        let runs = routers.map { router in Task { try await router.run() } }
        // Whoever is refused tries again seconds later, and that is not what is to be measured.
        for router in routers where !rushes {
            while !(await router.isListening) {
                guard Clock.now - start < 10 else { throw Late() }
                try await Task.sleep(for: .milliseconds(1))
            }
        }
        // Discovery takes all peers to listen on the port it listens on itself; here each has its own, so all are told:
        // all at once, for a router that is told waits behind what those before it made their event loop do.
        await withTaskGroup(of: Void.self) { group in
            for (index, router) in routers.enumerated().dropFirst() {
                group.addTask { _ = await router.connect(to: (0..<index).map { "127.0.0.1:\(firstPort + $0)" }) }
            }
        }
        var traced = start
        while !(await isFull(routers)) {
            guard Clock.now - start < 600 else { throw Late() }
            if traces, Clock.now - traced >= 0.25 {
                traced = Clock.now
                report(await progress(routers, seconds: traced - start, cpu: Clock.cpu - cpu))
            }
            try await Task.sleep(for: .milliseconds(20))
        }
        let seconds = Clock.now - start
        let connected = Clock.cpu - cpu
        if traces {
            report(await progress(routers, seconds: seconds, cpu: connected))
            var ended = 0
            for router in routers { ended += await router.status().terminationCount }
            report("\(ended) ends of connections that failed or were one too many")
        }
        let sent = Clock.now
        await channels[0].broadcast(OpaqueGossip([1]))
        while heard.count < count - 1, Clock.now - sent < 60 { try await Task.sleep(for: .milliseconds(1)) }
        let broadcast = (Clock.now - sent) * 1000
        // What is left of the start is not the cost of rest.
        try await Task.sleep(for: .seconds(5))
        let (rest, restCPU) = (Clock.now, Clock.cpu)
        try await Task.sleep(for: .seconds(idle))
        let share = (Clock.cpu - restCPU) / (Clock.now - rest) * 100
        let memory = Clock.residentMegabytes
        for router in routers { await router.stop() }
        for run in runs { _ = await run.result }
        return """
            {"peers": \(count), "encrypted": \(password != nil), "seconds": \(shown(seconds)), \
            "cpu_seconds": \(shown(connected)), "rss_mb": \(shown(memory)), \
            "peak_mb": \(shown(Clock.peakMegabytes)), "broadcast_ms": \(shown(broadcast)), \
            "idle_cpu_percent": \(shown(share))}
            """
    }

    /// Whether each is connected to each, and all know it.
    static func isFull(_ routers: [MeshRouter]) async -> Bool {
        for router in routers {
            guard await directs(router) >= routers.count - 1 else { return false }
        }
        return true
    }

    static func directs(_ router: MeshRouter) async -> Int {
        await router.routes().unicast.reduce(0) { $0 + ($1.key == $1.value ? 1 : 0) }
    }

    /// How far the connecting has come, and by how much work.
    static func progress(_ routers: [MeshRouter], seconds: Double, cpu: Double) async -> String {
        var direct = 0
        var live = 0
        var (improved, stale, asked, calculations, messages, bytes) = (0, 0, 0, 0, 0, 0)
        for router in routers {
            direct += await directs(router)
            live += await router.status().connections.count { $0.state == .established }
            let statistics = await router.statistics()
            improved += statistics.improvedRecords
            stale += statistics.staleRecords
            asked += statistics.recordsAsked
            calculations += statistics.routeCalculations
            messages += statistics.sent.total.messages
            bytes += statistics.sent.total.bytes
        }
        return "\(shown(seconds)) s, \(shown(cpu)) CPU s, \(shown(Clock.residentMegabytes)) MB: "
            + "\(live / 2) connections, \(direct) links known, "
            + "\(messages) messages of \(shown(Double(bytes) / 1e6)) MB, "
            + "records \(improved) new, \(stale) old, \(asked) asked for; \(calculations) route calculations"
    }

    /// Two decimals.
    static func shown(_ value: Double) -> String {
        let hundredths = Int((max(0, value) * 100).rounded())
        return "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100)"
    }

    static func report(_ line: String) {
        let bytes = Array((line + "\n").utf8)
        _ = bytes.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }

    /// Two descriptors for each connection.
    static func raiseFileLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    struct Late: Error {}
}

/// Counts broadcasts that arrive.
final class Listener: GossipHandler {
    private let arrivals = Mutex(0)

    var count: Int { arrivals.withLock { $0 } }

    func onUnicast(from source: PeerName, _ payload: [UInt8]) async throws {}

    func onBroadcast(from origin: PeerName, _ payload: [UInt8]) async throws -> (any GossipData)? {
        arrivals.withLock { $0 += 1 }
        return OpaqueGossip(payload)
    }

    func onGossip(_ payload: [UInt8]) async throws -> (any GossipData)? { nil }

    func completeState() async -> (any GossipData)? { nil }
}

/// Time and memory of this process.
enum Clock {
    /// Seconds since some moment.
    static var now: Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// Seconds of user and system time.
    static var cpu: Double {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
        return seconds(usage.ru_utime) + seconds(usage.ru_stime)
    }

    /// The most memory that was ever resident.
    static var peakMegabytes: Double {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        return Double(usage.ru_maxrss) * 1024 / 1e6
    }

    static var residentMegabytes: Double {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        guard fgets(&line, Int32(line.count), file) != nil else { return 0 }
        let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let pages = text.split(separator: " ").dropFirst().first.flatMap { Double($0) } ?? 0
        return pages * Double(sysconf(Int32(_SC_PAGESIZE))) / 1e6
    }
}
