import AsyncHTTPClient
import NIOCore
import NIOHTTP1

/// Talks to the daemon's control interface.
struct DaemonClient: Sendable {
    let address: DaemonAddress
    var terminal = Terminal.standard
    /// Detaching takes a fraction of a second; resolving the names of peers can take some.
    var timeout = TimeAmount.seconds(60)
    /// After how long it is said what a request waits for that may wait without end.
    var quietTime = Duration.seconds(5)

    /// The report of the largest mesh that 2.8.1 was run with is a few megabytes.
    static let maximumAnswer = 64 << 20

    /// - Throws: `CommandError` when the daemon does not answer, or refuses.
    func get(_ path: String, accept: String? = nil) async throws(CommandError) -> String {
        var request = DaemonRequest.get(path)
        request.accept = accept
        return try await send(request)
    }

    /// Sends fields as a form.
    ///
    /// - Throws: `CommandError` when the daemon does not answer, or refuses.
    func post(_ path: String, _ fields: [(name: String, value: String)]) async throws(CommandError) -> String {
        try await send(.post(path, fields))
    }

    /// Whether somebody answers the status page.
    func isReady() async -> Bool { (try? await get("/status")) != nil }

    /// - Throws: `CommandError` when the daemon does not answer, or refuses.
    func send(_ request: DaemonRequest) async throws(CommandError) -> String {
        let notice = request.wait.map { wait in Task { await complain(waitingFor: wait) } }
        defer { notice?.cancel() }
        let (status, body) = try await exchange(request)
        guard (200..<300).contains(status.code) else { throw refusal(of: request, status, body) }
        return body
    }

    private func exchange(_ request: DaemonRequest) async throws(CommandError) -> (HTTPResponseStatus, String) {
        do {
            let mayWait = request.wait != nil
            var configuration = HTTPClient.Configuration(
                timeout: .init(connect: .seconds(3), read: mayWait ? nil : timeout))
            // A daemon that refuses is not running; trying on would only keep people waiting.
            configuration.connectionPool.retryConnectionEstablishment = false
            // The daemon is here: no proxy stands between.
            configuration.proxy = nil
            let client = HTTPClient(eventLoopGroup: HTTPClient.defaultEventLoopGroup, configuration: configuration)
            do {
                let deadline: NIODeadline = mayWait ? .distantFuture : .now() + timeout
                let response = try await client.execute(http(request), deadline: deadline)
                let body = String(buffer: try await response.body.collect(upTo: Self.maximumAnswer))
                try await client.shutdown()
                return (response.status, body)
            } catch {
                try? await client.shutdown()
                throw error
            }
        } catch {
            throw CommandError(unreachable(error))
        }
    }

    private func http(_ request: DaemonRequest) -> HTTPClientRequest {
        var http = HTTPClientRequest(url: address.url(request.path))
        http.method = request.method
        if let accept = request.accept { http.headers.add(name: "Accept", value: accept) }
        if let fields = request.fields {
            http.headers.add(name: "Content-Type", value: "application/x-www-form-urlencoded")
            let form = fields.map { "\(formEncoded($0.name))=\(formEncoded($0.value))" }.joined(separator: "&")
            http.body = .bytes(ByteBuffer(string: form))
        }
        return http
    }

    /// Says what is waited for once the usual time is over.
    private func complain(waitingFor wait: String) async {
        guard (try? await Task.sleep(for: quietTime)) != nil else { return }
        let page = try? await get("/status")
        guard !Task.isCancelled else { return }
        let state = page.flatMap(AllocationStatus.text(in:)).map { " (allocation: \($0))" } ?? ""
        terminal.complain(
            "weave: waiting for \(wait)\(state). 'weave status ipam' and 'weave ipam explain' show what it takes; "
                + "Ctrl-C gives up.")
    }

    private func unreachable(_ error: any Error) -> String {
        let cause = String(describing: error)
        if cause.lowercased().contains("permission denied") || cause.contains("errno: 13") {
            return "no permission to talk to the daemon at \(address); run this as root"
        }
        return "the daemon does not answer at \(address). Start it with 'weave launch', or say where it is with "
            + "WEAVE_HTTP_ADDR. (\(cause))"
    }

    private func refusal(of request: DaemonRequest, _ status: HTTPResponseStatus, _ body: String) -> CommandError {
        var text = body
        while text.hasSuffix("\n") { text.removeLast() }
        if status == .notFound {
            text =
                request.isAboutAddresses
                ? AllocationStatus.off : "the daemon at \(address) does not offer this (\(text))"
        }
        return CommandError(text.isEmpty ? "the daemon at \(address) answers \(status.code)" : text)
    }
}
