/// A JSON value that keeps the order of its keys and tells integers of 64 bits exactly.
indirect enum ReportValue: Sendable, Equatable {
    case null
    case bool(Bool)
    case signed(Int)
    case unsigned(UInt64)
    case text(String)
    case list([ReportValue])
    case object([Member])

    struct Member: Sendable, Equatable {
        var key: String
        var value: ReportValue

        init(_ key: String, _ value: ReportValue) {
            self.key = key
            self.value = value
        }
    }

    /// A list that is `null` when empty: what readers of 2.8.1's report expect of most lists.
    static func listOrNull(_ values: [ReportValue]) -> ReportValue { values.isEmpty ? .null : .list(values) }

    /// The value under `key`; nil when there is none.
    subscript(key: String) -> ReportValue? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.key == key }?.value
    }

    /// JSON indented by four blanks, without a newline at the end.
    var indented: String {
        var text = ""
        write(to: &text, indent: "\n")
        return text
    }

    /// JSON on one line.
    var compact: String {
        var text = ""
        write(to: &text, indent: nil)
        return text
    }

    /// - Parameter indent: A newline and the indentation of this value; nil for everything on one line.
    private func write(to text: inout String, indent: String?) {
        switch self {
        case .null: text += "null"
        case .bool(let value): text += value ? "true" : "false"
        case .signed(let value): text += String(value)
        case .unsigned(let value): text += String(value)
        case .text(let value): Self.write(string: value, to: &text)
        case .list(let values):
            Self.write(values, brackets: ("[", "]"), to: &text, indent: indent) { value, text, indent in
                value.write(to: &text, indent: indent)
            }
        case .object(let members):
            Self.write(members, brackets: ("{", "}"), to: &text, indent: indent) { member, text, indent in
                Self.write(string: member.key, to: &text)
                text += indent == nil ? ":" : ": "
                member.value.write(to: &text, indent: indent)
            }
        }
    }

    private static func write<Element>(
        _ elements: [Element], brackets: (open: String, close: String), to text: inout String, indent: String?,
        each: (Element, inout String, String?) -> Void
    ) {
        text += brackets.open
        let inner = indent.map { $0 + "    " }
        for (index, element) in elements.enumerated() {
            if index > 0 { text += "," }
            text += inner ?? ""
            each(element, &text, inner)
        }
        if !elements.isEmpty { text += indent ?? "" }
        text += brackets.close
    }

    private static func write(string: String, to text: inout String) {
        text += "\""
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case "<", ">", "&", "\u{2028}", "\u{2029}", "\u{0}"..<" ":
                let digits = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: text.unicodeScalars.append(scalar)
            }
        }
        text += "\""
    }
}
