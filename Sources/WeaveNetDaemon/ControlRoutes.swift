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
    /// Whom the client thinks it talks to, perhaps with a port; nil when it does not say.
    var host: String?
    /// Set by browsers when a page of theirs makes the request.
    var origin: String?

    /// The fields of query and body.
    var fields: FormFields {
        var all = query
        all.append(form)
        return all
    }
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

/// The endpoints: paths, methods and success codes are those of 2.8.1, with `/attach`, `/detach`, `/expose` and `/hide`
/// added.
struct ControlRoutes: Sendable {
    let control: any DaemonControl
    let scope: ControlScope
    /// Whom clients may call; nil for anybody.
    var hostNames: HostNames?

    /// The longest list of peers in one request.
    static let maximumPeers = 1024

    func respond(to request: ControlRequest) async -> ControlResponse {
        // A web page can make a browser on this host send forms here; no client of this interface sends this header.
        guard request.origin == nil else { return .failure(403, "requests from web pages are refused") }
        // Nor is it called by a name that somebody else's name server made up for this host.
        if let host = request.host, let complaint = hostNames?.complaint(about: host) {
            return .failure(403, complaint)
        }
        do {
            guard let endpoint = Endpoint(path: request.path), endpoint.isServed(in: scope) else {
                return try await respondElsewhere(request)
            }
            guard request.method == endpoint.method else { return AddressRoutes.wrongMethod }
            return try await respond(endpoint, request)
        } catch let error as DaemonError {
            return .failure(Self.status(of: error.code), error.message)
        } catch {
            return .failure(500, "\(error)")
        }
    }

    private static func status(of code: DaemonError.Code) -> Int {
        switch code {
        case .system: 500
        case .usage, .badRequest: 400
        case .conflict: 409
        case .cancelled: 503
        }
    }

    /// Whether the request may wait for something that other hosts or containers do.
    static func mayWait(_ request: ControlRequest) -> Bool {
        switch request.method {
        case "POST", "PUT": request.path.hasPrefix("/ip/") || ["/attach", "/expose"].contains(request.path)
        default: request.path == "/ring"
        }
    }

    /// What addresses have of endpoints, when they are allocated here.
    private func respondElsewhere(_ request: ControlRequest) async throws -> ControlResponse {
        if scope == .control {
            guard let addresses = control.addresses else {
                // Leaving is done when there is nothing to leave.
                if request.path == "/peer", request.method == "DELETE" { return AddressRoutes.noContent }
                return .failure(404, "404 page not found")
            }
            if let answer = try await AddressRoutes(addresses: addresses).respond(to: request) { return answer }
        }
        return .failure(404, "404 page not found")
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
        case .connect: return try await connect(request.fields)
        case .forget:
            try await control.forget(peers(request.fields))
            return .done
        case .attach:
            return .text(Self.plainAddresses(try await control.attach(try AttachOrder(form: request.fields))))
        case .detach:
            return .text(Self.plainAddresses(try await control.detach(try AttachOrder(form: request.fields))))
        case .expose:
            let words = try AddressWord.list(request.fields.all("address"))
            let isMasqueraded = !request.fields.isOn("without-masquerade")
            return .text(Self.plainAddresses(try await control.expose(words, masquerade: isMasqueraded)))
        case .hide:
            let words = try AddressWord.list(request.fields.all("address"))
            return .text(Self.plainAddresses(try await control.hide(words)))
        case .addresses:
            guard let addresses = await control.status().addresses else {
                return .failure(404, "address allocation is off (--ipalloc-range is empty)")
            }
            return .text(addresses.owners)
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
        let replace = form.isOn("replace")
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

    /// `10.32.0.1 10.33.0.1`: what 2.8.1 prints after attaching and detaching.
    private static func plainAddresses(_ addresses: [IPv4CIDR]) -> String {
        addresses.isEmpty ? "" : addresses.map { "\($0.address)" }.joined(separator: " ") + "\n"
    }

    private enum Endpoint {
        case status, connections, peers, targets, report, metrics, connect, forget, attach, detach, expose, hide
        case addresses

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
            case "/expose": self = .expose
            case "/hide": self = .hide
            case "/status/ipam": self = .addresses
            default: return nil
            }
        }

        var method: String {
            switch self {
            case .status, .connections, .peers, .targets, .addresses, .report, .metrics: "GET"
            case .connect, .forget, .attach, .detach, .expose, .hide: "POST"
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
