import Foundation
import NetLab

/// Measures what the project promises; the reference alternates in the same run when it is given.
///
///     WEAVER=PATH [REFERENCE_WEAVER=PATH] WeaveBench [--rounds 5] [--seconds 5] [--only PREFIX] [--output FILE]
@main
struct WeaveBench {
    struct Options {
        var rounds = 5
        var seconds = 5
        var only = ""
        var output = "Benchmarks/results/latest.json"

        func selects(_ name: String) -> Bool { name.hasPrefix(only) }
    }

    static func main() {
        do {
            let words = Array(CommandLine.arguments.dropFirst())
            if words.first == "datagrams" { return try Datagrams.run(Array(words.dropFirst())) }
            let options = try parse(words)
            guard LabShell.canMakeNamespaces else { exit(1) }
            guard LabRouterKind.weaver.binary != nil else {
                throw LabShell.Failure(description: "no weaver; say where it is with WEAVER=")
            }
            let rows = try measure(all, options)
            if !rows.isEmpty { say(Row.table(rows, options)) }
            let beside = try measure(neighbours, options)
            if !beside.isEmpty { say(Row.neighbourhood(beside)) }
            try write(rows + beside, to: options.output)
        } catch {
            FileHandle.standardError.write(Data("bench: \(error)\n".utf8))
            exit(1)
        }
    }

    static var all: [Benchmark] {
        [
            sleevePlain, sleeveEncrypted, sleeveRelay,
            allocation("ipam.allocate.http"),
            ringMerge("ipam.merge.1000peers"),
        ]
    }

    private static func measure(_ benchmarks: [Benchmark], _ options: Options) throws -> [Row] {
        try benchmarks.filter { $0.names.contains(where: options.selects) }
            .flatMap { try $0.measure(options) }
            .filter { options.selects($0.name) }
    }

    /// Prints a line at once, also into a pipe.
    static func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }

    static func parse(_ words: [String]) throws -> Options {
        var options = Options()
        var rest = words[...]
        while let word = rest.popFirst() {
            guard let value = rest.popFirst() else { throw LabShell.Failure(description: "\(word) needs a value") }
            switch word {
            case "--rounds": options.rounds = max(1, Int(value) ?? 5)
            case "--seconds": options.seconds = max(1, Int(value) ?? 5)
            case "--only": options.only = value
            case "--output": options.output = value
            default: throw LabShell.Failure(description: "unknown option \(word)")
            }
        }
        return options
    }

    static func write(_ rows: [Row], to path: String) throws {
        let url = URL(fileURLWithPath: path)
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        let list = rows.map(\.json)
        try JSONSerialization.data(withJSONObject: list, options: [.prettyPrinted, .sortedKeys]).write(to: url)
        say("written to \(path)")
    }
}

/// A measurement of one case, or of several that share hosts.
struct Benchmark {
    var names: [String]
    var measure: (WeaveBench.Options) throws -> [Row]

    init(names: [String], measure: @escaping (WeaveBench.Options) throws -> [Row]) {
        self.names = names
        self.measure = measure
    }

    init(name: String, measure: @escaping (WeaveBench.Options) throws -> [Row]) {
        self.init(names: [name], measure: measure)
    }
}

/// One line of the table.
struct Row {
    var name: String
    var unit: String
    var ours: Double
    var reference: Double?

    /// Ours divided by the reference.
    var ratio: Double? { reference.map { ours / $0 } }

    var json: [String: Any] {
        [
            "case": name, "unit": unit, "ours": ours, "reference": reference ?? NSNull(), "ratio": ratio ?? NSNull(),
        ]
    }

    /// Measures both kinds of router in every round, in turn, and takes the median of each column.
    ///
    /// - Parameter once: The numbers of one run, one for each of `columns`; nil where there was no figure, which is
    ///   said. A case without any figure of ours has no row.
    static func alternating(
        _ columns: [(name: String, unit: String)], _ options: WeaveBench.Options,
        once: (LabRouterKind) throws -> [Double?]
    ) throws -> [Row] {
        var ours: [[Double?]] = []
        var theirs: [[Double?]] = []
        for round in 1...options.rounds {
            ours.append(try once(.weaver))
            if LabRouterKind.reference.binary != nil { theirs.append(try once(.reference)) }
            for (index, column) in columns.enumerated() where options.selects(column.name) {
                let beside = theirs.last.map { ", reference \($0[index].map(shown) ?? "-")" } ?? ""
                WeaveBench.say(
                    "\(column.name) round \(round): ours \(ours[round - 1][index].map(shown) ?? "-")\(beside) \(column.unit)"
                )
            }
        }
        return columns.indices.compactMap { index in
            let mine = ours.compactMap { $0[index] }
            let other = theirs.compactMap { $0[index] }
            guard !mine.isEmpty else { return nil }
            return Row(
                name: columns[index].name, unit: columns[index].unit, ours: median(mine),
                reference: other.isEmpty ? nil : median(other))
        }
    }

    static func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        let middle = sorted.count / 2
        return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }

    static func table(_ rows: [Row], _ options: WeaveBench.Options) -> String {
        func line(_ cells: [String]) -> String {
            let widths = [28, 12, 10, 10]
            let padded = zip(cells, widths).map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }
            return (padded + cells.dropFirst(widths.count)).joined(separator: " ")
        }
        var lines = [
            "", "median of \(options.rounds) rounds of \(options.seconds) s, all hosts and both ends on this machine",
            line(["case", "unit", "ours", "reference", "ratio"]),
        ]
        for row in rows {
            let ratio = row.ratio.map { String(format: $0 < 1 ? "%.3f" : "%.1f", $0) }
            lines.append(
                line([row.name, row.unit, shown(row.ours), row.reference.map(shown) ?? "-", ratio ?? "-"]))
        }
        if LabRouterKind.reference.binary == nil { lines.append("no reference was given (REFERENCE_WEAVER=)") }
        return lines.joined(separator: "\n")
    }

    /// What else carries frames or packets between the same two hosts.
    static func neighbourhood(_ rows: [Row]) -> String {
        (["", "the neighbourhood, one TCP flow between the same two hosts"]
            + rows.map { "\($0.name): \(shown($0.ours)) \($0.unit)" }).joined(separator: "\n")
    }

    static func shown(_ value: Double) -> String { String(format: value < 10 ? "%.3f" : "%.0f", value) }
}
