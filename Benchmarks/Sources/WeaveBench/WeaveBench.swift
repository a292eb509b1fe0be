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
    }

    static func main() {
        do {
            let options = try parse(Array(CommandLine.arguments.dropFirst()))
            guard LabShell.canMakeNamespaces else { exit(1) }
            guard LabRouterKind.weaver.binary != nil else {
                throw LabShell.Failure(description: "no weaver; say where it is with WEAVER=")
            }
            var rows: [Row] = []
            for benchmark in all where benchmark.name.hasPrefix(options.only) {
                rows += try benchmark.measure(options)
            }
            say(Row.table(rows, options))
            try write(rows, to: options.output)
        } catch {
            FileHandle.standardError.write(Data("bench: \(error)\n".utf8))
            exit(1)
        }
    }

    static var all: [Benchmark] {
        [
            sleeve("sleeve.tcp.plain", password: nil),
            sleeve("sleeve.tcp.encrypted", password: "bench-\(UInt64.random(in: 0 ... .max))"),
            allocation("ipam.allocate.http"),
            ringMerge("ipam.merge.1000peers"),
        ]
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

/// A measurement with a name.
struct Benchmark {
    var name: String
    var measure: (WeaveBench.Options) throws -> [Row]
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
    /// - Parameter once: The numbers of one run, one for each of `columns`.
    static func alternating(
        _ columns: [(name: String, unit: String)], _ options: WeaveBench.Options,
        once: (LabRouterKind) throws -> [Double]
    ) throws -> [Row] {
        var ours: [[Double]] = []
        var theirs: [[Double]] = []
        for round in 1...options.rounds {
            ours.append(try once(.weaver))
            if LabRouterKind.reference.binary != nil { theirs.append(try once(.reference)) }
            for (index, column) in columns.enumerated() {
                let beside = theirs.last.map { ", reference \(shown($0[index]))" } ?? ""
                WeaveBench.say(
                    "\(column.name) round \(round): ours \(shown(ours[round - 1][index]))\(beside) \(column.unit)")
            }
        }
        return columns.indices.map { index in
            Row(
                name: columns[index].name, unit: columns[index].unit, ours: median(ours.map { $0[index] }),
                reference: theirs.isEmpty ? nil : median(theirs.map { $0[index] }))
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
            let ratio = row.ratio.map { String(format: "%.1f", $0) }
            lines.append(
                line([row.name, row.unit, shown(row.ours), row.reference.map(shown) ?? "-", ratio ?? "-"]))
        }
        if LabRouterKind.reference.binary == nil { lines.append("no reference was given (REFERENCE_WEAVER=)") }
        return lines.joined(separator: "\n")
    }

    static func shown(_ value: Double) -> String { String(format: value < 10 ? "%.3f" : "%.0f", value) }
}
