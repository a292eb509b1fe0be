import Foundation

/// Measures the sleeve between two namespaced hosts, the reference alternating in the same run when it is given.
///
///     SleeveBench --weaver PATH [--reference PATH] [--rounds 5] [--seconds 5] [--output FILE]
@main
struct SleeveBench {
    struct Options {
        var weaver = ""
        var reference: String?
        var rounds = 5
        var seconds = 5
        var output = "Benchmarks/results/latest.json"
    }

    struct Row {
        var name: String
        var unit: String
        var ours: Double
        var reference: Double?
        var ratio: Double? { reference.map { ours / $0 } }
    }

    static func main() {
        do {
            let options = try parse(Array(CommandLine.arguments.dropFirst()))
            guard getuid() == 0 else { throw Shell.Failure(description: "needs root to make network namespaces") }
            var rows: [Row] = []
            for (name, password) in [
                ("sleeve.tcp.plain", nil), ("sleeve.tcp.encrypted", "bench-\(UInt64.random(in: 0 ... .max))"),
            ] {
                rows.append(try measure(name, password: password, options))
            }
            printTable(rows, options)
            try write(rows, to: options.output)
        } catch {
            FileHandle.standardError.write(Data("bench: \(error)\n".utf8))
            exit(1)
        }
    }

    static func parse(_ words: [String]) throws -> Options {
        var options = Options()
        var index = 0
        while index + 1 < words.count {
            let value = words[index + 1]
            switch words[index] {
            case "--weaver": options.weaver = value
            case "--reference": options.reference = value.isEmpty ? nil : value
            case "--rounds": options.rounds = max(1, Int(value) ?? 5)
            case "--seconds": options.seconds = max(1, Int(value) ?? 5)
            case "--output": options.output = value
            default: throw Shell.Failure(description: "unknown option \(words[index])")
            }
            index += 2
        }
        guard FileManager.default.isExecutableFile(atPath: options.weaver) else {
            throw Shell.Failure(description: "--weaver must name the weaver binary; '\(options.weaver)' is none")
        }
        if let reference = options.reference, !FileManager.default.isExecutableFile(atPath: reference) {
            throw Shell.Failure(description: "--reference must name a 2.8.1 weaver binary; '\(reference)' is none")
        }
        return options
    }

    /// Medians over the rounds; both routers are measured in every round, in turn.
    static func measure(_ name: String, password: String?, _ options: Options) throws -> Row {
        var ours: [Double] = []
        var theirs: [Double] = []
        for round in 1...options.rounds {
            ours.append(try once(.ours(weaver: options.weaver), password, options.seconds))
            if let reference = options.reference {
                theirs.append(try once(.reference(weaver: reference), password, options.seconds))
            }
            let beside = theirs.last.map { String(format: ", reference %.0f", $0) } ?? ""
            print("\(name) round \(round): ours \(String(format: "%.0f", ours[round - 1]))\(beside) Mbit/s")
        }
        return Row(name: name, unit: "Mbit/s", ours: median(ours), reference: theirs.isEmpty ? nil : median(theirs))
    }

    static func once(_ router: Router, _ password: String?, _ seconds: Int) throws -> Double {
        let pair = try Pair(router, password: password)
        defer { pair.takeDown() }
        return try pair.tcpThroughput(seconds: seconds)
    }

    static func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        let middle = sorted.count / 2
        return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }

    static func printTable(_ rows: [Row], _ options: Options) {
        print("\nmedian of \(options.rounds) rounds of \(options.seconds) s, both hosts and both ends on this machine")
        print(line("case", "unit", "ours", "reference", "ratio"))
        for row in rows {
            print(
                line(
                    row.name, row.unit, String(format: "%.0f", row.ours),
                    row.reference.map { String(format: "%.0f", $0) } ?? "-",
                    row.ratio.map { String(format: "%.1f", $0) } ?? "-"))
        }
        if options.reference == nil { print("no reference was given (REFERENCE_WEAVER=)") }
    }

    static func line(_ name: String, _ unit: String, _ ours: String, _ reference: String, _ ratio: String) -> String {
        func pad(_ text: String, _ width: Int) -> String { text.padding(toLength: width, withPad: " ", startingAt: 0) }
        return [pad(name, 26), pad(unit, 8), pad(ours, 10), pad(reference, 10), ratio].joined(separator: " ")
    }

    static func write(_ rows: [Row], to path: String) throws {
        let list = rows.map { row -> [String: Any] in
            [
                "case": row.name, "unit": row.unit, "ours": row.ours, "reference": row.reference ?? NSNull(),
                "ratio": row.ratio ?? NSNull(),
            ]
        }
        let url = URL(fileURLWithPath: path)
        try FileManager.default.createDirectory(
            at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try JSONSerialization.data(withJSONObject: list, options: [.prettyPrinted, .sortedKeys]).write(to: url)
        print("written to \(path)")
    }
}
