import ArgumentParser
import Foundation
import Logging
import Testing
import WeaveCore

@testable import WeaveNetDaemon

struct FlagTests {
    /// The configuration for a command line; throws what the daemon would report.
    private func configuration(_ words: String..., environment: [String: String] = [:]) throws -> DaemonConfiguration {
        switch CommandLineRequest(words) {
        case .run(let options, _): try DaemonConfiguration(options, environment: environment, hostname: "box")
        case .finish(_, let text): throw DaemonError(.usage, text)
        }
    }

    private func finish(_ words: String...) -> (status: Int32, text: String)? {
        if case .finish(let status, let text) = CommandLineRequest(words) { (status, text) } else { nil }
    }

    @Test("defaults are those of 2.8.1 where the flag has one")
    func defaults() throws {
        let plain = try configuration()
        #expect(plain.port == 6783 && plain.connectionLimit == 200 && plain.minimumProtocolVersion == 1)
        #expect(plain.discovery && !plain.resume && plain.password == nil && plain.nickname == "box")
        #expect(plain.control == .tcp(host: "127.0.0.1", port: 6784) && plain.status == nil && plain.metrics == nil)
        #expect(plain.mtu == nil && plain.bridge == "weave" && plain.logLevel == .info)
        #expect(plain.databasePrefix == "/var/lib/weave/weave" && plain.warnings.isEmpty)
        #expect(try configuration(environment: ["WEAVE_STATE_DIR": "/x"]).databasePrefix == "/x/weave")
    }

    @Test(
        "one dash or two, blank or equals sign, quotes or none",
        arguments: [
            ["--nickname=kitchen", "--port", "7000"], ["-nickname", "kitchen", "-port=7000"],
            ["--port='7000'", "--nickname=\"kitchen\""],
        ])
    func spellings(_ words: [String]) throws {
        guard case .run(let options, let notes) = CommandLineRequest(words + ["--no-discovery", "10.0.0.1"]) else {
            Issue.record("refused")
            return
        }
        let result = try DaemonConfiguration(options, environment: [:], hostname: "box")
        #expect(result.nickname == "kitchen" && result.port == 7000 && !result.discovery)
        #expect(result.peers == ["10.0.0.1"] && notes.isEmpty)
    }

    @Test("HTTP clients may call this host by its own name, that of a listener, and those given")
    func httpHosts() throws {
        let given = try configuration("--http-host=a.example", "--http-host", "b.example", "--status-addr=c.example:1")
        for name in ["box", "a.example", "b.example", "c.example", "127.0.0.1"] {
            #expect(given.hostNames.complaint(about: name + ":6784") == nil, "\(name)")
        }
        #expect(try configuration().hostNames.complaint(about: "a.example") != nil)
        for bad in ["", "a:1", "http://a", "a b"] {
            #expect(throws: DaemonError.self) { try configuration("--http-host=\(bad)") }
        }
    }

    @Test("flags that are on or off take a value after an equals sign")
    func booleans() throws {
        #expect(try configuration("--no-discovery=false").discovery)
        #expect(try !configuration("--no-discovery=true").discovery)
        #expect(throws: DaemonError.self) { try configuration("--no-discovery=maybe") }
    }

    @Test("flags may come after peers, and nothing after two dashes is a flag")
    func order() throws {
        let mixed = try configuration("10.0.0.1", "--port=7000", "host.example:6783", "[fd00::1]:6783")
        #expect(mixed.peers == ["10.0.0.1", "host.example:6783", "[fd00::1]:6783"] && mixed.port == 7000)
        #expect(throws: DaemonError.self) { try configuration("--", "--port=7000") }
    }

    @Test("flags of features that do not exist are accepted with a note, unless they switch them off")
    func inert() {
        guard
            case .run(let options, let notes) = CommandLineRequest([
                "--dns-ttl", "7", "--no-dns", "--docker-api=", "--no-fastdp", "--plugin=false",
                "--proxy",
                "-H", "unix:///x", "peer1",
            ])
        else {
            Issue.record("refused")
            return
        }
        #expect(options.peers == ["peer1"])
        #expect(notes.count == 3)
        #expect(notes.first?.hasPrefix("--dns-ttl has no effect") == true)
    }

    @Test("wrong flags end with status 2 and the usage, help and version with 0")
    func endings() throws {
        for words in [["--nonsense"], ["--port"], ["--port=x"], ["--proxy=2"]] {
            guard case .finish(let status, let text) = CommandLineRequest(words) else {
                Issue.record("\(words) were accepted")
                continue
            }
            #expect(status == 2 && text.contains("weaver"), "\(words): \(text)")
        }
        let help = try #require(finish("--help"))
        #expect(help.status == 0 && help.text.contains("--trusted-subnets") && help.text.contains("USAGE"))
        #expect(finish("-h")?.status == 0)
        let version = try #require(finish("--version"))
        #expect(version == (0, "weave \(WeaveNetVersion.current)"))
    }

    @Test("every flag of the parser is known to the normaliser")
    func tables() {
        let help = WeaverOptions.helpMessage(columns: 200)
        for name in GoFlags.valued.union(GoFlags.boolean) {
            #expect(help.contains("--\(name)"), "--\(name) is not in the help")
        }
        for match in help.matches(of: /\n +--([a-z-]+)/) {
            let name = String(match.1)
            #expect(GoFlags.valued.contains(name) || GoFlags.boolean.contains(name), "--\(name)")
        }
        #expect(GoFlags.inert.keys.allSatisfy { !GoFlags.valued.contains($0) && !GoFlags.boolean.contains($0) })
    }

    @Test(
        "values that make no sense are refused with a reason",
        arguments: [
            ("--port=0", "--port"), ("--port=70000", "--port"), ("--min-protocol-version=3", "[1,2]"),
            ("--name=zz", "invalid peer name format: \"zz\""), ("--name=::0", "invalid peer name"),
            ("--trusted-subnets=1.2.3", "Unable to parse trusted subnets: invalid CIDR address: 1.2.3"),
            ("--log-level=nope", "unknown level 'nope'"), ("--conn-limit=-1", "--conn-limit"), ("--mtu=100", "--mtu"),
            ("--weave-bridge=a/b", "device"), ("--weave-bridge=abcdefghijklmnop", "device"), ("--host=x", "--host"),
            ("--http-addr=6784", "--http-addr"), ("--http-addr=relative.sock", "--http-addr"),
            (":9", "invalid peer name \":9\", should be host[:port]"), ("host:0", "host[:port]"),
            ("a b", "host[:port]"), ("[fd00::1", "host[:port]"), ("h:1:2", "host[:port]"), ("--threads=0", "--threads"),
        ])
    func refusals(_ word: String, _ reason: String) {
        let error = #expect(throws: DaemonError.self) { try configuration(word) }
        #expect(error?.code == .usage)
        #expect(error?.message.contains(reason) == true, "\(error?.message ?? "")")
    }

    @Test("values are understood")
    func values() throws {
        let result = try configuration(
            "--name=::1", "--trusted-subnets=10.0.1.7/8,192.168.0.0/16", "--host=10.1.1.1", "--mtu=1400",
            "--log-level=warn", "--http-addr=/run/weave.sock", "--status-addr=:6782", "--conn-limit=0")
        #expect(result.name == PeerName(truncating: 1) && result.host == IPv4Address("10.1.1.1") && result.mtu == 1400)
        #expect(result.trustedSubnets.map(\.description) == ["10.0.0.0/8", "192.168.0.0/16"])
        #expect(result.logLevel == .warning && result.control == .unix(path: "/run/weave.sock"))
        #expect(result.status == .tcp(host: "0.0.0.0", port: 6782) && result.connectionLimit == 0)
        #expect(try configuration("--http-addr=").control == nil)
    }

    @Test("peers together with --resume are refused")
    func resume() throws {
        #expect(try configuration("--resume").resume)
        #expect(throws: DaemonError.self) { try configuration("--resume", "10.0.0.1") }
    }

    @Test("the password comes from a file, a flag with a warning, or the environment")
    func passwords() throws {
        let directory = try TemporaryDirectory()
        let file = directory.path("password")
        try Data("secret\nsecond line\n".utf8).write(to: URL(fileURLWithPath: file))
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: file)
        let fromFile = try configuration("--password-file=\(file)")
        #expect(fromFile.password != nil && fromFile.warnings.isEmpty)
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: file)
        #expect(try configuration("--password-file=\(file)").warnings.count == 1)

        let fromFlag = try configuration("--password=hush")
        #expect(fromFlag.password != nil && fromFlag.warnings.first?.contains("list of processes") == true)
        #expect(fromFlag.warnings.allSatisfy { !$0.contains("hush") })
        #expect(try configuration(environment: ["WEAVE_PASSWORD": "x"]).password != nil)
        #expect(try configuration(environment: ["WEAVE_PASSWORD": ""]).password == nil)

        #expect(throws: DaemonError.self) { try configuration("--password-file=/nonexistent/password") }
        #expect(throws: DaemonError.self) { try configuration("--password=a", "--password-file=\(file)") }
        let empty = directory.path("empty")
        try Data("\n".utf8).write(to: URL(fileURLWithPath: empty))
        #expect(throws: DaemonError.self) { try configuration("--password-file=\(empty)") }
    }

    @Test("log lines look as in 2.8.1 and stay one line")
    func logLines() {
        let lines = Lines()
        var logger = Logger(label: "t") { _ in DaemonLog(level: .info) { lines.append($0) } }
        logger.info("Our name is \u{1b}x\ny")
        logger.debug("silent")
        logger.logLevel = .debug
        logger.error("bad", metadata: ["peer": "p"])
        #expect(lines.all.count == 2)
        #expect(
            lines.all[0].wholeMatch(of: /INFO: \d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d\.\d{6} Our name is \?x\?y\n/) != nil)
        #expect(lines.all[1].hasPrefix("ERRO: ") && lines.all[1].hasSuffix(" bad peer=p\n"))
    }
}
