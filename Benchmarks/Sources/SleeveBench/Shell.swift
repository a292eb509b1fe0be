import Foundation

/// Runs programs and waits for them, each bounded in time.
enum Shell {
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// Runs `words`, returns its standard output; throws with both outputs when it fails or takes too long.
    @discardableResult
    static func run(_ words: String..., seconds: Int = 60) throws -> String { try run(words, seconds: seconds) }

    @discardableResult
    static func run(_ words: [String], seconds: Int = 60) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/timeout")
        process.arguments = ["-k", "2", String(seconds)] + words
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        let text = String(decoding: data, as: UTF8.self)
        guard process.terminationStatus == 0 else {
            throw Failure(description: "\(words.joined(separator: " ")): status \(process.terminationStatus): \(text)")
        }
        return text
    }

    /// Starts `words` in the background with its output in `log`.
    static func start(_ words: [String], log: URL, directory: URL, environment: [String: String] = [:]) throws
        -> Process
    {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = words
        process.currentDirectoryURL = directory
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        FileManager.default.createFile(atPath: log.path, contents: nil)
        let handle = try FileHandle(forWritingTo: log)
        process.standardOutput = handle
        process.standardError = handle
        process.standardInput = FileHandle.nullDevice
        try process.run()
        return process
    }
}
