import Foundation

/// Runs programs for the labs, each bounded in time.
public enum LabShell {
    /// A program that failed or took too long.
    public struct Failure: Error, CustomStringConvertible {
        public let description: String

        /// A failure with its text.
        public init(description: String) { self.description = description }
    }

    /// What a program printed and how it ended.
    public struct Outcome: Sendable {
        public let status: Int32
        public let output: String
    }

    /// Runs `words` and waits at most `seconds`; both outputs together. A program that takes longer ends with 124.
    public static func outcome(_ words: [String], seconds: Int = 30, environment: [String: String] = [:]) throws
        -> Outcome
    {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/timeout")
        process.arguments = ["-k", "2", String(seconds)] + words
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        process.standardInput = FileHandle.nullDevice
        try start(process)
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return Outcome(status: process.terminationStatus, output: String(decoding: data, as: UTF8.self))
    }

    /// Starts `process` with no signal blocked. Test threads block most, which children inherit: they would be deaf to
    /// SIGTERM.
    static func start(_ process: Process) throws {
        var none = sigset_t()
        var before = sigset_t()
        unsafe sigemptyset(&none)
        unsafe pthread_sigmask(SIG_SETMASK, &none, &before)
        defer { unsafe pthread_sigmask(SIG_SETMASK, &before, nil) }
        try process.run()
    }

    /// Runs `words`; throws unless the program ends with status 0.
    @discardableResult
    public static func run(_ words: [String], seconds: Int = 30) throws -> String {
        let outcome = try outcome(words, seconds: seconds)
        guard outcome.status == 0 else {
            throw Failure(description: "\(words.joined(separator: " ")): status \(outcome.status): \(outcome.output)")
        }
        return outcome.output
    }

    /// Runs `words`; throws unless the program ends with status 0.
    @discardableResult
    public static func run(_ words: String...) throws -> String { try run(words) }

    /// Whether this process may make network namespaces. Prints the reason when it may not.
    public static let canMakeNamespaces: Bool = {
        guard getuid() == 0 else {
            print("network lab: skipped, needs root to make network namespaces")
            return false
        }
        return true
    }()

    /// Tries `attempt` until it is true, for at most `seconds`; false when it never was.
    public static func poll(seconds: Double, every interval: Double = 0.1, _ attempt: () throws -> Bool) rethrows
        -> Bool
    {
        let deadline = Date().addingTimeInterval(seconds)
        while true {
            if try attempt() { return true }
            guard Date() < deadline else { return false }
            Thread.sleep(forTimeInterval: interval)
        }
    }
}

/// A program that runs beside the test.
public final class LabTask {
    private let process: Process
    private let log: URL

    init(process: Process, log: URL) {
        self.process = process
        self.log = log
    }

    public var output: String { (try? String(contentsOf: log, encoding: .utf8)) ?? "" }
    public var isRunning: Bool { process.isRunning }

    /// How the program ended; nil when it still runs after `seconds`.
    public func outcome(within seconds: Double) -> LabShell.Outcome? {
        guard LabShell.poll(seconds: seconds, { !process.isRunning }) else { return nil }
        process.waitUntilExit()
        return LabShell.Outcome(status: process.terminationStatus, output: output)
    }

    /// Sends a signal to the program and all that it started, as a terminal does.
    public func interrupt() { kill(-process.processIdentifier, SIGINT) }

    public var processIdentifier: Int32 { process.processIdentifier }
}
