import NIOHTTP1

/// A request to the daemon's control interface.
struct DaemonRequest: Sendable {
    var method = HTTPMethod.GET
    /// With the query.
    var path: String
    /// Sent as a form; nil sends no body.
    var fields: [(name: String, value: String)]?
    var accept: String?
    /// Whether it is about addresses: the daemon knows no such path when allocation is off.
    var isAboutAddresses = false
    /// What the answer may wait for without end, as it reads after "waiting for".
    var wait: String?

    static func get(_ path: String) -> DaemonRequest { DaemonRequest(path: path) }

    static func post(_ path: String, _ fields: [(name: String, value: String)]) -> DaemonRequest {
        DaemonRequest(method: .POST, path: path, fields: fields)
    }

    static func delete(_ path: String) -> DaemonRequest { DaemonRequest(method: .DELETE, path: path) }

    /// The same as one about addresses, which may wait for `wait` without end.
    func aboutAddresses(waitingFor wait: String? = nil) -> DaemonRequest {
        var request = self
        request.isAboutAddresses = true
        request.wait = wait
        return request
    }
}

/// `text` as one segment of a path.
func pathSegment(_ text: String) -> String {
    // Peer names are full of colons, which a segment may have as they are.
    formEncoded(text).replacing("%3A", with: ":")
}
