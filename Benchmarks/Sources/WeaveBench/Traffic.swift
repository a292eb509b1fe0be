import Foundation
import NetLab

/// Traffic from one network namespace to an address of another.
struct Traffic {
    let cluster: LabCluster
    let client: String
    let server: String
    let address: String

    /// Starts the other end, which stays until the cluster goes.
    init(_ cluster: LabCluster, from client: String, to server: String, at address: String) throws {
        self.cluster = cluster
        self.client = client
        self.server = server
        self.address = address
        let task = try cluster.start(Self.inside(server, ["iperf3", "-s"]))
        let listens = try LabShell.poll(seconds: 5) {
            try LabShell.run(Self.inside(server, ["ss", "-ltn"])).contains(":5201")
        }
        guard listens else { throw LabShell.Failure(description: "iperf3 does not listen: \(task.output)") }
    }

    static func inside(_ namespace: String, _ words: [String]) -> [String] {
        ["ip", "netns", "exec", namespace] + words
    }

    // MARK: - TCP

    /// What a TCP run moved.
    struct Moved {
        var megabitsPerSecond: Double
        var bytes: Double
    }

    /// What the other end received; `during` is called several times a second while it runs.
    func tcp(seconds: Int, flows: Int = 1, during: () throws -> Void = {}) throws -> Moved {
        let received = try iperf(["-P", String(flows)], seconds: seconds, sum: "sum_received", during: during)
        return try Moved(
            megabitsPerSecond: number(received, "bits_per_second") / 1e6, bytes: number(received, "bytes"))
    }

    // MARK: - UDP

    /// Datagrams of `length` bytes that the program at the other end read in a second, when `megabits` a second are sent
    /// or as many as one process can.
    func udpReceived(length: Int, megabits: Int, seconds: Int) throws -> Double {
        let before = try overflows()
        let flags = ["-u", "-l", String(length), "-b", "\(megabits)M", "-w", String(try bufferLength())]
        let sum = try iperf(flags, seconds: seconds, sum: "sum")
        // The sum counts what was sent and, by the other end's reckoning, what of it was missing.
        let (sent, lost) = try (number(sum, "packets"), number(sum, "lost_packets"))
        sayOverflows(try overflows() - before, of: sent)
        return try (sent - lost) / number(sum, "seconds")
    }

    /// A buffer that outlasts the moments in which the receiving program waits for a processor, as far as the system
    /// allows it.
    func bufferLength() throws -> Int {
        try ["rmem_max", "wmem_max"].reduce(2 << 20) { least, name in
            let text = try String(contentsOfFile: "/proc/sys/net/core/\(name)", encoding: .utf8)
            return min(least, Int(text.trimmingCharacters(in: .whitespacesAndNewlines)) ?? least)
        }
    }

    /// Datagrams that came to the other end and found a full socket so far.
    func overflows() throws -> Double {
        let lines = try LabShell.run(Self.inside(server, ["cat", "/proc/net/snmp"])).split(separator: "\n")
            .filter { $0.hasPrefix("Udp:") }.map { $0.split(separator: " ") }
        guard lines.count == 2, let index = lines[0].firstIndex(of: "RcvbufErrors"), index < lines[1].count else {
            throw LabShell.Failure(description: "no UDP counters in \(server)")
        }
        return Double(lines[1][index]) ?? 0
    }

    func sayOverflows(_ overflown: Double, of sent: Double) {
        guard overflown * 20 > sent else { return }
        WeaveBench.say("of \(Int(sent)) datagrams \(Int(overflown)) arrived at a full socket, which dropped them")
    }

    private func iperf(_ flags: [String], seconds: Int, sum: String, during: () throws -> Void = {}) throws
        -> [String: Any]
    {
        let words = ["timeout", String(seconds + 20), "iperf3", "-c", address, "-t", String(seconds), "-J"] + flags
        let task = try cluster.start(Self.inside(client, words))
        let ended = try LabShell.poll(seconds: Double(seconds + 25), every: 0.2) {
            if task.isRunning { try during() }
            return !task.isRunning
        }
        guard ended, let report = try? JSONSerialization.jsonObject(with: Data(task.output.utf8)) as? [String: Any],
            let end = report["end"] as? [String: Any], let result = end[sum] as? [String: Any]
        else { throw LabShell.Failure(description: "iperf3 gave no result: \(task.output.prefix(500))") }
        return result
    }

    private func number(_ object: [String: Any], _ key: String) throws -> Double {
        guard let value = object[key] as? Double, value > 0 || key == "lost_packets" else {
            throw LabShell.Failure(description: "iperf3 reported no \(key)")
        }
        return value
    }

    // MARK: - Echoes

    /// Round trips in milliseconds, sorted, of `count` echoes or those of the first `seconds`. Of those that came back: it
    /// is said how many did not.
    func echoes(_ count: Int, every interval: Double, seconds: Int) throws -> [Double] {
        let words = ["ping", "-c", String(count), "-i", String(interval), "-w", String(seconds), address]
        let lines = try LabShell.outcome(Self.inside(client, words), seconds: seconds + 10).output.split(
            separator: "\n")
        let times = lines.compactMap { line -> Double? in
            guard !line.contains("DUP"), let start = line.range(of: "time=") else { return nil }
            return Double(line[start.upperBound...].prefix { $0.isNumber || $0 == "." })
        }
        let summary = lines.first { $0.contains("packets transmitted") } ?? "ping printed no summary"
        guard let sent = Int(summary.prefix { $0.isNumber }), times.count * 10 >= sent * 9, !times.isEmpty else {
            throw LabShell.Failure(description: "too few echoes came back: \(summary)")
        }
        // The last ones are on their way when the time is over.
        if times.count * 100 < sent * 99 { WeaveBench.say("echoes are missing: \(summary)") }
        return times.sorted()
    }

    /// Round trips in milliseconds, sorted, while a TCP flow runs.
    func echoesUnderLoad(seconds: Int) throws -> [Double] {
        let limit = seconds + 3
        let flow = try cluster.start(
            Self.inside(client, ["timeout", String(limit + 20), "iperf3", "-c", address, "-t", String(limit)]))
        // By then the flow has its full rate.
        Thread.sleep(forTimeInterval: 1)
        let times = Result { try echoes(seconds * 100, every: 0.01, seconds: seconds) }
        guard flow.isRunning else { throw LabShell.Failure(description: "the flow ended too early: \(flow.output)") }
        guard let end = flow.outcome(within: Double(limit + 21)), end.status == 0 else {
            throw LabShell.Failure(description: "the flow failed: \(flow.output)")
        }
        return try times.get()
    }
}
