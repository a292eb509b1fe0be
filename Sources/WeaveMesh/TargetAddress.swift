import WeaveCore

/// A target as an operator writes it: `host`, `host:port`, `10.0.0.1`, `fd00::1`, `[fd00::1]`, `[fd00::1]:6783`. The port may
/// be the name of a service.
struct TargetAddress: Sendable, Equatable {
    var host: String
    /// Empty for none.
    var service: String
    /// The address, when the host is one and the service no name; port 0 for none.
    var literal: Endpoint?

    /// The longest host name of the domain name system, with room for a port.
    static let maximumLength = 300

    init(parsing text: String) throws(MeshTargetError) {
        func invalid() -> MeshTargetError {
            MeshTargetError(target: text, message: "invalid peer name \"\(text)\", should be host[:port]")
        }
        guard text.utf8.count <= Self.maximumLength,
            text.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7f })
        else { throw invalid() }
        if text.hasPrefix("[") {
            guard let close = text.firstIndex(of: "]") else { throw invalid() }
            host = String(text[text.index(after: text.startIndex)..<close])
            let rest = text[text.index(after: close)...]
            guard rest.isEmpty || rest.first == ":" else { throw invalid() }
            service = String(rest.dropFirst())
            guard IPAddress(host) != nil else { throw invalid() }
        } else if IPv6Address(text) != nil {
            host = text
            service = ""
        } else {
            let parts = text.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count <= 2 else {
                throw MeshTargetError(
                    target: text, message: "address \(text): too many colons in address; put IPv6 in brackets")
            }
            host = String(parts.first ?? "")
            service = parts.count == 2 ? String(parts[1]) : ""
        }
        guard !host.isEmpty else { throw invalid() }
        if let address = IPAddress(host) {
            if service.isEmpty {
                literal = Endpoint(address, port: 0)
            } else if service.utf8.allSatisfy({ (48...57).contains($0) }) {
                guard let port = UInt16(service), port != 0 else { throw invalid() }
                literal = Endpoint(address, port: port)
            }
        }
    }
}
