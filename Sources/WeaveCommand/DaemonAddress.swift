/// Where the daemon's control interface is: `host:port`, or the absolute path of a Unix socket.
struct DaemonAddress: Sendable, Equatable, CustomStringConvertible {
    static let standard = "127.0.0.1:6784"

    let description: String

    /// - Throws: `CommandError` (usage) when it is neither form.
    init(_ text: String) throws(CommandError) {
        let port = text.split(separator: ":", omittingEmptySubsequences: false).last.flatMap { UInt16($0) }
        guard
            text.hasPrefix("/")
                || (text.contains(":") && port != nil && text.utf8.allSatisfy { (33...126).contains($0) })
        else {
            throw CommandError(
                "'\(text)' is neither host:port nor the absolute path of a Unix socket", code: .usage)
        }
        // A daemon that listens on every address listens on loopback too.
        let isEverywhere = text.hasPrefix("0.0.0.0:") || text.hasPrefix(":")
        description = isEverywhere ? "127.0.0.1:\(port ?? 0)" : text
    }

    /// The address of the environment, else that of the last launch with this state directory, else the standard one.
    static func find(environment: [String: String], state: StateDirectory) throws(CommandError) -> DaemonAddress {
        if let text = environment["WEAVE_HTTP_ADDR"], !text.isEmpty { return try DaemonAddress(text) }
        return try DaemonAddress(state.recordedAddress ?? standard)
    }

    /// The URL of `path` there, in the form that the HTTP client takes.
    func url(_ path: String) -> String {
        guard description.hasPrefix("/") else { return "http://\(description)\(path)" }
        return "http+unix://\(formEncoded(description))\(path)"
    }
}

/// `text` with everything percent-encoded but letters, digits and `-._~`.
func formEncoded(_ text: String) -> String {
    var encoded = ""
    for byte in text.utf8 {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "~"):
            encoded.unicodeScalars.append(Unicode.Scalar(byte))
        default:
            let digits = String(byte, radix: 16, uppercase: true)
            encoded += "%" + (digits.count < 2 ? "0" : "") + digits
        }
    }
    return encoded
}
