import AsyncHTTPClient
import Foundation
import Logging
import NIOCore
import NIOHTTP1
import ServiceLifecycle
import Testing

@testable import WeaveNetDaemon

/// The control interface over real sockets.
@Suite(.serialized)
struct ControlServerTests {
    private let control = FakeControl()
    private let directory: TemporaryDirectory
    private let quiet = Logger(label: "test") { _ in DaemonLog(level: .critical) { _ in } }

    init() throws { directory = try TemporaryDirectory() }

    private var socket: String { directory.path("s") }

    private func server(_ address: ListenAddress) -> ControlServer {
        ControlServer(
            address: address,
            routes: ControlRoutes(control: control, scope: .control, hostNames: HostNames(["box"])), logger: quiet)
    }

    /// Serves on the Unix socket while `body` runs.
    private func serving(_ body: () async throws -> Void) async throws {
        let group = ServiceGroup(
            configuration: .init(services: [.init(service: server(.unix(path: socket)))], logger: quiet))
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            for _ in 0..<500 where !isListening { try await Task.sleep(for: .milliseconds(10)) }
            try await body()
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
    }

    private var isListening: Bool {
        let mode = (try? FileManager.default.attributesOfItem(atPath: socket))?[.posixPermissions] as? NSNumber
        return mode?.intValue == 0o600
    }

    private struct Answer: Equatable {
        var status: UInt
        var body: String

        init(_ status: UInt, _ body: String) {
            self.status = status
            self.body = body
        }
    }

    private func ask(
        _ method: String, _ path: String, body: String? = nil, headers: [String: String] = [:]
    ) async throws -> Answer {
        let url = try #require(URL(httpURLWithSocketPath: socket, uri: path))
        var request = HTTPClientRequest(url: url.absoluteString)
        request.method = .init(rawValue: method)
        for (name, value) in headers { request.headers.add(name: name, value: value) }
        if let body {
            request.headers.replaceOrAdd(name: "content-type", value: "application/x-www-form-urlencoded")
            request.body = .bytes(ByteBuffer(string: body))
        }
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(10))
        return Answer(response.status.code, String(buffer: try await response.body.collect(upTo: 1 << 20)))
    }

    @Test("a Unix socket serves, is private to its owner and goes at the end")
    func unixSocket() async throws {
        try await serving {
            #expect(isListening)
            let status = try await ask("GET", "/status")
            #expect(status == Answer(200, StatusText(status: Sample.status()).summary))
            let connect = try await ask("POST", "/connect", body: "peer=a&replace=true")
            #expect(connect == Answer(200, ""))
            #expect(await control.calls == [#"connect ["a"] true"#])
            let unknown = try await ask("GET", "/nothing")
            #expect(unknown == Answer(404, "404 page not found\n"))
            let wrongMethod = try await ask("DELETE", "/status")
            #expect(wrongMethod == Answer(405, ""))
            let fromWebPage = try await ask("POST", "/forget", body: "peer=a", headers: ["Origin": "http://x"]).status
            #expect(fromWebPage == 403)
            let rebound = try await ask("GET", "/report", headers: ["Host": "evil.example"])
            #expect(rebound.status == 403 && rebound.body.contains("--http-host evil.example"))
            let named = try await ask("GET", "/report", headers: ["Host": "box:6784"]).status
            #expect(named == 200)
        }
        #expect(!FileManager.default.fileExists(atPath: socket))
    }

    @Test("bodies are taken up to the limit and refused above it")
    func limits() async throws {
        try await serving {
            let prefix = "peer=a&x="
            let room = ControlServer.maximumBody - prefix.utf8.count
            let atLimit = try await ask("POST", "/forget", body: prefix + String(repeating: "y", count: room)).status
            #expect(atLimit == 200)
            let aboveLimit = try await ask("POST", "/forget", body: prefix + String(repeating: "y", count: room + 1))
                .status
            #expect(aboveLimit == 413)
            let fields = Array(repeating: "a", count: FormFields.maximumFields + 1).joined(separator: "&")
            let tooManyFields = try await ask("POST", "/forget", body: fields).status
            #expect(tooManyFields == 400)
            let afterwards = try await ask("GET", "/status").status
            #expect(afterwards == 200)
        }
    }

    @Test("a socket left by a crash is replaced, a file of somebody else is not")
    func stale() async throws {
        let left = try #require(UnixSocketFile(path: socket))
        left.abandon()
        try await serving {
            let inPlace = try await ask("GET", "/status").status
            #expect(inPlace == 200)
        }

        let file = directory.path("file")
        try Data("precious".utf8).write(to: URL(fileURLWithPath: file))
        await #expect(throws: DaemonError.self) { try await server(.unix(path: file)).run() }
        #expect(FileManager.default.contents(atPath: file) == Data("precious".utf8))
    }

    @Test("only a loopback socket that a stranger reaches counts as smuggled")
    func smuggled() throws {
        func address(_ text: String) throws -> SocketAddress { try SocketAddress(ipAddress: text, port: 1) }
        #expect(try ControlContext.isSmuggled(local: address("127.0.0.1"), remote: address("10.0.0.9")))
        #expect(try ControlContext.isSmuggled(local: address("::1"), remote: address("fd00::9")))
        #expect(try !ControlContext.isSmuggled(local: address("127.0.0.1"), remote: address("127.0.0.1")))
        #expect(try !ControlContext.isSmuggled(local: address("10.0.0.1"), remote: address("10.0.0.9")))
        #expect(!ControlContext.isSmuggled(local: nil, remote: nil))
    }
}
