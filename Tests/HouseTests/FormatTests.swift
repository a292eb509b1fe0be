import Foundation
import Testing

/// What `swift format` finds. Says so and passes where there is no such program.
@Suite("Format", .serialized) struct FormatTests {
    @Test("the formatter has no complaint")
    func format() throws {
        guard let complaints = try Self.lint(["Package.swift", "Sources", "Tests"], configuration: nil) else { return }
        #expect(complaints == [], "\(complaints.joined(separator: "\n"))")
    }

    @Test("public types and functions are documented")
    func documentation() throws {
        let file = House.root.appendingPathComponent(".swift-format")
        let json = try JSONSerialization.jsonObject(with: Data(contentsOf: file))
        var configuration = try #require(json as? [String: Any])
        var rules = configuration["rules"] as? [String: Any] ?? [:]
        rules["AllPublicDeclarationsHaveDocumentation"] = true
        configuration["rules"] = rules
        let strict = FileManager.default.temporaryDirectory.appendingPathComponent("house-\(UUID().uuidString).json")
        try JSONSerialization.data(withJSONObject: configuration).write(to: strict)
        defer { try? FileManager.default.removeItem(at: strict) }
        guard let complaints = try Self.lint(["Sources"], configuration: strict.path) else { return }
        let missing = complaints.filter {
            $0.contains("AllPublicDeclarationsHaveDocumentation") && Self.needsDocumentation($0)
        }
        #expect(missing == [], "\(missing.joined(separator: "\n"))")
    }

    /// Whether a complaint is about a type or a function. Properties, cases and initialisers often say all there is to say,
    /// and so do operators and what a protocol of the standard library asks for.
    private static func needsDocumentation(_ complaint: String) -> Bool {
        let parts = complaint.split(separator: ":")
        guard parts.count > 2, let number = Int(parts[1]),
            let file = House.sources.first(where: { parts[0].hasSuffix($0.path) }), number <= file.lines.count
        else { return true }
        let line = file.lines[number - 1]
        let kinds = ["struct ", "class ", "enum ", "actor ", "protocol ", "func "]
        guard kinds.contains(where: { line.contains($0) }) else { return false }
        return !["func <", "func ==", "func +", "func -", "func hash(", "func encode(to"].contains { line.contains($0) }
    }

    /// The complaints of the formatter, a line each; nil when there is no formatter.
    private static func lint(_ paths: [String], configuration: String?) throws -> [String]? {
        guard let version = try run(["swift", "format", "--version"]), version.status == 0 else {
            print("skipped: there is no swift format here")
            return nil
        }
        var arguments = ["swift", "format", "lint", "--strict", "--parallel", "--recursive"]
        if let configuration { arguments += ["--configuration", configuration] }
        let result = try #require(try run(arguments + paths))
        return result.output.split(separator: "\n").map(String.init).filter {
            $0.contains("error:") || $0.contains("warning:")
        }
    }

    private static func run(_ arguments: [String]) throws -> (status: Int32, output: String)? {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = arguments
        process.currentDirectoryURL = House.root
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        do { try process.run() } catch { return nil }
        let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, output)
    }
}
