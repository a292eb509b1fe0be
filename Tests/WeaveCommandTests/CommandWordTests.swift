import ArgumentParser
import Foundation
import Testing

@testable import WeaveCommand

struct CommandWordTests {
    @Test("addresses and container are told apart in any order")
    func containerWords() throws {
        let order = try ContainerWords(["10.32.0.1/12", "web", "ip:10.40.0.1/24"], directory: "/home/x")
        #expect(order.addresses == ["10.32.0.1/12", "ip:10.40.0.1/24"] && order.container == "web")
        #expect(order.wish == "10.32.0.1/12, ip:10.40.0.1/24 for web")
        #expect(
            order.fields.map { "\($0.name)=\($0.value)" } == [
                "container=web", "address=10.32.0.1/12", "address=ip:10.40.0.1/24",
            ])
        let plain = try ContainerWords(["1234"], directory: "/")
        #expect(plain.container == "1234" && plain.addresses.isEmpty && plain.wish == "net:default for 1234")
        let networks = try ContainerWords(["net:default", "a", "net:10.32.2.0/24"], directory: "/")
        #expect(networks.addresses == ["net:default", "net:10.32.2.0/24"] && networks.container == "a")
        #expect(try ContainerWords(["/proc/1/ns/net"], directory: "/home/x").container == "/proc/1/ns/net")
        #expect(try ContainerWords(["./ns/web"], directory: "/home/x").container == "/home/x/./ns/web")
    }

    @Test("words that make no sense are refused with the reason")
    func badWords() {
        for (words, reason) in [
            (["10.32.0.1/12"], "exactly one container"), (["a", "b"], "given were a, b"),
            (["10.32.0.300/12", "a"], "prefix length"), (["10.32.0.3", "a"], "prefix length"),
            (["ip:default", "a"], "prefix length"), (["net:10.32.0.0", "a"], "net:10.32.2.0/24"),
            (["net:", "a"], "neither net:default nor"),
        ] {
            let error = #expect(throws: CommandError.self) { try ContainerWords(words, directory: "/") }
            #expect(error?.code == .usage && error?.message.contains(reason) == true, "\(words)")
        }
    }

    @Test("the daemon is found by environment, then by the last launch, then at the standard address")
    func addresses() throws {
        let directory = try TemporaryDirectory()
        let environment = ["WEAVE_STATE_DIR": directory.url.path]
        let state = StateDirectory(environment: environment)
        #expect(try DaemonAddress.find(environment: environment, state: state).description == "127.0.0.1:6784")
        try state.record(address: "/run/weave.sock")
        #expect(try DaemonAddress.find(environment: environment, state: state).description == "/run/weave.sock")
        #expect(
            try DaemonAddress.find(environment: ["WEAVE_HTTP_ADDR": "[::1]:7"], state: state).description == "[::1]:7")
        try state.record(address: nil)
        #expect(state.recordedAddress == nil)
        #expect(try DaemonAddress("0.0.0.0:6784").description == "127.0.0.1:6784")
        for bad in ["6784", "host", "host:x", "relative.sock", "a b:1"] {
            #expect(throws: CommandError.self) { try DaemonAddress(bad) }
        }
    }

    @Test("URLs reach TCP ports and Unix sockets, and forms are encoded")
    func urls() throws {
        #expect(try DaemonAddress("127.0.0.1:6784").url("/status") == "http://127.0.0.1:6784/status")
        #expect(try DaemonAddress("/run/w.sock").url("/status") == "http+unix://%2Frun%2Fw.sock/status")
        #expect(formEncoded("a b&c=d/é~1") == "a%20b%26c%3Dd%2F%C3%A9~1")
    }

    @Test("launch hands words on, adds where things are, and keeps secrets out of the command line")
    func launchPlan() throws {
        let state = StateDirectory(environment: ["WEAVE_STATE_DIR": "/s"])
        let places = ["--http-addr=127.0.0.1:6784", "--db-prefix=/s/weave", "--pid-file=/s/weaver.pid"]
        let range = ["--ipalloc-range=10.32.0.0/12"]
        let plain = try LaunchPlan(["--nickname", "x", "10.0.0.1"], environment: [:], state: state)
        #expect(plain.arguments == places + range + ["--nickname", "x", "10.0.0.1"])
        #expect(plain.environment.isEmpty && !plain.isOwnAddress && plain.warnings.isEmpty)

        for words in [["--password", "hush"], ["-password=hush"], ["--password=hush"]] {
            let secret = try LaunchPlan(words + ["peer"], environment: [:], state: state)
            #expect(secret.arguments == places + range + ["peer"])
            #expect(secret.environment == ["WEAVE_PASSWORD": "hush"] && secret.warnings.count == 1)
        }
        #expect(throws: CommandError.self) { try LaunchPlan(["--password"], environment: [:], state: state) }

        let own = try LaunchPlan(
            ["--http-addr", "/run/w.sock", "--db-prefix=/d", "--", "--password"],
            environment: ["WEAVE_PORT": "7000", "WEAVE_MTU": "", "WEAVE_HTTP_ADDR": "1.2.3.4:5"], state: state)
        #expect(own.address.description == "/run/w.sock" && own.isOwnAddress)
        #expect(
            own.arguments == ["--pid-file=/s/weaver.pid", "--port=7000"] + range
                + ["--http-addr", "/run/w.sock", "--db-prefix=/d", "--", "--password"])
        #expect(throws: CommandError.self) { try LaunchPlan(["--http-addr="], environment: [:], state: state) }
        let everywhere = try LaunchPlan([], environment: ["WEAVE_HTTP_ADDR": "0.0.0.0:1"], state: state)
        #expect(
            everywhere.arguments.first == "--http-addr=0.0.0.0:1" && everywhere.address.description == "127.0.0.1:1")
    }

    @Test("a process id that belongs to another program is nobody's daemon")
    func processID() throws {
        let directory = try TemporaryDirectory()
        let state = StateDirectory(environment: ["WEAVE_STATE_DIR": directory.url.path])
        #expect(DaemonProcess(state) == nil)
        for text in ["\(getpid())\n", "1\n", "0\n", "-1\n", "x\n", "999999999\n"] {
            try Data(text.utf8).write(to: URL(fileURLWithPath: state.pidFile))
            #expect(DaemonProcess(state) == nil, "\(text)")
        }
        #expect(DaemonProcess(id: getpid()).isRunning)
        #expect(!DaemonProcess(id: 999_999_999).isRunning)
    }

    @Test("a long log is moved aside, and its end is shown from where a launch began")
    func log() throws {
        let directory = try TemporaryDirectory()
        let state = StateDirectory(environment: ["WEAVE_STATE_DIR": directory.url.appendingPathComponent("new").path])
        try state.prepare()
        let mode = try FileManager.default.attributesOfItem(atPath: state.path)[.posixPermissions] as? NSNumber
        #expect(mode?.intValue == 0o700)
        try Data("old\n".utf8).write(to: URL(fileURLWithPath: state.log))
        let offset = state.logSize
        #expect(offset == 4)
        try Data("old\none\ntwo\n".utf8).write(to: URL(fileURLWithPath: state.log))
        #expect(state.logTail(after: offset) == "one\ntwo")
        #expect(state.logTail(after: offset, lines: 1) == "two")
        try Data(count: StateDirectory.maximumLog + 1).write(to: URL(fileURLWithPath: state.log))
        try state.prepare()
        #expect(state.logSize == 0 && FileManager.default.fileExists(atPath: state.log + ".1"))
    }

    @Test(
        "exit statuses: 0 for help, 2 for words that make no sense, 1 for a daemon that does not answer",
        arguments: [
            (["--help"], 0), (["help", "launch"], 0), (["attach", "--help"], 0), (["--version"], 0),
            (["nonsense"], 2), (["connect"], 2), (["attach"], 2), (["attach", "a", "b"], 2), (["status", "dns"], 2),
            (["report", "--nonsense"], 2),
        ] as [([String], Int32)])
    func statuses(_ words: [String], _ status: Int32) async {
        #expect(await WeaveMain.status(of: words) == status)
    }

    @Test("a daemon that does not run is named with the way to start it")
    func unreachable() async throws {
        let directory = try TemporaryDirectory()
        let address = try DaemonAddress(directory.url.appendingPathComponent("none.sock").path)
        let error = await #expect(throws: CommandError.self) { try await DaemonClient(address: address).get("/status") }
        #expect(error?.code == .failed)
        #expect(error?.message.contains("weave launch") == true && error?.message.contains(address.description) == true)
        #expect(await !DaemonClient(address: address).isReady())
    }

    @Test("every command has a help text that says what it does")
    func help() {
        for command in Weave.configuration.subcommands {
            #expect(!command.configuration.abstract.isEmpty, "\(command)")
        }
        #expect(Weave.helpMessage().contains("WEAVE_HTTP_ADDR"))
    }
}

/// A directory that goes with the value.
final class TemporaryDirectory: Sendable {
    let url: URL

    init() throws {
        url = FileManager.default.temporaryDirectory.appendingPathComponent("weave-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: url) }
}
