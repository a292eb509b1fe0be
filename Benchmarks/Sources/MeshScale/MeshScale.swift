import Foundation
import Synchronization
import WeaveCore
import WeaveCrypto
import WeaveMesh

/// Real routers over loopback TCP in one process: how long until each is connected to each, how long one broadcast takes
/// to reach all, and what they cost at rest. Prints one JSON object.
///
///     MeshScale PEERS [--password] [--idle SECONDS]
@main
struct MeshScale {
    static let firstPort = 21000

    static func main() async throws {
        var words = Array(CommandLine.arguments.dropFirst())
        let encrypted = words.contains("--password")
        words.removeAll { $0 == "--password" }
        var idle = 30
        if let place = words.firstIndex(of: "--idle"), place + 1 < words.count {
            idle = Int(words[place + 1]) ?? idle
            words.removeSubrange(place...place + 1)
        }
        guard words.count == 1, let count = Int(words[0]), (2...1000).contains(count) else {
            FileHandle.standardError.write(Data("usage: MeshScale PEERS [--password] [--idle SECONDS]\n".utf8))
            exit(2)
        }
        raiseFileLimit()
        print(try await measure(count, password: encrypted ? "scale" : nil, idle: idle))
    }

    static func measure(_ count: Int, password: String?, idle: Int) async throws -> String {
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
        let runs = routers.map { router in Task { try await router.run() } }
        let start = Clock.now
        let cpu = Clock.cpu
        // Discovery takes all peers to listen on the port it listens on itself; here each has its own, so all are told.
        for (index, router) in routers.enumerated().dropFirst() {
            _ = await router.connect(to: (0..<index).map { "127.0.0.1:\(firstPort + $0)" })
        }
        while !(await isFull(routers)) {
            guard Clock.now - start < 600 else { throw Late() }
            try await Task.sleep(for: .milliseconds(20))
        }
        let seconds = Clock.now - start
        let connected = Clock.cpu - cpu
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
            "cpu_seconds": \(shown(connected)), "rss_mb": \(shown(memory)), "broadcast_ms": \(shown(broadcast)), \
            "idle_cpu_percent": \(shown(share))}
            """
    }

    /// Whether each is connected to each, and all know it.
    static func isFull(_ routers: [MeshRouter]) async -> Bool {
        for router in routers {
            let direct = await router.routes().unicast.filter { $0.key == $0.value }
            guard direct.count >= routers.count - 1 else { return false }
        }
        return true
    }

    static func shown(_ value: Double) -> String { String(format: "%.2f", value) }

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
    static var now: Double { Double(DispatchTime.now().uptimeNanoseconds) / 1e9 }

    /// Seconds of user and system time.
    static var cpu: Double {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
        return seconds(usage.ru_utime) + seconds(usage.ru_stime)
    }

    static var residentMegabytes: Double {
        let statm = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
        let pages = statm.split(separator: " ").dropFirst().first.flatMap { Double($0) } ?? 0
        return pages * Double(sysconf(Int32(_SC_PAGESIZE))) / 1e6
    }
}
