import Foundation
import NetLab
import Testing

/// The real programs in network namespaces. Needs root.
@Suite(.serialized, .enabled(if: LabShell.canMakeNamespaces && LabRouterKind.weaver.binary != nil))
struct DaemonEndToEndTests {
    private let cluster: LabCluster

    init() throws { cluster = try LabCluster() }

    private var weaver: String { LabRouterKind.weaver.binary ?? "" }

    /// Runs `weave` on a host as an operator there types it.
    private func weave(
        _ host: LabHost, _ words: String..., password: String? = nil, environment: [String] = []
    ) throws -> LabShell.Outcome {
        try weave(host, words, password: password, environment: environment)
    }

    private func weave(
        _ host: LabHost, _ words: [String], password: String? = nil, environment: [String] = []
    ) throws -> LabShell.Outcome {
        let program = try #require(LabBinaries.find("weave"))
        var settings = ["WEAVE_STATE_DIR=\(host.directory.path)/state"] + environment
        if let password { settings.append("WEAVE_PASSWORD=\(password)") }
        return try LabShell.outcome(["ip", "netns", "exec", host.namespace, "env"] + settings + [program] + words)
    }

    private func state(_ host: LabHost, _ file: String) -> String {
        (try? String(contentsOf: host.directory.appendingPathComponent("state/\(file)"), encoding: .utf8)) ?? ""
    }

    @Test("launch, attach, status, detach, stop and reset do what they say")
    func commands() throws {
        defer { cluster.takeDown() }
        let hosts = try [cluster.addHost(), cluster.addHost()]
        let (first, _) = try cluster.link(hosts[0], hosts[1])
        defer { for host in hosts { _ = try? weave(host, "stop") } }
        let names = ["7a:00:00:00:00:01", "7a:00:00:00:00:02"]
        for (index, host) in hosts.enumerated() {
            let peers = index == 0 ? [] : [first]
            var outcome = try weave(
                host, "launch", "--name", names[index], "--nickname", host.nickname, peers.first ?? "--no-dns",
                password: "hush hush")
            #expect(outcome.status == 0 && outcome.output.contains("state/weaver.log"), "\(outcome)")
            outcome = try weave(host, "launch")
            #expect(outcome.status == 1 && outcome.output.contains("already running"), "\(outcome)")
        }
        #expect(!state(hosts[0], "weaver.log").contains("hush"))
        let id = try #require(Int32(state(hosts[0], "weaver.pid").trimmingCharacters(in: .whitespacesAndNewlines)))
        #expect(try !LabShell.run("cat", "/proc/\(id)/cmdline").contains("hush"))

        let containers = try [cluster.addContainer(), cluster.addContainer()]
        for index in 0...1 {
            let outcome = try weave(hosts[index], "attach", "10.40.0.\(index + 1)/24", containers[index].namespace)
            #expect(outcome.status == 0 && outcome.output == "10.40.0.\(index + 1)\n", "\(outcome)")
        }
        #expect(try containers[0].reaches("10.40.0.2"))
        let line = try #require(try weave(hosts[1], "status", "connections").output.split(separator: "\n").first)
        #expect(
            line.wholeMatch(
                of:
                    /-> 10\.99\.1\.1:6783 +established encrypted +sleeve 7a:00:00:00:00:01\(host1\) encrypted=true mtu=\d+/
            )
                != nil, "\(line)")
        #expect(try weave(hosts[1], "status", "targets").output == "10.99.1.1\n")
        #expect(try weave(hosts[0], "report", "-f", "{{.Router.NickName}} {{len .Router.Peers}}").output == "host1 2")
        #expect(try weave(hosts[0], "version").output.contains("weave script "))

        let bad = try weave(hosts[0], "attach", "10.40.0.9/24", "nobody-has-this-name")
        #expect(bad.status == 1 && bad.output.contains("nobody-has-this-name"), "\(bad)")
        #expect(try weave(hosts[0], "attach", "10.40.0.0/24", containers[0].namespace).status == 1)
        #expect(try weave(hosts[0], "detach", containers[0].namespace).output == "10.40.0.1\n")
        #expect(try !containers[0].run("ip", "-o", "link").contains("ethwe"))

        let stopped = try weave(hosts[1], "stop")
        #expect(stopped.status == 0, "\(stopped)")
        #expect(try hosts[1].run("ip", "-o", "link", "show", "master", "weave").contains("vethwepl"))
        #expect(try weave(hosts[1], "stop").status == 0)
        let down = try weave(hosts[1], "status")
        #expect(down.status == 1 && down.output.contains("weave launch"), "\(down)")

        // A host that is down cannot hand its addresses over, and is reset only by force.
        let refused = try weave(hosts[1], "reset")
        #expect(refused.status == 1 && refused.output.contains("--force"), "\(refused)")
        for (host, words) in zip(hosts, [["reset"], ["reset", "--force"]]) {
            let reset = try weave(host, words)
            #expect(reset.status == 0, "\(reset)")
            let links = try host.run("ip", "-o", "link")
            #expect(!links.contains("weave") && !links.contains("vethwe"), "\(links)")
            #expect(state(host, "weavedata.sqlite").isEmpty)
        }
    }

    @Test("a resumed daemon connects to the peers that connect and forget left")
    func resume() throws {
        defer { cluster.takeDown() }
        let hosts = try [cluster.addHost(), cluster.addHost()]
        try cluster.link(hosts[0], hosts[1])
        try hosts[0].launch()
        try hosts[1].launch(peers: ["10.99.1.99"])
        #expect(try hosts[1].connect(["10.99.1.1", ":99"]).output.contains("invalid peer name \":99\""))
        #expect(try hosts[1].forget(["10.99.1.99"]).status == 0)
        #expect(try hosts[1].isConnected())
        hosts[1].kill()
        try hosts[1].launch(flags: ["--resume"])
        #expect(try hosts[1].isConnected(), "\(hosts[1].log)")
        #expect(try hosts[1].status("targets") == "10.99.1.1\n")
        #expect(hosts[1].log.contains("using persisted peer list: [10.99.1.1]"))
        #expect(try hosts[1].connect([], replace: true).status == 0)
        #expect(try hosts[1].status("targets").isEmpty)
    }

    @Test("what cannot be is refused before anything is changed")
    func refusals() throws {
        defer { cluster.takeDown() }
        let host = try cluster.addHost()
        func start(_ flags: String...) throws -> LabShell.Outcome {
            try LabShell.outcome(
                ["ip", "netns", "exec", host.namespace, "timeout", "10", weaver, "--http-addr="] + flags)
        }
        let prefix = "--db-prefix=\(host.directory.path)/other"
        let unknown = try start("--nonsense")
        #expect(unknown.status == 2 && unknown.output.contains("Usage: weaver"), "\(unknown)")
        #expect(try start("--resume", "10.0.0.1", prefix).status == 2)
        #expect(try start("--db-prefix=/proc/x").status == 1)
        #expect(try !host.run("ip", "-o", "link").contains("weave"))

        try host.launch()
        let port = try start(prefix)
        #expect(port.status == 1 && port.output.contains("6783") && port.output.contains("another weaver"), "\(port)")
        let lock = try start("--db-prefix=\(host.directory.path)/w", "--port=7000")
        #expect(lock.status == 1 && lock.output.contains("another weaver (process "), "\(lock)")
        #expect(try host.http("/status").status == 0)

        let nobody = try LabShell.outcome([
            "setpriv", "--reuid=65534", "--clear-groups", weaver, "--db-prefix=/tmp/none",
        ])
        #expect(nobody.status == 1 && nobody.output.contains("needs to run as root"), "\(nobody)")
    }

    @Test("the name is that of the bridge when none is given, and a damaged database is survived")
    func nameAndDamage() throws {
        defer { cluster.takeDown() }
        let host = try cluster.addHost()
        try host.launch()
        host.stop()
        let database = host.directory.appendingPathComponent("wdata.sqlite")
        try Data(repeating: 0x5a, count: 5000).write(to: database)
        let printed = try LabShell.run(
            "ip", "netns", "exec", host.namespace, weaver, "--print-peer-name", "--db-prefix=\(host.directory.path)/w")
        #expect(printed == host.peerName + "\n")
        try host.relaunch()
        #expect(host.log.contains("The database was damaged"))
        let files = try FileManager.default.contentsOfDirectory(atPath: host.directory.path)
        #expect(files.contains { $0.hasPrefix("wdata.sqlite.damaged-") })
    }
}
