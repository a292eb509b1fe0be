import AsyncHTTPClient
import NIOCore
import NIOHTTP1

/// Talks to the daemon's control interface.
struct DaemonClient: Sendable {
    let address: DaemonAddress

    /// Attaching takes a fraction of a second; resolving the names of peers can take some.
    static let timeout = TimeAmount.seconds(60)
    /// The report of the largest mesh that 2.8.1 was run with is a few megabytes.
    static let maximumAnswer = 64 << 20

    /// - Throws: `CommandError` when the daemon does not answer, or refuses.
    func get(_ path: String, accept: String? = nil) async throws(CommandError) -> String {
        var request = HTTPClientRequest(url: address.url(path))
        if let accept { request.headers.add(name: "Accept", value: accept) }
        return try await send(request)
    }

    /// Sends fields as a form.
    ///
    /// - Throws: `CommandError` when the daemon does not answer, or refuses.
    func post(_ path: String, _ fields: [(name: String, value: String)]) async throws(CommandError) -> String {
        var request = HTTPClientRequest(url: address.url(path))
        request.method = .POST
        request.headers.add(name: "Content-Type", value: "application/x-www-form-urlencoded")
        let form = fields.map { "\(formEncoded($0.name))=\(formEncoded($0.value))" }.joined(separator: "&")
        request.body = .bytes(ByteBuffer(string: form))
        return try await send(request)
    }

    /// Whether somebody answers the status page.
    func isReady() async -> Bool { (try? await get("/status")) != nil }

    private func send(_ request: HTTPClientRequest) async throws(CommandError) -> String {
        let status: HTTPResponseStatus
        let body: String
        do {
            var configuration = HTTPClient.Configuration(
                timeout: .init(connect: .seconds(3), read: Self.timeout))
            // A daemon that refuses is not running; trying on would only keep people waiting.
            configuration.connectionPool.retryConnectionEstablishment = false
            // The daemon is here: no proxy stands between.
            configuration.proxy = nil
            let client = HTTPClient(eventLoopGroup: HTTPClient.defaultEventLoopGroup, configuration: configuration)
            do {
                let response = try await client.execute(request, timeout: Self.timeout)
                status = response.status
                body = String(buffer: try await response.body.collect(upTo: Self.maximumAnswer))
            } catch {
                try await client.shutdown()
                throw error
            }
            try await client.shutdown()
        } catch {
            throw CommandError(unreachable(error))
        }
        guard (200..<300).contains(status.code) else { throw refusal(status, body) }
        return body
    }

    private func unreachable(_ error: any Error) -> String {
        let cause = String(describing: error)
        if cause.lowercased().contains("permission denied") || cause.contains("errno: 13") {
            return "no permission to talk to the daemon at \(address); run this as root"
        }
        return "the daemon does not answer at \(address). Start it with 'weave launch', or say where it is with "
            + "WEAVE_HTTP_ADDR. (\(cause))"
    }

    private func refusal(_ status: HTTPResponseStatus, _ body: String) -> CommandError {
        var text = body
        while text.hasSuffix("\n") { text.removeLast() }
        if status == .notFound { text = "the daemon at \(address) does not offer this (\(text))" }
        return CommandError(text.isEmpty ? "the daemon at \(address) answers \(status.code)" : text)
    }
}
