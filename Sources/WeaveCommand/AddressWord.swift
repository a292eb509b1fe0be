import WeaveCore

/// An address as people ask for it: `net:default`, `net:` with a subnet, or an address with prefix length, plain or
/// after `ip:`.
enum AddressWord {
    /// What the daemon gives when nothing is asked for.
    static let standard = "net:default"

    /// Whether a word is meant as an address, rightly spelled or not.
    static func isMeant(_ word: String) -> Bool {
        word.hasPrefix("net:") || word.hasPrefix("ip:") || (word.first?.isNumber == true && word.contains("/"))
            || IPv4Address(word) != nil
    }

    /// - Throws: `CommandError` (usage) when the daemon could not read the word.
    static func check(_ word: String) throws(CommandError) {
        if word == standard { return }
        if word.hasPrefix("net:") {
            guard IPv4CIDR(word.dropFirst(4)) != nil else {
                throw CommandError(
                    "'\(word)' is neither net:default nor net: with a subnet, such as net:10.32.2.0/24", code: .usage)
            }
            return
        }
        guard IPv4CIDR(word.hasPrefix("ip:") ? word.dropFirst(3) : word[...]) != nil else {
            throw CommandError("'\(word)' is no address with prefix length, such as 10.32.0.1/12", code: .usage)
        }
    }

    /// Checks words that may be nothing but addresses.
    ///
    /// - Throws: `CommandError` (usage) for the first that is none.
    static func check(all words: [String]) throws(CommandError) {
        for word in words {
            guard isMeant(word) else {
                throw CommandError(
                    "'\(word)' is no address; give net:default, net:10.32.2.0/24 or 10.32.0.1/12", code: .usage)
            }
            try check(word)
        }
    }

    static func fields(_ words: [String]) -> [(name: String, value: String)] { words.map { ("address", $0) } }
}
