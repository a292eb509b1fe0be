import WeaveCore

/// The names under which HTTP clients may call this host.
///
/// A web page can have its own name resolve to 127.0.0.1, and its scripts then talk to the listeners here as if they were
/// its own server. Their requests bear that name, which no honest client of this host uses.
struct HostNames: Sendable, Equatable {
    private let names: Set<String>

    /// The longest name in a complaint: what DNS allows.
    private static let maximumShown = 255

    /// - Parameter names: those to be admitted beside `localhost`, names below it, and addresses.
    init(_ names: [String]) { self.names = Set(names.map(Self.canonical)) }

    /// Nil when the `Host` of a request is admitted; else what to tell its client.
    func complaint(about header: String) -> String? {
        let name = Self.canonical(Self.withoutPort(header))
        guard !name.isEmpty, name != "localhost", !name.hasSuffix(".localhost"), !names.contains(name),
            IPAddress(name) == nil
        else { return nil }
        let shown = printable(String(name.prefix(Self.maximumShown)))
        return
            "requests for '\(shown)' are refused, which is no name of this host: use an address, localhost or its host "
            + "name, or launch with --http-host \(shown)"
    }

    /// Whether `text` can be a name in a `Host` header.
    static func isName(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= maximumShown
            && text.utf8.allSatisfy { (33...126).contains($0) && $0 != UInt8(ascii: ":") && $0 != UInt8(ascii: "/") }
    }

    /// Names are compared without regard to case, and with or without the dot at the end.
    private static func canonical(_ name: String) -> String {
        let lower = name.lowercased()
        return lower.hasSuffix(".") ? String(lower.dropLast()) : lower
    }

    private static func withoutPort(_ header: String) -> String {
        if header.hasPrefix("["), let end = header.firstIndex(of: "]") {
            guard isPort(header[header.index(after: end)...]) else { return header }
            return String(header[header.index(after: header.startIndex)..<end])
        }
        // What has more than one colon is an IPv6 address that should have brackets.
        guard let colon = header.firstIndex(of: ":"), isPort(header[colon...]) else { return header }
        return String(header[..<colon])
    }

    private static func isPort(_ text: Substring) -> Bool {
        text.isEmpty || text.first == ":" && text.dropFirst().allSatisfy { $0.isASCII && $0.isNumber }
    }
}
