import Foundation

/// Which router runs on both hosts of a pair.
enum Router {
    case ours(weaver: String)
    case reference(weaver: String)

    var label: String {
        switch self {
        case .ours: "ours"
        case .reference: "reference"
        }
    }
}

/// Two hosts joined by a veth pair, each with a router and one container, all in namespaces of this process's own.
final class Pair {
    private let router: Router
    private let tag: String
    private let directory: URL
    private var routers: [Process] = []

    func host(_ index: Int) -> String { "\(tag)h\(index)" }
    func container(_ index: Int) -> String { "\(tag)c\(index)" }
    static func address(_ index: Int) -> String { "10.40.0.\(index)" }

    init(_ router: Router, password: String?) throws {
        self.router = router
        tag = "wb\(getpid())\(router.label.prefix(1))"
        directory = FileManager.default.temporaryDirectory.appendingPathComponent("weave-bench-\(tag)")
        do {
            try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
            try wire()
            for index in 1...2 { try launch(index, password: password) }
            for index in 1...2 { try attach(index) }
            try waitForTraffic()
        } catch {
            takeDown()
            throw error
        }
    }

    /// Removes everything; safe to call twice.
    func takeDown() {
        for process in routers where process.isRunning { process.terminate() }
        for process in routers { process.waitUntilExit() }
        routers = []
        for index in 1...2 {
            for name in [host(index), container(index)] { _ = try? Shell.run("ip", "netns", "delete", name) }
        }
        try? FileManager.default.removeItem(at: directory)
    }

    private func wire() throws {
        for index in 1...2 {
            for name in [host(index), container(index)] {
                try Shell.run("ip", "netns", "add", name)
                try Shell.run("ip", "-n", name, "link", "set", "lo", "up")
            }
        }
        try Shell.run(
            "ip", "link", "add", "uplink", "netns", host(1), "type", "veth", "peer", "name", "uplink", "netns", host(2))
        for index in 1...2 {
            try Shell.run("ip", "-n", host(index), "address", "add", "10.99.0.\(index)/24", "dev", "uplink")
            try Shell.run("ip", "-n", host(index), "link", "set", "uplink", "up")
        }
    }

    private func launch(_ index: Int, password: String?) throws {
        var words = ["ip", "netns", "exec", host(index)]
        let state = directory.appendingPathComponent("host\(index)")
        try FileManager.default.createDirectory(at: state, withIntermediateDirectories: true)
        let common = [
            "--name=7a:00:00:00:00:0\(index)", "--nickname=host\(index)", "--db-prefix=\(state.path)/w",
            "--http-addr=127.0.0.1:6784",
        ]
        switch router {
        case .ours(let weaver):
            words += [weaver] + common
        case .reference(let weaver):
            words += ["unshare", "-p", "-f", "--kill-child", "--mount-proc", weaver] + common
            words += ["--docker-api=", "--no-fastdp", "--no-dns"]
        }
        if index == 2 { words.append("10.99.0.1") }
        var environment: [String: String] = [:]
        if let password { environment["WEAVE_PASSWORD"] = password }
        routers.append(
            try Shell.start(
                words, log: directory.appendingPathComponent("log\(index)"), directory: state, environment: environment)
        )
        try poll("router \(index) answers", seconds: 30) {
            try Shell.run("ip", "netns", "exec", host(index), "curl", "-sf", "http://127.0.0.1:6784/status")
        }
    }

    private func attach(_ index: Int) throws {
        let address = "\(Pair.address(index))/24"
        switch router {
        case .ours:
            try Shell.run(
                "ip", "netns", "exec", host(index), "curl", "-sSf", "-d", "container=\(container(index))", "-d",
                "address=\(address)", "http://127.0.0.1:6784/attach")
        case .reference:
            try Shell.run(
                "ip", "link", "add", "vethwepl\(index)", "netns", host(index), "type", "veth", "peer", "name", "ethwe",
                "netns", container(index))
            try Shell.run(
                "ip", "-n", host(index), "link", "set", "vethwepl\(index)", "mtu", "65535", "master", "weave", "up")
            try Shell.run("ip", "-n", container(index), "link", "set", "ethwe", "mtu", "65535", "up")
            try Shell.run("ip", "-n", container(index), "address", "add", address, "dev", "ethwe")
            try Shell.run("ip", "netns", "exec", container(index), "ethtool", "-K", "ethwe", "tx", "off")
        }
    }

    private func waitForTraffic() throws {
        try poll("containers reach each other", seconds: 30) {
            try Shell.run("ip", "netns", "exec", container(1), "ping", "-c", "1", "-W", "1", Pair.address(2))
        }
        // The path MTU search begins when the link is up; measure what is reached after it.
        Thread.sleep(forTimeInterval: 1)
    }

    private func poll(_ what: String, seconds: Double, _ attempt: () throws -> Void) throws {
        let deadline = Date().addingTimeInterval(seconds)
        while true {
            do {
                return try attempt()
            } catch {
                guard Date() < deadline else {
                    let log = (try? String(contentsOf: directory.appendingPathComponent("log1"), encoding: .utf8)) ?? ""
                    throw Shell.Failure(
                        description:
                            "\(router.label): not so within \(Int(seconds)) s: \(what): \(error)\n\(log.suffix(2000))")
                }
                Thread.sleep(forTimeInterval: 0.2)
            }
        }
    }

    /// One TCP flow from the first container to the second for `seconds`; Mbit/s received.
    func tcpThroughput(seconds: Int) throws -> Double {
        let server = try Shell.start(
            ["ip", "netns", "exec", container(2), "iperf3", "-s", "-1"], log: directory.appendingPathComponent("iperf"),
            directory: directory)
        defer {
            if server.isRunning { server.terminate() }
            server.waitUntilExit()
        }
        Thread.sleep(forTimeInterval: 0.3)
        let json = try Shell.run(
            ["ip", "netns", "exec", container(1), "iperf3", "-c", Pair.address(2), "-t", String(seconds), "-J"],
            seconds: seconds + 20)
        guard let report = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any],
            let end = report["end"] as? [String: Any], let sum = end["sum_received"] as? [String: Any],
            let bits = sum["bits_per_second"] as? Double
        else { throw Shell.Failure(description: "iperf3 gave no result: \(json.prefix(500))") }
        return bits / 1e6
    }
}
