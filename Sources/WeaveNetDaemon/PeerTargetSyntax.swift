import WeaveCore

/// What may be given as a peer to connect to.
enum PeerTargetSyntax {
    /// The longest DNS name, a port and brackets.
    static let maximumLength = 255 + 8

    /// Why `text` cannot be a peer; nil when it can.
    static func complaint(_ text: String) -> String? {
        let complaint = "invalid peer name \"\(printable(String(text.prefix(maximumLength))))\", should be host[:port]"
        guard !text.isEmpty, text.utf8.count <= maximumLength, text.utf8.allSatisfy({ (33...126).contains($0) }) else {
            return complaint
        }
        if IPAddress(text) != nil { return nil }
        if text.hasPrefix("[") {
            guard let close = text.firstIndex(of: "]") else { return complaint }
            let inner = text[text.index(after: text.startIndex)..<close]
            let rest = text[text.index(after: close)...]
            let portIsGood = rest.isEmpty || (rest.hasPrefix(":") && isPort(rest.dropFirst()))
            return IPAddress(inner) != nil && portIsGood ? nil : complaint
        }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard let host = parts.first, isHost(host), parts.count <= 2, parts.count == 1 || isPort(parts[1]) else {
            return complaint
        }
        return nil
    }

    private static func isHost(_ text: Substring) -> Bool {
        guard !text.isEmpty, !text.hasPrefix("-") else { return false }
        return text.utf8.allSatisfy {
            switch $0 {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
                true
            default: false
            }
        }
    }

    /// A number, or the name of a service.
    private static func isPort(_ text: Substring) -> Bool {
        if let number = UInt16(text) { return number > 0 }
        return text.first?.isLetter == true && isHost(text)
    }
}
