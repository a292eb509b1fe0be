import Foundation

/// A container of a `LabCluster`: a network namespace that hosts attach to their bridge.
public final class LabContainer {
    public let namespace: String
    public private(set) var address: String?
    private unowned let cluster: LabCluster

    init(cluster: LabCluster, namespace: String) {
        self.cluster = cluster
        self.namespace = namespace
    }

    /// Attaches the container to `host` with `address` in a /24, the way that host's router offers.
    public func attach(to host: LabHost, _ address: String, mac: String? = nil) throws {
        self.address = address
        switch host.kind {
        case .weaver:
            let outcome = try host.http(
                "/attach", method: "POST", form: ["container=\(namespace)", "address=\(address)/24"])
            guard outcome.status == 0 else {
                throw LabShell.Failure(description: "attach \(namespace) to \(host.namespace): \(outcome.output)")
            }
        case .reference:
            // What the reference's own attach leaves: a veth pair whose inner end completes checksums.
            let device = "vethwepl" + String(namespace.suffix(4))
            try LabShell.run(
                "ip", "link", "add", device, "netns", host.namespace, "type", "veth", "peer", "name", "ethwe", "netns",
                namespace)
            try LabShell.run("ip", "-n", host.namespace, "link", "set", device, "mtu", "65535", "master", "weave", "up")
            try LabShell.run("ip", "-n", namespace, "link", "set", "ethwe", "mtu", "65535", "up")
            try LabShell.run("ip", "-n", namespace, "address", "add", "\(address)/24", "dev", "ethwe")
            try LabShell.run("ip", "netns", "exec", namespace, "ethtool", "-K", "ethwe", "tx", "off")
        }
        if let mac { try LabShell.run("ip", "-n", namespace, "link", "set", "ethwe", "address", mac) }
    }

    /// Attaches the container to a host of ours with the addresses that `words` ask for, one of the default subnet
    /// without any; returns the answer without its newline.
    @discardableResult
    public func attachAnywhere(to host: LabHost, _ words: String...) throws -> String {
        let fields = ["container=\(namespace)"] + words.map { "address=\($0)" }
        let outcome = try host.http("/attach", method: "POST", form: fields)
        guard outcome.status == 0 else {
            throw LabShell.Failure(description: "attach \(namespace) to \(host.namespace): \(outcome.output)")
        }
        address = outcome.output.split(whereSeparator: \.isWhitespace).first.map(String.init)
        return outcome.output.trimmingCharacters(in: .newlines)
    }

    /// Detaches the container from `host`.
    public func detach(from host: LabHost) throws {
        switch host.kind {
        case .weaver:
            let outcome = try host.http(
                "/detach", method: "POST", form: ["container=\(namespace)", "address=\(address ?? "")/24"])
            guard outcome.status == 0 else {
                throw LabShell.Failure(description: "detach \(namespace) from \(host.namespace): \(outcome.output)")
            }
        case .reference:
            try LabShell.run("ip", "-n", namespace, "link", "delete", "ethwe")
        }
    }

    /// Runs a program in the container.
    @discardableResult
    public func run(_ words: String..., seconds: Int = 30) throws -> String {
        try LabShell.run(["ip", "netns", "exec", namespace] + words, seconds: seconds)
    }

    /// Whether one echo request of `size` payload bytes is answered.
    public func pings(_ address: String, size: Int = 56, dontFragment: Bool = false, timeout: Int = 1) throws -> Bool {
        var words = ["ip", "netns", "exec", namespace, "ping", "-c", "1", "-W", String(timeout), "-s", String(size)]
        if dontFragment { words += ["-M", "do"] }
        return try LabShell.outcome(words + [address]).status == 0
    }

    /// Whether `address` answers within `seconds`.
    public func reaches(_ address: String, within seconds: Double = 15, size: Int = 56) throws -> Bool {
        try LabShell.poll(seconds: seconds) { try pings(address, size: size) }
    }

    /// How long until `address` answers, in seconds; nil when it does not within `seconds`.
    public func timeToReach(_ address: String, within seconds: Double) throws -> Double? {
        let start = Date()
        let found = try LabShell.poll(seconds: seconds, every: 0.02) {
            try LabShell.outcome(
                ["ip", "netns", "exec", namespace, "ping", "-c", "1", "-W", "0.2", address]
            ).status == 0
        }
        return found ? Date().timeIntervalSince(start) : nil
    }

    /// Starts servers in the container that echo what they get, on UDP and TCP port 7777, until the cluster goes.
    public func startEchoServers() throws {
        let script = """
            import socket, threading
            u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('', 7777))
            t = socket.socket(); t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); t.bind(('', 7777)); t.listen(8)
            def stream(c):
                while True:
                    d = c.recv(65536)
                    if not d: break
                    c.sendall(d)
                c.close()
            def accept():
                while True: threading.Thread(target=stream, args=(t.accept()[0],), daemon=True).start()
            threading.Thread(target=accept, daemon=True).start()
            while True:
                d, a = u.recvfrom(65535); u.sendto(d, a)
            """
        try cluster.spawn(
            ["ip", "netns", "exec", namespace, "python3", "-c", script],
            log: cluster.directory.appendingPathComponent("echo-\(namespace)"), directory: cluster.directory)
        let listening = try LabShell.poll(seconds: 10) { try run("ss", "-ltn").contains(":7777") }
        guard listening else { throw LabShell.Failure(description: "the echo servers in \(namespace) did not start") }
    }

    /// Sends one datagram of each size and compares its echo; returns the sizes that did not come back within
    /// three tries.
    public func udpEchoFailures(to address: String, sizes: [Int]) throws -> [Int] {
        let script = """
            import socket, sys, os
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1.5); bad = []
            for n in map(int, sys.argv[2:]):
                d = os.urandom(n); ok = False
                for _ in range(3):
                    try:
                        s.sendto(d, (sys.argv[1], 7777))
                        while not ok:
                            ok = s.recv(65535) == d
                        break
                    except OSError: pass
                if not ok: bad.append(str(n))
            print(' '.join(bad))
            """
        let words = ["ip", "netns", "exec", namespace, "python3", "-c", script, address] + sizes.map(String.init)
        return try LabShell.run(words, seconds: 20 + 5 * sizes.count).split(whereSeparator: \.isWhitespace).compactMap {
            Int($0)
        }
    }

    /// Sends `bytes` random bytes over TCP and compares the echo; true when all came back right within `seconds`.
    public func tcpEchoes(to address: String, bytes: Int, seconds: Int = 30) throws -> Bool {
        try LabShell.outcome(transferWords(to: address, bytes: bytes), seconds: seconds).output.contains("same")
    }

    /// Like `tcpEchoes`, beside the test; prints `same` when all came back right.
    public func startTransfer(to address: String, bytes: Int) throws -> LabTask {
        try cluster.start(transferWords(to: address, bytes: bytes))
    }

    private func transferWords(to address: String, bytes: Int) -> [String] {
        let script = """
            import socket, sys, os, threading, hashlib
            n = int(sys.argv[2]); d = os.urandom(n)
            s = socket.create_connection((sys.argv[1], 7777), 10); s.settimeout(20)
            def send():
                s.sendall(d); s.shutdown(socket.SHUT_WR)
            threading.Thread(target=send, daemon=True).start()
            got = 0; h = hashlib.sha256()
            while got < n:
                p = s.recv(65536)
                if not p: break
                got += len(p); h.update(p)
            print('same' if h.digest() == hashlib.sha256(d).digest() else 'different')
            """
        return ["ip", "netns", "exec", namespace, "python3", "-c", script, address, String(bytes)]
    }
}
