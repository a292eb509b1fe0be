public import Foundation

/// A host of a `LabCluster`: a network namespace with a router process of its own.
public final class LabHost {
    public let number: Int
    public let kind: LabRouterKind
    public let namespace: String
    /// Addresses on the underlay, in the order of links.
    public internal(set) var addresses: [String] = []
    public let directory: URL
    /// `7a:00:00:00:00:<number>` unless `launch` was given flags that say otherwise.
    public var peerName: String { "7a:00:00:00:00:" + (number < 16 ? "0" : "") + String(number, radix: 16) }
    public var nickname: String { "host\(number)" }
    /// A Unix socket to put the control interface on, instead of TCP inside the namespace; set before the launch.
    public var controlSocket: String?
    public private(set) var process: Process?
    private unowned let cluster: LabCluster
    private var lastLaunch: (peers: [String], flags: [String], password: String?) = ([], [], nil)

    init(cluster: LabCluster, number: Int, kind: LabRouterKind, namespace: String) throws {
        self.cluster = cluster
        self.number = number
        self.kind = kind
        self.namespace = namespace
        directory = cluster.directory.appendingPathComponent("host\(number)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    }

    private var logFile: URL { directory.appendingPathComponent("log") }

    /// Everything the router has logged, over all its lives.
    public var log: String { (try? String(contentsOf: logFile, encoding: .utf8)) ?? "" }

    /// Starts the router and waits until its control interface answers.
    public func launch(peers: [String] = [], flags: [String] = [], password: String? = nil) throws {
        guard let binary = kind.binary else {
            throw LabShell.Failure(description: "no \(kind) binary; build the package or set REFERENCE_WEAVER")
        }
        lastLaunch = (peers, flags, password)
        var words = ["ip", "netns", "exec", namespace]
        // The reference reads the namespace of process 1 at start, so it gets a process namespace of its own.
        if kind == .reference { words += ["unshare", "-p", "-f", "--kill-child", "--mount-proc"] }
        words += [
            binary, "--nickname=\(nickname)", "--http-addr=\(controlSocket ?? "127.0.0.1:6784")",
            "--db-prefix=\(directory.path)/w",
        ]
        if !flags.contains(where: { $0.hasPrefix("--name") }) { words.append("--name=\(peerName)") }
        if kind == .reference {
            words += ["--docker-api=", "--no-fastdp"]
            if !flags.contains(where: { $0.hasPrefix("--no-dns") || $0.hasPrefix("--dns") }) {
                words.append("--no-dns")
            }
            try? FileManager.default.removeItem(at: directory.appendingPathComponent("restart.sentinel"))
        }
        words += flags + peers
        let environment = password.map { ["WEAVE_PASSWORD": $0] } ?? [:]
        process = try cluster.spawn(words, log: logFile, directory: directory, environment: environment)
        let ready = try LabShell.poll(seconds: 20) {
            guard process?.isRunning == true else {
                throw LabShell.Failure(description: "\(kind) on \(namespace) ended at start:\n\(log.suffix(3000))")
            }
            return try http("/status").status == 0
        }
        guard ready else {
            throw LabShell.Failure(description: "\(kind) on \(namespace) does not answer:\n\(log.suffix(3000))")
        }
    }

    /// Starts the router again the way it was last started.
    public func relaunch() throws {
        try launch(peers: lastLaunch.peers, flags: lastLaunch.flags, password: lastLaunch.password)
    }

    /// Ends the router at once, as a crash would.
    public func kill() { _ = end(SIGKILL) }

    /// Ends the router the orderly way; returns its exit status, nil when it did not run.
    @discardableResult
    public func stop(_ signal: Int32 = SIGTERM) -> Int32? { end(signal) }

    private func end(_ signal: Int32) -> Int32? {
        guard let process else { return nil }
        if process.isRunning {
            Foundation.kill(routerProcessIdentifier ?? process.processIdentifier, signal)
        }
        process.waitUntilExit()
        self.process = nil
        return process.terminationStatus
    }

    /// The process that routes; nil when none runs.
    public var routerProcessIdentifier: Int32? {
        guard let process, process.isRunning else { return nil }
        // `ip netns exec` becomes the program; `unshare` has it as its only child.
        guard kind == .reference else { return process.processIdentifier }
        let children = (try? LabShell.outcome(["pgrep", "-P", String(process.processIdentifier)]).output) ?? ""
        return children.split(separator: "\n").first.flatMap { Int32($0) }
    }

    /// Runs a program in the host's namespace.
    @discardableResult
    public func run(_ words: String..., seconds: Int = 30) throws -> String {
        try LabShell.run(["ip", "netns", "exec", namespace] + words, seconds: seconds)
    }

    /// Starts a program in the host's namespace, beside the test.
    public func start(_ words: String...) throws -> LabTask {
        try cluster.start(["ip", "netns", "exec", namespace] + words)
    }

    /// Adds an nft ruleset in the host's namespace.
    public func addRules(_ ruleset: String) throws {
        let file = directory.appendingPathComponent("rules-\(UInt32.random(in: 0 ... .max))")
        try ruleset.write(to: file, atomically: true, encoding: .utf8)
        try run("nft", "-f", file.path)
    }

    /// A request to the control interface; status 0 is success, the output is the body.
    public func http(_ path: String, method: String = "GET", form: [String] = [], headers: [String] = []) throws
        -> LabShell.Outcome
    {
        var words = ["ip", "netns", "exec", namespace, "curl", "-s", "--fail-with-body", "-m", "10", "-X", method]
        if let controlSocket { words += ["--unix-socket", controlSocket] }
        for header in headers { words += ["-H", header] }
        for field in form { words += ["--data-urlencode", field] }
        return try LabShell.outcome(words + ["http://127.0.0.1:6784" + path])
    }

    /// The body of a status page such as `/status/connections`.
    public func status(_ page: String = "") throws -> String {
        try http("/status" + (page.isEmpty ? "" : "/" + page)).output
    }

    /// The lines of `status connections`.
    public func connections() throws -> [String] {
        try status("connections").split(separator: "\n").map(String.init)
    }

    /// Whether there are `count` established connections within `seconds`.
    public func isConnected(_ count: Int = 1, within seconds: Double = 20) throws -> Bool {
        try LabShell.poll(seconds: seconds) { try connections().filter { $0.contains(" established ") }.count == count }
    }

    /// The `Router` object of `/report`.
    public func report() throws -> [String: Any] {
        let body = try http("/report", headers: ["Accept: application/json"]).output
        let object = try JSONSerialization.jsonObject(with: Data(body.utf8)) as? [String: Any]
        return object?["Router"] as? [String: Any] ?? [:]
    }

    /// Every peer's view of its connections as this host knows it: sorted lines `a -> b established`.
    public func topology() throws -> [String] {
        let peers = try report()["Peers"] as? [[String: Any]] ?? []
        return peers.flatMap { peer -> [String] in
            let name = peer["Name"] as? String ?? "?"
            let connections = peer["Connections"] as? [[String: Any]] ?? []
            return connections.map {
                "\(name) -> \($0["Name"] as? String ?? "?") \($0["Established"] as? Bool == true ? "established" : "pending")"
            }
        }.sorted()
    }

    /// Adds targets.
    public func connect(_ peers: [String], replace: Bool = false) throws -> LabShell.Outcome {
        try http("/connect", method: "POST", form: peers.map { "peer=\($0)" } + (replace ? ["replace=true"] : []))
    }

    /// Removes targets.
    public func forget(_ peers: [String]) throws -> LabShell.Outcome {
        try http("/forget", method: "POST", form: peers.map { "peer=\($0)" })
    }
}
