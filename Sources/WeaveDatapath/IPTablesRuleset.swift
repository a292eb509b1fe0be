/// What `iptables-save` shows: the chains of every table with their rules, each rule as the words that a shell would make of
/// it. Lines that are not understood are passed over.
struct IPTablesRuleset: Hashable, Sendable {
    /// The words after the name of the chain, such as `["-o", "weave", "-j", "WEAVE-EXPOSE"]`.
    typealias Rule = [String]

    /// Table, chain, rules in order.
    private(set) var tables: [String: [String: [Rule]]] = [:]

    init() {}

    init(parsing text: String) {
        var table = ""
        for line in text.utf8.split(separator: UInt8(ascii: "\n")) {
            switch line.first {
            case UInt8(ascii: "*"):
                table = String(decoding: line.dropFirst(), as: UTF8.self)
                tables[table] = tables[table] ?? [:]
            case UInt8(ascii: ":"):
                let name = line.dropFirst().prefix { $0 != UInt8(ascii: " ") }
                let chain = String(decoding: name, as: UTF8.self)
                tables[table, default: [:]][chain] = tables[table]?[chain] ?? []
            case UInt8(ascii: "-"):
                let words = Self.words(line)
                guard words.count > 2, words[0] == "-A" else { continue }
                tables[table, default: [:]][words[1], default: []].append(Array(words[2...]))
            default: continue
            }
        }
    }

    /// The rules of a chain; none when there is no such chain.
    func rules(_ table: String, _ chain: String) -> [Rule] { tables[table]?[chain] ?? [] }

    func hasChain(_ table: String, _ chain: String) -> Bool { tables[table]?[chain] != nil }

    /// How many rules there are in all.
    var count: Int { tables.values.reduce(0) { $0 + $1.values.reduce(0) { $0 + $1.count } } }

    /// Splits a line at spaces, except between quotes; a backslash between quotes protects what follows it.
    private static func words(_ line: some Sequence<UInt8>) -> [String] {
        var words: [String] = []
        var word: [UInt8] = []
        var hasWord = false
        var isQuoted = false
        var isEscaped = false
        for byte in line {
            if isEscaped {
                word.append(byte)
                isEscaped = false
            } else if byte == UInt8(ascii: "\""), isQuoted || !hasWord {
                isQuoted.toggle()
                hasWord = true
            } else if isQuoted, byte == UInt8(ascii: "\\") {
                isEscaped = true
            } else if byte == UInt8(ascii: " "), !isQuoted {
                if hasWord { words.append(String(decoding: word, as: UTF8.self)) }
                word = []
                hasWord = false
            } else {
                word.append(byte)
                hasWord = true
            }
        }
        if hasWord { words.append(String(decoding: word, as: UTF8.self)) }
        return words
    }

    /// The rule as `iptables-restore` reads it.
    static func text(_ rule: Rule) -> String {
        rule.map { word in
            let isPlain = word.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"):
                    true
                default: "-_./:,!=+%@".utf8.contains(byte)
                }
            }
            if isPlain, !word.isEmpty { return word }
            let escaped = word.flatMap { $0 == "\"" || $0 == "\\" ? ["\\", $0] : [$0] }
            return "\"" + String(escaped) + "\""
        }.joined(separator: " ")
    }
}
