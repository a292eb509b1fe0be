import Foundation
import NIOCore
import Synchronization
import Testing

@testable import WeaveCommand

/// What each command about addresses asks of the daemon, what it prints, and how it ends.
struct AddressCommandTests {
    @Test(
        "each command sends its request, prints the answer as it is and ends with 0",
        arguments: [
            (["attach", "web"], "POST /attach container=web"),
            (["attach", "net:default", "web"], "POST /attach container=web&address=net%3Adefault"),
            (
                ["attach", "net:10.32.2.0/24", "ip:10.40.0.1/24", "10.41.0.1/24", "--no-multicast-route", "web"],
                "POST /attach container=web&address=net%3A10.32.2.0%2F24&address=ip%3A10.40.0.1%2F24"
                    + "&address=10.41.0.1%2F24&multicast-route=false"
            ),
            (["detach", "/proc/7/ns/net"], "POST /detach container=%2Fproc%2F7%2Fns%2Fnet"),
            (["detach", "net:default", "web"], "POST /detach container=web&address=net%3Adefault"),
            (["expose"], "POST /expose"),
            (
                ["expose", "--without-masquerade", "10.32.0.9/12"],
                "POST /expose address=10.32.0.9%2F12&without-masquerade=true"
            ),
            (
                ["expose", "net:default", "net:10.32.2.0/24"],
                "POST /expose address=net%3Adefault&address=net%3A10.32.2.0%2F24"
            ),
            (["hide"], "POST /hide"), (["hide", "10.32.0.9/12"], "POST /hide address=10.32.0.9%2F12"),
            (["rmpeer", "7a:00:00:00:00:02"], "DELETE /peer/7a:00:00:00:00:02"),
            (["rmpeer", "--force", "a host/é"], "DELETE /peer/a%20host%2F%C3%A9?force=true"),
            (["status", "ipam"], "GET /status/ipam"), (["ipam", "explain"], "GET /ipam/explain"),
            (["ipam", "repair", "2"], "POST /ipam/repair step=2"),
            (["ipam", "repair", "1", "--force"], "POST /ipam/repair step=1&force=true"),
        ] as [([String], String)])
    func requests(_ words: [String], _ asked: String) async throws {
        let daemon = try await FakeDaemon("10.32.0.1 10.32.2.1\n")
        let outcome = await daemon.run(words)
        await daemon.stop()
        #expect(daemon.asked == [asked])
        #expect(outcome.status == 0 && outcome.output == "10.32.0.1 10.32.2.1\n" && outcome.error == "", "\(outcome)")
    }

    @Test("prime waits for the ring and prints nothing")
    func prime() async throws {
        let daemon = try await FakeDaemon()
        let outcome = await daemon.run("prime")
        await daemon.stop()
        #expect(daemon.asked == ["GET /ring"] && outcome.status == 0 && outcome.output == "" && outcome.error == "")
    }

    @Test(
        "words that make no sense end with 2 and ask nothing",
        arguments: [
            ["attach", "net:default"], ["attach", "net:", "a"], ["attach", "net:10.32.0.0", "a"],
            ["attach", "ip:default", "a"], ["attach", "10.32.0.1", "a"], ["attach", "10.32.0.1/33", "a"],
            ["attach", "a", "b"], ["attach", ""], ["detach"], ["detach", "net:x", "a"], ["expose", "web"],
            ["expose", "10.32.0.1"], ["expose", "--frob"], ["hide", "web"], ["hide", "net:x"], ["prime", "now"],
            ["rmpeer"], ["rmpeer", ""], ["rmpeer", "a", ".."], ["rmpeer", "."], ["status", "dns"], ["ipam"],
            ["ipam", "frob"], ["ipam", "explain", "it"], ["ipam", "repair"], ["ipam", "repair", "0"],
            ["ipam", "repair", "-1"], ["ipam", "repair", "one"], ["ps", "--frob"], ["reset", "now"],
        ])
    func badWords(_ words: [String]) async throws {
        let daemon = try await FakeDaemon()
        let outcome = await daemon.run(words)
        await daemon.stop()
        #expect(outcome.status == 2 && outcome.output == "" && !outcome.error.isEmpty, "\(outcome)")
        #expect(daemon.asked == [])
    }

    @Test(
        "where allocation is off, every command about addresses says how to turn it on, and ends with 1",
        arguments: [
            ["attach", "web"], ["detach", "net:default", "web"], ["expose"], ["hide"], ["prime"], ["rmpeer", "a"],
            ["status", "ipam"], ["ipam", "explain"], ["ipam", "repair", "1"], ["ps"],
        ])
    func off(_ words: [String]) async throws {
        let daemon = try await FakeDaemon("404 page not found\n", status: 404)
        let outcome = await daemon.run(words)
        await daemon.stop()
        #expect(outcome.status == 1 && outcome.output == "")
        #expect(outcome.error.contains("IP address allocation must be enabled to use 'net:'"), "\(outcome)")
        #expect(outcome.error.contains("weave launch --ipalloc-range 10.32.0.0/12"), "\(outcome)")
    }

    @Test("what the daemon refuses is passed on, with 1")
    func refused() async throws {
        let text = "range 10.99.5.0/24 out of bounds: 10.32.0.0/12"
        let daemon = try await FakeDaemon(text + "\n", status: 400)
        let outcome = await daemon.run("attach", "net:10.99.5.0/24", "web")
        await daemon.stop()
        #expect(outcome.status == 1 && outcome.output == "" && outcome.error == "weave: \(text)\n")
    }

    @Test("rmpeer goes on after a peer that is refused, and ends with 1")
    func removePeers() async throws {
        let daemon = try await FakeDaemon { asked in
            let peer = asked.uri.dropFirst("/peer/".count)
            return peer == "alive" ? (409, "alive is connected\n") : (200, "512 IPs taken over from \(peer)\n")
        }
        let outcome = await daemon.run("rmpeer", "a", "alive", "b")
        await daemon.stop()
        #expect(outcome.status == 1 && outcome.error == "weave: alive is connected\n")
        #expect(outcome.output == "512 IPs taken over from a\n512 IPs taken over from b\n")
    }

    @Test("expose takes 2.8.1's -h for what it is there, and says that it does nothing")
    func exposeName() async throws {
        let daemon = try await FakeDaemon("10.32.0.1\n")
        let outcome = await daemon.run("expose", "10.32.0.1/12", "-h", "host.weave.local")
        await daemon.stop()
        #expect(daemon.asked == ["POST /expose address=10.32.0.1%2F12"])
        #expect(outcome.status == 0 && outcome.output == "10.32.0.1\n")
        #expect(outcome.error.contains("host.weave.local has no effect"), "\(outcome)")
    }

    @Test("ps lists the containers asked for, and all without words")
    func ps() async throws {
        let daemon = try await FakeDaemon(
            #"{"owned":[{"containerid":"web","addrs":["10.32.0.2/12","10.40.0.1/24"]},{"containerid":"db","addrs":[]}]}"#
                + "\n")
        let all = await daemon.run("ps")
        let one = await daemon.run("ps", "web", "none")
        await daemon.stop()
        #expect(daemon.asked == ["GET /ip", "GET /ip"])
        #expect(all.status == 0 && all.output.hasSuffix("db -\nweb - 10.32.0.2/12 10.40.0.1/24\n"), "\(all)")
        #expect(one.status == 0 && one.output == "web - 10.32.0.2/12 10.40.0.1/24\n", "\(one)")
    }

    @Test("a list that cannot be read is an error")
    func unreadableList() async throws {
        let daemon = try await FakeDaemon("web 10.32.0.1/12\n")
        let outcome = await daemon.run("ps")
        await daemon.stop()
        #expect(outcome.status == 1 && outcome.output == "" && outcome.error.contains("cannot be read"), "\(outcome)")
    }
}

/// Requests that may wait without end.
struct WaitingTests {
    private static let patience = TimeAmount.seconds(1)

    private func client(
        _ daemon: FakeDaemon, quietTime: Duration = .seconds(60), terminal: Terminal = .standard
    ) throws -> DaemonClient {
        let address = try DaemonAddress(#require(daemon.environment["WEAVE_HTTP_ADDR"]))
        return DaemonClient(address: address, terminal: terminal, timeout: Self.patience, quietTime: quietTime)
    }

    @Test("the usual time limit ends other requests, not those that may wait")
    func limit() async throws {
        let daemon = try await FakeDaemon { _ in nil }
        let client = try client(daemon)
        let error = await #expect(throws: CommandError.self) { try await client.send(.get("/status")) }
        #expect(error?.code == .failed)
        #expect(await FakeDaemon.soon { daemon.abandoned == 1 }, "the connection is closed with the request")
        let waiting = Task { try await client.send(.post("/attach", []).aboutAddresses(waitingFor: "it")) }
        // Longer than the limit by far.
        try await Task.sleep(for: .seconds(3))
        #expect(daemon.asked == ["GET /status", "POST /attach"])
        #expect(daemon.abandoned == 1, "\(daemon.abandoned) connections were closed")
        waiting.cancel()
        await #expect(throws: CommandError.self) { try await waiting.value }
        #expect(await FakeDaemon.soon { daemon.abandoned == 2 }, "the connection is closed with the request")
        await daemon.stop()
    }

    @Test("after a while it is said what is waited for, how allocation is, and how to look")
    func notice() async throws {
        let daemon = try await FakeDaemon { asked in
            asked.uri == "/status"
                ? (200, "        Service: ipam\n         Status: waiting for IP(s) to become available\n") : nil
        }
        let said = Mutex("")
        let terminal = Terminal { _, text in said.withLock { $0 += text } }
        let client = try client(daemon, quietTime: .milliseconds(50), terminal: terminal)
        let waiting = Task {
            try await client.send(.post("/attach", []).aboutAddresses(waitingFor: "net:default for web"))
        }
        #expect(await FakeDaemon.soon { said.withLock { !$0.isEmpty } })
        waiting.cancel()
        _ = await waiting.result
        await daemon.stop()
        let text = said.withLock { $0 }
        #expect(
            text.hasPrefix("weave: waiting for net:default for web (allocation: waiting for IP(s) to become available)")
        )
        #expect(text.contains("weave status ipam") && text.contains("weave ipam explain"))
        #expect(text.split(separator: "\n").count == 1)
    }

    @Test("a request that is answered in time is answered without a word")
    func quick() async throws {
        let daemon = try await FakeDaemon("10.32.0.1\n")
        let said = Mutex("")
        let terminal = Terminal { _, text in said.withLock { $0 += text } }
        let client = try client(daemon, quietTime: .seconds(3), terminal: terminal)
        let answer = try await client.send(.post("/attach", []).aboutAddresses(waitingFor: "it"))
        try await Task.sleep(for: .seconds(3.5))
        await daemon.stop()
        #expect(answer == "10.32.0.1\n" && said.withLock { $0 } == "" && daemon.asked == ["POST /attach"])
    }

    @Test("Ctrl-C closes the connection")
    func interrupt() async throws {
        let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let beside = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        let places = [URL(fileURLWithPath: own).deletingLastPathComponent(), beside]
        let binaries = places.map { $0.appendingPathComponent("weave") }
        guard let weave = binaries.first(where: { FileManager.default.isExecutableFile(atPath: $0.path) }) else {
            print("skipped: no weave beside \(own)")
            return
        }
        let daemon = try await FakeDaemon { _ in nil }
        let process = Process()
        process.executableURL = weave
        process.arguments = ["prime"]
        process.environment = daemon.environment
        try process.runUnmasked()
        let isAsked = await FakeDaemon.soon { daemon.asked == ["GET /ring"] }
        process.interrupt()
        let isClosed = await FakeDaemon.soon { daemon.abandoned == 1 && !process.isRunning }
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        await daemon.stop()
        #expect(isAsked && isClosed)
        #expect(process.terminationStatus != 0)
    }
}

/// What 'weave reset' does before it removes anything.
struct DepartureTests {
    private func depart(_ daemon: FakeDaemon, force: Bool) async throws -> String {
        let said = Mutex("")
        let terminal = Terminal { _, text in said.withLock { $0 += text } }
        let here = Surroundings(environment: daemon.environment, terminal: terminal)
        try await ResetCommand.depart(here, force: force)
        return said.withLock { $0 }
    }

    /// A process that passes for the daemon of the state directory.
    private func stand(in daemon: FakeDaemon) throws -> Process {
        let weaver = daemon.directory.url.appendingPathComponent("weaver")
        // A link, because what was just written may not be run while a child of another test holds it open.
        try FileManager.default.createSymbolicLink(atPath: weaver.path, withDestinationPath: "/bin/sleep")
        let process = Process()
        process.executableURL = weaver
        process.arguments = ["60"]
        try process.runUnmasked()
        let file = daemon.directory.url.appendingPathComponent("weaver.pid")
        try Data("\(process.processIdentifier)\n".utf8).write(to: file)
        return process
    }

    @Test(
        "a daemon that runs hands over, half a second passes, and it is stopped; forced it is only stopped",
        arguments: [false, true], [204, 404, 500])
    func running(force: Bool, status: Int) async throws {
        let pid = Mutex<Int32>(0)
        let daemon = try await FakeDaemon { asked in
            if asked.method == "DELETE" { return (status, status == 204 ? "" : "no heir\n") }
            return DaemonProcess(id: pid.withLock { $0 }).isRunning ? (200, "") : (500, "")
        }
        let process = try stand(in: daemon)
        pid.withLock { $0 = process.processIdentifier }
        let start = ContinuousClock.now
        let said = try await depart(daemon, force: force)
        let time = ContinuousClock.now - start
        #expect(!process.isRunning)
        await daemon.stop()
        #expect(daemon.asked.filter { $0.hasPrefix("DELETE") } == (force ? [] : ["DELETE /peer"]))
        if !force, status == 204 { #expect(time >= ResetCommand.pause) }
        #expect(said.contains("were not handed over (no heir)") == (!force && status == 500), "\(said)")
        if status != 500 || force { #expect(said == "") }
    }

    @Test("state that nobody has taken over is kept, unless forced")
    func stopped() async throws {
        let daemon = try await FakeDaemon()
        await daemon.stop()
        #expect(try await depart(daemon, force: false) == "", "a host that was never launched has nothing to lose")
        try Data().write(to: daemon.directory.url.appendingPathComponent("weavedata.sqlite"))
        let error = await #expect(throws: CommandError.self) { try await depart(daemon, force: false) }
        #expect(error?.code == .failed)
        #expect(error?.message.hasPrefix("weave is not running; unable to remove from cluster.") == true)
        #expect(error?.message.contains("--force") == true)
        #expect(try await depart(daemon, force: true) == "")
    }

    @Test("a daemon that others started is left alone", arguments: [false, true])
    func foreign(force: Bool) async throws {
        let daemon = try await FakeDaemon()
        let error = await #expect(throws: CommandError.self) { try await depart(daemon, force: force) }
        await daemon.stop()
        #expect(error?.message.contains("stop it where it was started") == true)
        #expect(!daemon.asked.contains("DELETE /peer"))
    }
}
