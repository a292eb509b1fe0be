import WeaveCore
import WeaveIPAM

/// The endpoints of address allocation: paths, methods and bodies are those of 2.8.1, but for cancelled requests, which
/// are no success here.
struct AddressRoutes: Sendable {
    let addresses: any AddressControl

    /// Names that addresses are filed under are ids of containers; longer ones are a mistake.
    static let maximumIdent = 1024

    /// The answer; nil when the path is none of these.
    func respond(to request: ControlRequest) async throws -> ControlResponse? {
        var path = request.path.split(separator: "/", omittingEmptySubsequences: false).map(FormFields.decode)[...]
        guard path.popFirst() == "", let room = path.popFirst() else { return nil }
        switch (room, Array(path)) {
        case ("ipinfo", ["defaultsubnet"]): return try get(request) { .text("\(addresses.defaultSubnet)") }
        case ("ipinfo", ["tracker"]): return try get(request) { .text("\n") }
        case ("ring", []):
            guard request.method == "GET" else { return Self.wrongMethod }
            await addresses.prime()
            if Task.isCancelled { throw DaemonError(.cancelled, "cancelled") }
            return .done
        case ("ip", []):
            guard request.method == "GET" else { return Self.wrongMethod }
            return Self.list(await addresses.owned())
        case ("ip", let rest) where rest.count <= 3: return try await respond(rest, request)
        case ("ipam", ["explain"]):
            guard request.method == "GET" else { return Self.wrongMethod }
            return .text(await addresses.explain().lines.map { printable($0) + "\n" }.joined())
        case ("ipam", ["repair"]):
            guard request.method == "POST" else { return Self.wrongMethod }
            return try await repair(request.fields)
        case ("peer", []):
            guard request.method == "DELETE" else { return Self.wrongMethod }
            await addresses.leave()
            return Self.noContent
        case ("peer", let rest) where rest.count == 1:
            guard request.method == "DELETE" else { return Self.wrongMethod }
            let count = try await addresses.takeOver(rest[0], isForced: request.fields.isOn("force"))
            return .text("\(count) IPs taken over from \(printable(rest[0]))\n")
        default: return nil
        }
    }

    /// `/ip/{ident}`, `/ip/{ident}/{address}` and `/ip/{ident}/{address}/{prefix length}`.
    private func respond(_ rest: [String], _ request: ControlRequest) async throws -> ControlResponse {
        let ident = rest[0]
        guard !ident.isEmpty, ident.utf8.count <= Self.maximumIdent, ident == printable(ident) else {
            throw DaemonError(.badRequest, "'\(printable(String(ident.prefix(64))))' cannot name a container")
        }
        let isContainer = request.fields.isOn("check-alive")
        switch (request.method, rest.count) {
        case ("GET", 1): return Self.texts(await addresses.lookup(ident, in: addresses.defaultSubnet.hostRange))
        case ("GET", 3): return Self.texts(await addresses.lookup(ident, in: try subnet(rest).hostRange))
        case ("POST", 1), ("POST", 3):
            let subnet = rest.count == 1 ? addresses.defaultSubnet : try subnet(rest)
            return .text("\(try await addresses.allocate(ident, subnet: subnet, isContainer: isContainer))")
        case ("PUT", 3):
            let cidr = try parsed { () throws(IPAMError) in try IPv4CIDR.parse("\(rest[1])/\(rest[2])") }
            try await addresses.claim(
                ident, cidr, isContainer: isContainer, acceptsUnknown: request.fields.isOn("noErrorOnUnknown"))
            return Self.noContent
        case ("DELETE", 1):
            try await addresses.free(ident, nil)
            return Self.noContent
        case ("DELETE", 2):
            try await addresses.free(ident, try parsed { () throws(IPAMError) in try IPv4Address.parse(rest[1]) })
            return Self.noContent
        default: return Self.wrongMethod
        }
    }

    private func repair(_ fields: FormFields) async throws -> ControlResponse {
        guard let step = fields.only("step").flatMap({ Int($0) }) else {
            throw DaemonError(.badRequest, "give the number of one step, as 'weave ipam explain' shows them")
        }
        return .text("done: \(try await addresses.repair(step: step, isForced: fields.isOn("force")))\n")
    }

    private func subnet(_ rest: [String]) throws(DaemonError) -> IPv4CIDR {
        try parsed { () throws(IPAMError) in try IPv4CIDR.parseSubnet("\(rest[1])/\(rest[2])") }
    }

    private func parsed<Value>(_ work: () throws(IPAMError) -> Value) throws(DaemonError) -> Value {
        do {
            return try work()
        } catch {
            throw DaemonError(.badRequest, printable(error.message))
        }
    }

    private func get(_ request: ControlRequest, _ answer: () -> ControlResponse) throws -> ControlResponse {
        request.method == "GET" ? answer() : Self.wrongMethod
    }

    private static func list(_ owned: [String: [IPv4CIDR]]) -> ControlResponse {
        let rows = owned.sorted { $0.key < $1.key }.map { ident, cidrs in
            ReportValue.object([
                .init("containerid", .text(ident)), .init("addrs", .list(cidrs.map { .text("\($0)") })),
            ])
        }
        let body = ReportValue.object([.init("owned", .listOrNull(rows))]).compact + "\n"
        return .init(status: 200, contentType: "application/json", body: body)
    }

    private static func texts(_ cidrs: [IPv4CIDR]) -> ControlResponse {
        .text(cidrs.map(\.description).joined(separator: " "))
    }

    static let noContent = ControlResponse(status: 204, contentType: ControlResponse.plainText, body: "")
    static let wrongMethod = ControlResponse(status: 405, contentType: ControlResponse.plainText, body: "")
}
