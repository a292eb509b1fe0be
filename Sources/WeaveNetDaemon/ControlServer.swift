import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import ServiceLifecycle
import WeaveMesh

/// Serves `ControlRoutes` over HTTP, on TCP or on a Unix socket.
struct ControlServer: Service {
    let address: ListenAddress
    let routes: ControlRoutes
    let logger: Logger

    /// Forms are short; a long one is cut off with 413.
    static let maximumBody = 64 * 1024
    /// Scripts and monitors hold few connections; more wait in the backlog.
    static let maximumConnections = 128
    /// A client that says nothing gives its place up.
    static let idleTimeout = TimeAmount.seconds(60)
    /// Headers of this interface are tiny.
    static let maximumHeader = 16 * 1024

    func run() async throws {
        if case .unix(let path) = address { try Self.removeStaleSocket(path) }
        defer { if case .unix(let path) = address { try? FileManager.default.removeItem(atPath: path) } }
        let address = address
        let logger = logger
        let application = Application(
            responder: ControlResponder(routes: routes, logger: logger),
            server: .http1(
                configuration: .init(
                    idleTimeout: Self.idleTimeout,
                    httpDecoderConfiguration: .init(
                        maxHeaderFieldSize: Self.maximumHeader, maxHeaderListSize: Self.maximumHeader,
                        maxHeaderFieldCount: 100))),
            configuration: .init(
                address: address.bindAddress,
                availableConnectionsDelegate: MaximumAvailableConnections(Self.maximumConnections)),
            onServerRunning: { listener in
                try? await listener.pipeline.addHandler(
                    AcceptPauseHandler { error in
                        logger.warning(
                            "Cannot accept an HTTP connection on \(address): \(error); who asks waits for descriptors")
                    }, position: .first)
                if case .unix(let path) = address {
                    // The interface has no password: whoever can write to the socket rules the daemon.
                    try? FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
                }
                logger.info("Listening for HTTP \(routes.scope) messages on \(address)")
            },
            logger: quietLogger)
        do {
            try await application.run()
        } catch let error as IOError {
            throw DaemonError(.system, "cannot listen for HTTP on \(address): \(error)")
        }
    }

    /// The server's own lines (one for each start and stop) say less than ours.
    private var quietLogger: Logger {
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .error)
        return quiet
    }

    /// A socket left by a daemon that crashed is in the way of the next; anything but a socket is somebody's file.
    private static func removeStaleSocket(_ path: String) throws {
        guard let attributes = try? FileManager.default.attributesOfItem(atPath: path) else { return }
        guard attributes[.type] as? FileAttributeType == .typeSocket else {
            throw DaemonError(.system, "cannot listen on \(path): it exists and is no socket")
        }
        try FileManager.default.removeItem(atPath: path)
    }
}

extension ListenAddress {
    fileprivate var bindAddress: BindAddress {
        switch self {
        case .tcp(let host, let port): .hostname(host, port: port)
        case .unix(let path): .unixDomainSocket(path: path)
        }
    }
}

/// Where a request came from, beside what the HTTP library needs.
struct ControlContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    /// True when the connection came to a loopback address from another host, as a neighbour can make happen while
    /// `route_localnet` is on.
    let isSmuggled: Bool

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        isSmuggled = Self.isSmuggled(local: source.channel.localAddress, remote: source.channel.remoteAddress)
    }

    static func isSmuggled(local: SocketAddress?, remote: SocketAddress?) -> Bool {
        guard let local = local?.ipAddress, let remote = remote?.ipAddress else { return false }
        return isLoopback(local) && !isLoopback(remote) && local != remote
    }

    private static func isLoopback(_ address: String) -> Bool {
        address.hasPrefix("127.") || address == "::1" || address.hasPrefix("::ffff:127.")
    }
}

/// Translates between the HTTP library and `ControlRoutes`.
struct ControlResponder: HTTPResponder {
    let routes: ControlRoutes
    let logger: Logger

    func respond(to request: Request, context: ControlContext) async throws -> Response {
        guard !context.isSmuggled else { return Self.response(.failure(403, "not from another host")) }
        logger.debug("[http] \(request.method.rawValue) \(printable(request.uri.path))")
        do {
            var request = request
            let translated = try await Self.translate(&request)
            guard ControlRoutes.mayWait(translated) else { return Self.response(await routes.respond(to: translated)) }
            return Self.response(try await untilTheClientLeaves(request) { await routes.respond(to: translated) })
        } catch let error as DaemonError {
            return Self.response(.failure(400, error.message))
        } catch is NIOTooManyBytesError {
            return Self.response(.failure(413, "the request is longer than \(ControlServer.maximumBody) bytes"))
        }
    }

    /// How long a request may take before somebody looks whether its client is still there.
    private static let promptly: Duration = .milliseconds(200)

    /// Cancels `work` when the connection closes. Most requests are answered promptly, and keep their connection.
    private func untilTheClientLeaves(
        _ request: Request, _ work: @escaping @Sendable () async -> ControlResponse
    ) async throws -> ControlResponse {
        let (events, continuation) = AsyncStream.makeStream(of: ControlResponse?.self)
        let answer = Task {
            let answer = await work()
            continuation.yield(answer)
            return answer
        }
        return try await withTaskCancellationHandler {
            let timer = Task {
                if (try? await Task.sleep(for: Self.promptly)) != nil { continuation.yield(nil) }
            }
            defer { timer.cancel() }
            for await event in events {
                if let event { return event }
                break
            }
            return try await request.body.consumeWithInboundCloseHandler { _ in
                await answer.value
            } onInboundClosed: {
                answer.cancel()
            }
        } onCancel: {
            answer.cancel()
        }
    }

    private static func translate(_ request: inout Request) async throws -> ControlRequest {
        let body = try await request.collectBody(upTo: ControlServer.maximumBody)
        let type = request.headers[.contentType]?.lowercased() ?? ""
        let isForm = type.isEmpty || type.hasPrefix("application/x-www-form-urlencoded")
        return ControlRequest(
            method: request.method.rawValue, path: request.uri.path,
            query: try FormFields(request.uri.query ?? ""),
            form: isForm ? try FormFields(String(buffer: body)) : FormFields(),
            accept: request.headers[.accept], host: request.head.authority, origin: request.headers[.origin])
    }

    private static func response(_ answer: ControlResponse) -> Response {
        var headers = HTTPFields()
        if !answer.body.isEmpty { headers[.contentType] = answer.contentType }
        return Response(
            status: .init(code: answer.status), headers: headers,
            body: .init(byteBuffer: ByteBuffer(string: answer.body)))
    }
}
