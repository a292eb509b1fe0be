import WeaveCore
import WeaveMesh

/// A request to the control interface, free of any HTTP library.
struct ControlRequest: Sendable {
    var method: String
    /// Without the query.
    var path: String
    var query = FormFields()
    /// The fields of the body; empty when it is no form.
    var form = FormFields()
    var accept: String?
    /// Set by browsers when a page of theirs makes the request.
    var origin: String?
}

/// The answer to a `ControlRequest`.
struct ControlResponse: Sendable, Equatable {
    var status: Int
    var contentType: String
    var body: String

    static let plainText = "text/plain; charset=utf-8"

    static func text(_ body: String) -> ControlResponse { .init(status: 200, contentType: plainText, body: body) }

    static let done = ControlResponse(status: 200, contentType: plainText, body: "")

    static func failure(_ status: Int, _ message: String) -> ControlResponse {
        .init(status: status, contentType: plainText, body: message + "\n")
    }
}

/// Which endpoints a listener serves.
enum ControlScope: Sendable {
    /// Everything.
    case control
    /// Status, report and metrics.
    case status
    /// Metrics alone.
    case metrics
}

/// The endpoints: paths, methods and success codes are those of 2.8.1, with `/attach` and `/detach` added.
struct ControlRoutes: Sendable {
    let control: any DaemonControl
    let scope: ControlScope

    /// The longest list of peers in one request.
    static let maximumPeers = 1024

    func respond(to request: ControlRequest) async -> ControlResponse {
        // A web page can make a browser on this host send forms here; no client of this interface sends this header.
        guard request.origin == nil else { return .failure(403, "requests from web pages are refused") }
        guard let endpoint = Endpoint(path: request.path), endpoint.isServed(in: scope) else {
            return .failure(404, "404 page not found")
        }
        guard request.method == endpoint.method else {
            return .init(status: 405, contentType: ControlResponse.plainText, body: "")
        }
        do {
            return try await respond(endpoint, request)
        } catch let error as DaemonError {
            return .failure(error.code == .system ? 500 : 400, error.message)
        } catch {
            return .failure(500, "\(error)")
        }
    }

    private func respond(_ endpoint: Endpoint, _ request: ControlRequest) async throws -> ControlResponse {
        switch endpoint {
        case .status: return .text(StatusText(status: await control.status()).summary)
        case .connections: return .text(StatusText(status: await control.status()).connections)
        case .peers: return .text(StatusText(status: await control.status()).peers)
        case .targets: return .text(StatusText(status: await control.status()).targets)
        case .report: return try await report(request)
        case .metrics:
            let metrics = MetricsText(status: await control.status(), process: .current())
            return .init(status: 200, contentType: MetricsText.contentType, body: metrics.body)
        case .connect: return try await connect(fields(request))
        case .forget:
            try await control.forget(peers(fields(request)))
            return .done
        case .attach:
            let order = try AttachOrder(form: fields(request), needsAddress: true)
            try await control.attach(order)
            return .text(Self.plainAddresses(order.addresses))
        case .detach:
            let order = try AttachOrder(form: fields(request), needsAddress: false)
            return .text(Self.plainAddresses(try await control.detach(order)))
        }
    }

    private func report(_ request: ControlRequest) async throws -> ControlResponse {
        let formats = request.query.all("format")
        guard formats.count <= 1 else { throw DaemonError(.badRequest, "error: must supply one format parameter") }
        let template = try formats.first.map { text throws(DaemonError) in try ReportTemplate(text) }
        let report = StatusReport(status: await control.status()).value
        if let template, request.accept != "application/json" { return .text(try template.render(report)) }
        return .init(status: 200, contentType: "application/json", body: report.indented)
    }

    private func connect(_ form: FormFields) async throws -> ControlResponse {
        let replace = ["true", "1", "t", "T", "TRUE", "True"].contains(form.only("replace"))
        let list = try peers(form)
        guard replace || !list.isEmpty else { throw DaemonError(.badRequest, "give at least one peer") }
        let complaints = try await control.connect(list, replace: replace)
        return complaints.isEmpty ? .done : .failure(400, complaints.map(printable).joined(separator: "\n"))
    }

    private func peers(_ form: FormFields) throws -> [String] {
        let list = form.all("peer")
        guard list.count <= Self.maximumPeers else {
            throw DaemonError(.badRequest, "more than \(Self.maximumPeers) peers in one request")
        }
        return list
    }

    private func fields(_ request: ControlRequest) -> FormFields {
        var all = request.query
        all.append(request.form)
        return all
    }

    /// `10.32.0.1 10.33.0.1`: what 2.8.1 prints after attaching and detaching.
    private static func plainAddresses(_ addresses: [IPv4CIDR]) -> String {
        addresses.isEmpty ? "" : addresses.map { "\($0.address)" }.joined(separator: " ") + "\n"
    }

    private enum Endpoint {
        case status, connections, peers, targets, report, metrics, connect, forget, attach, detach

        init?(path: String) {
            switch path {
            case "/status": self = .status
            case "/status/connections": self = .connections
            case "/status/peers": self = .peers
            case "/status/targets": self = .targets
            case "/report": self = .report
            case "/metrics": self = .metrics
            case "/connect": self = .connect
            case "/forget": self = .forget
            case "/attach": self = .attach
            case "/detach": self = .detach
            default: return nil
            }
        }

        var method: String {
            switch self {
            case .status, .connections, .peers, .targets, .report, .metrics: "GET"
            case .connect, .forget, .attach, .detach: "POST"
            }
        }

        func isServed(in scope: ControlScope) -> Bool {
            switch scope {
            case .control: true
            case .status: method == "GET"
            case .metrics: self == .metrics
            }
        }
    }
}
