/// The part of Go's text templates that `weave report -f` is used with: text, `{{.Router.Name}}`, `{{json .Router}}`
/// and `{{len .Router.Peers}}`.
struct ReportTemplate: Sendable {
    /// Longer templates are refused; real ones take one line.
    static let maximumLength = 4096

    private enum Part: Sendable {
        case text(String)
        case field(Function, [String])
    }

    private enum Function: Sendable { case show, json, length }

    private var parts: [Part] = []

    /// - Throws: `DaemonError` that says which action is not understood.
    init(_ text: String) throws(DaemonError) {
        guard text.utf8.count <= Self.maximumLength else {
            throw DaemonError(.badRequest, "error: the template is longer than \(Self.maximumLength) bytes")
        }
        var rest = Substring(text)
        while let open = rest.firstRange(of: "{{") {
            parts.append(.text(String(rest[..<open.lowerBound])))
            guard let close = rest[open.upperBound...].firstRange(of: "}}") else {
                throw DaemonError(.badRequest, "error: template: unclosed action")
            }
            try parts.append(Self.action(rest[open.upperBound..<close.lowerBound]))
            rest = rest[close.upperBound...]
        }
        parts.append(.text(String(rest)))
    }

    private static func action(_ text: Substring) throws(DaemonError) -> Part {
        let words = text.split(whereSeparator: \.isWhitespace)
        let function: Function? =
            switch words.dropLast() {
            case []: .show
            case ["json"]: .json
            case ["len"]: .length
            default: nil
            }
        guard let function, let path = words.last, path.hasPrefix(".") else {
            throw DaemonError(
                .badRequest,
                "error: template: '{{\(printable(String(text)))}}' is not supported; "
                    + "use {{.A.B}}, {{json .A}}, {{len .A}}"
            )
        }
        return .field(function, path.split(separator: ".").map(String.init))
    }

    /// The template with the fields of `report` in it.
    ///
    /// - Throws: `DaemonError` when there is no such field.
    func render(_ report: ReportValue) throws(DaemonError) -> String {
        var text = ""
        for part in parts {
            switch part {
            case .text(let literal): text += literal
            case .field(let function, let path): try text += Self.show(function, Self.look(up: path, in: report))
            }
        }
        return text
    }

    private static func look(up path: [String], in report: ReportValue) throws(DaemonError) -> ReportValue {
        var value = report
        for key in path {
            guard let next = value[key] else {
                throw DaemonError(.badRequest, "error: the report has no field \(printable(key))")
            }
            value = next
        }
        return value
    }

    private static func show(_ function: Function, _ value: ReportValue) -> String {
        switch (function, value) {
        case (.show, .text(let text)): text
        case (.show, .null): "<nil>"
        case (.length, .list(let values)): String(values.count)
        case (.length, .object(let members)): String(members.count)
        case (.length, .text(let text)): String(text.utf8.count)
        case (.length, _): "0"
        default: value.compact
        }
    }
}
