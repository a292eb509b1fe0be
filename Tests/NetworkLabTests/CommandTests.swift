import Foundation
import NetLab
import Testing

/// The programs as an operator meets them: wrong words, missing rights, and what is left afterwards.
@Suite(.serialized, .enabled(if: LabShell.canMakeNamespaces))
struct CommandTests {
    private static let weaver = LabRouterKind.weaver.binary ?? "weaver"
    /// The command beside the daemon.
    private static let weave = URL(fileURLWithPath: weaver).deletingLastPathComponent().appendingPathComponent("weave")
        .path

    /// Without root's rights, so that wrong words that are taken as right start nothing.
    private func asNobody(_ words: [String]) throws -> LabShell.Outcome {
        try LabShell.outcome(["setpriv", "--reuid", "65534", "--clear-groups"] + words, seconds: 20)
    }

    @Test(
        "wrong words to weaver end with 2 and the usage",
        arguments: [
            ["--nonsense"], ["--port=nope"], ["--port", "70000"], ["--port", "-1"], ["--name=zz"],
            ["--conn-limit=-5"], ["--trusted-subnets=10.0.0.0/40"], ["--log-level=loud"], ["--mtu=nope"],
            ["--http-addr=127.0.0.1:99999"], ["--threads=0"], ["--min-protocol-version=9"], ["one:two:three"],
            ["--port"],
        ])
    func wrongDaemonWords(_ words: [String]) throws {
        let outcome = try asNobody([Self.weaver] + words)
        #expect(outcome.status == 2, "\(outcome.output)")
        #expect(outcome.output.contains("Usage: weaver"), "\(outcome.output)")
        #expect(outcome.output.contains("--help"), "\(outcome.output)")
    }

    @Test(
        "wrong words to weave end with 2 and say what is wrong",
        arguments: [
            ([], "SUBCOMMANDS"), (["frob"], "frob"), (["connect"], "Usage: weave connect"),
            (["forget"], "Usage: weave forget"), (["attach"], "Usage: weave attach"),
            (["attach", "10.0.0.1/24"], "give exactly one container"), (["status", "frob"], "Usage: weave status"),
            (["reset", "--frob"], "Usage: weave reset"),
            (["launch", "--ipalloc-range=", "--frob"], "unknown flag --frob"),
            (["launch", "--ipalloc-range=", "one:two:three"], "should be host[:port]"),
        ] as [([String], String)])
    func wrongCommandWords(_ words: [String], _ expected: String) throws {
        let cluster = try LabCluster()
        defer { cluster.takeDown() }
        let outcome = try LabShell.outcome(
            [Self.weave] + words, environment: ["WEAVE_STATE_DIR": cluster.directory.path])
        #expect(outcome.status == 2, "\(outcome.output)")
        #expect(outcome.output.contains(expected), "\(outcome.output)")
    }

    @Test("without root both say so and end with 1")
    func missingRoot() throws {
        let daemon = try asNobody([Self.weaver])
        #expect(daemon.status == 1)
        #expect(daemon.output.contains("needs to run as root"), "\(daemon.output)")
        let cluster = try LabCluster()
        defer { cluster.takeDown() }
        try FileManager.default.setAttributes([.posixPermissions: 0o777], ofItemAtPath: cluster.directory.path)
        let launch = try asNobody(
            ["env", "WEAVE_STATE_DIR=\(cluster.directory.path)/state", Self.weave, "launch", "--ipalloc-range="])
        #expect(launch.status == 1)
        #expect(launch.output.contains("needs to run as root"), "\(launch.output)")
    }

    @Test("an interrupted daemon ends with 0, leaves its containers linked, and a reset leaves nothing")
    func interruptAndReset() throws {
        let cluster = try LabCluster()
        defer { cluster.takeDown() }
        let host = try cluster.addHost()
        let pidFile = host.directory.appendingPathComponent("pid").path
        try host.launch(flags: ["--pid-file=\(pidFile)"])
        let containers = try (1...2).map { number in
            let container = try cluster.addContainer()
            try container.attach(to: host, "10.40.0.\(number)")
            return container
        }
        #expect(FileManager.default.fileExists(atPath: pidFile))
        let status = host.stop(SIGINT)
        #expect(status == 0, "\(host.log)")
        #expect(!FileManager.default.fileExists(atPath: pidFile))
        #expect(try containers[0].reaches("10.40.0.2", within: 2))

        try host.run(Self.weaver, "--reset", "--db-prefix=\(host.directory.path)/w")
        let links = try host.run("ip", "-o", "link").split(separator: "\n")
        #expect(links.count == 1 && links.first?.contains(" lo:") == true, "\(links)")
        for container in containers { #expect(try !container.run("ip", "-o", "link").contains("ethwe")) }
        let rest = try FileManager.default.contentsOfDirectory(atPath: host.directory.path)
        #expect(!rest.contains { $0.hasPrefix("w") }, "\(rest)")
    }

    @Test("a second daemon on the same host is refused and harms nothing")
    func secondDaemon() throws {
        let cluster = try LabCluster()
        defer { cluster.takeDown() }
        let host = try cluster.addHost()
        try host.launch()
        let container = try cluster.addContainer()
        try container.attach(to: host, "10.40.0.1")
        for extra in [[], ["--port=6799", "--http-addr=127.0.0.1:6799"]] {
            let words = ["ip", "netns", "exec", host.namespace, Self.weaver, "--db-prefix=\(host.directory.path)/w"]
            let outcome = try LabShell.outcome(words + extra, seconds: 10)
            #expect(outcome.status == 1, "\(outcome.output)")
        }
        #expect(try host.http("/status").status == 0)
        #expect(try host.run("ip", "-o", "link", "show", "master", "weave").contains("vethwepl"))
    }

    @Test("a cluster whose test died leaves neither processes nor namespaces")
    func deadTest() throws {
        let cluster = try LabCluster()
        defer { cluster.takeDown() }
        let host = try cluster.addHost()
        try host.launch()
        let process = try #require(host.process)
        cluster.abandon()
        #expect(LabShell.poll(seconds: 10) { !FileManager.default.fileExists(atPath: cluster.directory.path) })
        #expect(LabShell.poll(seconds: 5) { !process.isRunning })
        #expect(try !LabShell.run("ip", "netns", "list").contains(cluster.tag))
    }

    @Test("the demo interrupted with Ctrl-C leaves nothing", .timeLimit(.minutes(2)))
    func interruptedDemo() throws {
        let cluster = try LabCluster()
        defer { cluster.takeDown() }
        let script = LabBinaries.packageRoot.appendingPathComponent("Scripts/demo").path
        let temporary = cluster.directory.appendingPathComponent("tmp")
        try FileManager.default.createDirectory(at: temporary, withIntermediateDirectories: true)
        let binaries = URL(fileURLWithPath: Self.weaver).deletingLastPathComponent().path
        let demo = try cluster.start(["env", "TMPDIR=\(temporary.path)", "bash", script, binaries])
        let isAttached = LabShell.poll(seconds: 40) { demo.output.contains("== Ping") || !demo.isRunning }
        #expect(isAttached && demo.isRunning, "\(demo.output)")
        let tag = "wd\(demo.processIdentifier)-"
        #expect(try LabShell.run("ip", "netns", "list").contains(tag))
        demo.interrupt()
        let outcome = demo.outcome(within: 20)
        #expect(outcome?.status == 130, "\(demo.output)")
        #expect(try !LabShell.run("ip", "netns", "list").contains(tag))
        #expect(try FileManager.default.contentsOfDirectory(atPath: temporary.path) == [])
        // The brackets keep the pattern from finding itself.
        let processes = try LabShell.outcome(["pgrep", "-f", "-a", "[/]" + temporary.path.dropFirst()])
        #expect(processes.status == 1, "\(processes.output)")
    }
}
