public import Foundation

/// Hosts as network namespaces, routers as real processes, containers as more namespaces. Everything has a name of its
/// own and goes when the cluster goes, also after a failure.
public final class LabCluster {
    /// Part of every name this cluster makes; short, because interface names hold 15 characters.
    public let tag: String
    public let directory: URL
    public private(set) var hosts: [LabHost] = []
    private var namespaces: [String] = []
    private var links = 0
    private var tasks = 0
    private var background: [Process] = []
    private let guardian = Process()
    private let life = Pipe()

    /// - Throws: `LabShell.Failure` when the kernel or the user does not allow it.
    public init() throws {
        tag = "wl" + String(UInt32.random(in: 0x1000...0xffff), radix: 16) + String(getpid() % 1000)
        directory = FileManager.default.temporaryDirectory.appendingPathComponent("weave-lab-\(tag)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        // No other child may hold the pipe open.
        _ = fcntl(life.fileHandleForWriting.fileDescriptor, F_SETFD, FD_CLOEXEC)
        guardian.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        guardian.arguments = ["sh", "-c", Self.cleaning, "sh", tag, directory.path]
        guardian.standardInput = life
        guardian.standardOutput = FileHandle.nullDevice
        guardian.standardError = FileHandle.nullDevice
        try LabShell.start(guardian)
    }

    /// Waits until its input ends, as it does when this process ends in whatever way, and then removes all that bears
    /// the tag.
    private static let cleaning = """
        trap '' INT TERM HUP
        read -r line
        names=$(ip netns list | cut -d' ' -f1 | grep "^$1[hc][0-9]*$")
        for name in $names; do kill -9 $(ip netns pids "$name"); done
        for name in $names; do ip netns delete "$name"; done
        rm -rf "$2"
        """

    deinit { takeDown() }

    /// Ends every process and removes every namespace of this cluster. Safe to call twice.
    public func takeDown() {
        for process in background where process.isRunning { kill(process.processIdentifier, SIGKILL) }
        for host in hosts { host.kill() }
        for process in background { process.waitUntilExit() }
        background = []
        namespaces = []
        abandon()
    }

    /// What happens when the test's process dies: nobody but the guardian cleans up. For the test of just that.
    public func abandon() {
        try? life.fileHandleForWriting.close()
        guardian.waitUntilExit()
    }

    /// Makes a namespace with its loopback up.
    func makeNamespace(_ suffix: String) throws -> String {
        let name = tag + suffix
        try LabShell.run("ip", "netns", "add", name)
        namespaces.append(name)
        try LabShell.run("ip", "-n", name, "link", "set", "lo", "up")
        return name
    }

    /// Adds a host that is not linked to any other yet.
    public func addHost(_ kind: LabRouterKind = .weaver) throws -> LabHost {
        let number = hosts.count + 1
        let host = try LabHost(cluster: self, number: number, kind: kind, namespace: makeNamespace("h\(number)"))
        hosts.append(host)
        return host
    }

    /// Joins two hosts by a veth pair in a subnet of its own, `10.99.<n>.0/24`; returns the addresses of `a` and `b`.
    @discardableResult
    public func link(_ a: LabHost, _ b: LabHost, mtu: Int = 1500) throws -> (a: String, b: String) {
        links += 1
        let device = "up\(links)"
        let addresses = (a: "10.99.\(links).\(a.number)", b: "10.99.\(links).\(b.number)")
        try LabShell.run(
            "ip", "link", "add", device, "netns", a.namespace, "type", "veth", "peer", "name", device, "netns",
            b.namespace)
        for (host, address) in [(a, addresses.a), (b, addresses.b)] {
            try LabShell.run("ip", "-n", host.namespace, "address", "add", address + "/24", "dev", device)
            try LabShell.run("ip", "-n", host.namespace, "link", "set", device, "mtu", String(mtu), "up")
            host.addresses.append(address)
        }
        return addresses
    }

    /// A new container namespace, not attached to any host.
    public func addContainer() throws -> LabContainer {
        let name = try makeNamespace("c\(namespaces.count + 1)")
        return LabContainer(cluster: self, namespace: name)
    }

    /// Starts a program beside the test, in no namespace of the cluster.
    public func start(_ words: [String]) throws -> LabTask {
        tasks += 1
        let log = directory.appendingPathComponent("task\(tasks)")
        return LabTask(process: try spawn(words, log: log, directory: directory), log: log)
    }

    /// Starts a program that lives until it ends or the cluster goes.
    @discardableResult
    func spawn(_ words: [String], log: URL, directory: URL, environment: [String: String] = [:]) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = words
        process.currentDirectoryURL = directory
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        if !FileManager.default.fileExists(atPath: log.path) {
            _ = FileManager.default.createFile(atPath: log.path, contents: nil)
        }
        let handle = try FileHandle(forWritingTo: log)
        try handle.seekToEnd()
        process.standardOutput = handle
        process.standardError = handle
        process.standardInput = FileHandle.nullDevice
        try LabShell.start(process)
        background.append(process)
        return process
    }
}

/// Which program routes on a host.
public enum LabRouterKind: Sendable, Hashable, CustomStringConvertible {
    case weaver, reference

    public var description: String {
        switch self {
        case .weaver: "weaver"
        case .reference: "2.8.1"
        }
    }

    /// The program's path: ours from the build that the test belongs to (or `WEAVER`), the reference from
    /// `REFERENCE_WEAVER`; nil when there is none.
    public var binary: String? {
        let environment = ProcessInfo.processInfo.environment
        switch self {
        case .weaver:
            return environment["WEAVER"] ?? LabBinaries.find("weaver")
        case .reference:
            guard let path = environment["REFERENCE_WEAVER"], !path.isEmpty else { return nil }
            return path
        }
    }
}

/// Finds the programs built together with the running tests.
public enum LabBinaries {
    /// The package's directory.
    public static let packageRoot = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath()
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// The path of `name` in the build directory of this test run, else in the package's release or debug build; nil
    /// when it is nowhere.
    public static func find(_ name: String) -> String? {
        var directories: [URL] = []
        for argument in CommandLine.arguments where argument.contains("/") {
            var directory = URL(fileURLWithPath: argument).deletingLastPathComponent()
            for _ in 0..<4 {
                directories.append(directory)
                directory.deleteLastPathComponent()
            }
        }
        directories += ["release", "debug"].map { packageRoot.appendingPathComponent(".build/\($0)") }
        return directories.map { $0.appendingPathComponent(name).path }.first {
            var isDirectory = ObjCBool(false)
            return unsafe FileManager.default.fileExists(atPath: $0, isDirectory: &isDirectory)
                && !isDirectory.boolValue && FileManager.default.isExecutableFile(atPath: $0)
        }
    }
}
