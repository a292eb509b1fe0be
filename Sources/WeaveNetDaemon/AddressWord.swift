import WeaveCore
import WeaveIPAM

/// How people say which address they want: `net:default`, `net:10.32.1.0/24`, `ip:10.32.1.7/24` or `10.32.1.7/24`.
enum AddressWord: Sendable, Hashable {
    /// Any address of a subnet; nil is the default subnet.
    case subnet(IPv4CIDR?)
    /// This one.
    case address(IPv4CIDR)

    /// - Throws: `DaemonError` (badRequest) that says what is wrong with the text.
    init(_ text: String) throws(DaemonError) {
        if text == "net:default" {
            self = .subnet(nil)
        } else if text.hasPrefix("net:") {
            do {
                self = .subnet(try IPv4CIDR.parseSubnet(String(text.dropFirst(4))))
            } catch {
                throw DaemonError(.badRequest, printable(error.message))
            }
        } else {
            let plain = text.hasPrefix("ip:") ? String(text.dropFirst(3)) : text
            guard let address = IPv4CIDR(plain) else {
                throw DaemonError(
                    .badRequest,
                    "'\(printable(text))' is no address with prefix length, such as 10.32.0.1/12, and no subnet, such as "
                        + "net:10.32.1.0/24")
            }
            self = .address(address)
        }
    }

    /// - Throws: `DaemonError` (badRequest) for the first text that is none, or when there are too many.
    static func list(_ texts: [String]) throws(DaemonError) -> [AddressWord] {
        guard texts.count <= maximumWords else {
            throw DaemonError(.badRequest, "more than \(maximumWords) addresses in one request")
        }
        var words: [AddressWord] = []
        for text in texts {
            let word = try AddressWord(text)
            if !words.contains(word) { words.append(word) }
        }
        return words
    }

    /// A container has few addresses; more are a mistake.
    static let maximumWords = 64
}
