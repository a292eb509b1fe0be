import WeaveCore

/// Where an HTTP listener listens: `host:port`, or the absolute path of a Unix socket.
enum ListenAddress: Sendable, Equatable, CustomStringConvertible {
    case tcp(host: String, port: Int)
    case unix(path: String)

    /// The TCP port on this host's loopback device; nil for anything else.
    var loopbackPort: UInt16? {
        guard case .tcp(let host, let port) = self, host.hasPrefix("127.") else { return nil }
        return UInt16(exactly: port)
    }

    /// What stands before the port; nil for a Unix socket.
    var host: String? { if case .tcp(let host, _) = self { host } else { nil } }

    /// What the kernel's `sockaddr_un` holds, the closing zero taken off.
    static let maximumPathLength = 107

    /// nil for "off" when `text` is blank.
    ///
    /// - Throws: `DaemonError` (usage) when it is neither form.
    init?(flag: String, _ text: String) throws(DaemonError) {
        if text.isEmpty { return nil }
        if text.hasPrefix("/") {
            guard text.utf8.count <= Self.maximumPathLength else {
                throw DaemonError(.usage, "\(flag): a socket path has at most \(Self.maximumPathLength) bytes")
            }
            self = .unix(path: text)
            return
        }
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]), port > 0 else {
            throw DaemonError(
                .usage, "\(flag): '\(text)' is neither host:port nor the absolute path of a Unix socket")
        }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        self = .tcp(host: host.isEmpty ? "0.0.0.0" : String(host), port: Int(port))
    }

    var description: String {
        switch self {
        case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unix(let path): path
        }
    }
}
