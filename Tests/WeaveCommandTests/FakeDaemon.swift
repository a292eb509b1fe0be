import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

@testable import WeaveCommand

/// Something that answers on a Unix socket as the daemon would, and keeps what it was asked.
final class FakeDaemon: Sendable {
    struct Asked: Sendable, Equatable, CustomStringConvertible {
        var method: String
        var uri: String
        var body: String

        var description: String { body.isEmpty ? "\(method) \(uri)" : "\(method) \(uri) \(body)" }
    }

    struct Outcome: Sendable, Equatable {
        var status: Int32
        var output: String
        var error: String
    }

    /// Status and body; nil never answers.
    typealias Answer = @Sendable (Asked) -> (status: Int, body: String)?

    let directory: TemporaryDirectory
    private let channel: any Channel
    private let record: Record

    /// What was asked, and how many connections closed while it was being answered.
    final class Record: Sendable {
        private let state = Mutex<(asked: [Asked], abandoned: Int)>(([], 0))

        var asked: [Asked] { state.withLock { $0.asked } }
        var abandoned: Int { state.withLock { $0.abandoned } }

        func ask(_ asked: Asked) { state.withLock { $0.asked.append(asked) } }
        func abandon() { state.withLock { $0.abandoned += 1 } }
    }

    init(_ answer: @escaping Answer) async throws {
        let directory = try TemporaryDirectory()
        let record = Record()
        self.directory = directory
        self.record = record
        channel = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .childChannelInitializer { channel in
                channel.pipeline.configureHTTPServerPipeline().flatMapThrowing {
                    try channel.pipeline.syncOperations.addHandler(FakeDaemonHandler(answer: answer, record: record))
                }
            }
            .bind(unixDomainSocketPath: directory.url.appendingPathComponent("d").path).get()
    }

    convenience init(_ body: String = "", status: Int = 200) async throws {
        try await self.init { _ in (status, body) }
    }

    func stop() async { try? await channel.close() }

    var asked: [String] { record.asked.map(\.description) }
    var abandoned: Int { record.abandoned }

    var environment: [String: String] {
        [
            "WEAVE_HTTP_ADDR": directory.url.appendingPathComponent("d").path,
            "WEAVE_STATE_DIR": directory.url.path,
        ]
    }

    /// Runs `weave` with these words against this daemon.
    func run(_ words: String...) async -> Outcome { await run(words) }

    func run(_ words: [String]) async -> Outcome {
        let said = Mutex<(output: String, error: String)>(("", ""))
        let terminal = Terminal { stream, text in
            said.withLock { if stream == .output { $0.output += text } else { $0.error += text } }
        }
        let here = Surroundings(environment: environment, terminal: terminal)
        let status = await WeaveMain.status(of: words, in: here)
        let (output, error) = said.withLock { $0 }
        return Outcome(status: status, output: output, error: error)
    }

    /// Whether a condition holds within a minute: on a machine with other work a program takes its time to start.
    static func soon(_ condition: () -> Bool) async -> Bool {
        for _ in 0..<6000 {
            if condition() { return true }
            try? await Task.sleep(for: .milliseconds(10))
        }
        return condition()
    }
}

private final class FakeDaemonHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    let answer: FakeDaemon.Answer
    let record: FakeDaemon.Record
    private var current = FakeDaemon.Asked(method: "", uri: "", body: "")
    private var isAnswering = false

    init(answer: @escaping FakeDaemon.Answer, record: FakeDaemon.Record) {
        self.answer = answer
        self.record = record
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): current = .init(method: head.method.rawValue, uri: head.uri, body: "")
        case .body(let bytes): current.body += String(buffer: bytes)
        case .end:
            record.ask(current)
            guard let (status, body) = answer(current) else {
                isAnswering = true
                return
            }
            let headers = HTTPHeaders([("Content-Length", "\(body.utf8.count)")])
            let head = HTTPResponseHead(version: .http1_1, status: .init(statusCode: status), headers: headers)
            context.write(wrapOutboundOut(.head(head)), promise: nil)
            context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: body)))), promise: nil)
            context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        if isAnswering { record.abandon() }
        context.fireChannelInactive()
    }
}

extension Process {
    /// Runs it with all signals let through, which the threads that tests run on block.
    func runUnmasked() throws {
        var (all, before) = (sigset_t(), sigset_t())
        unsafe sigemptyset(&all)
        unsafe pthread_sigmask(SIG_SETMASK, &all, &before)
        defer { unsafe pthread_sigmask(SIG_SETMASK, &before, nil) }
        try run()
    }
}
