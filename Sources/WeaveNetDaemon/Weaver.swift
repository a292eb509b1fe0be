import Foundation
import Logging
import WeaveCore

@main
enum Weaver {
    static func main() async {
        exit(await status(of: Array(CommandLine.arguments.dropFirst())))
    }

    /// Does what the words ask for; returns the exit status.
    static func status(of words: [String]) async -> Int32 {
        let options: WeaverOptions
        let notes: [String]
        switch CommandLineRequest(words) {
        case .run(let found, let said): (options, notes) = (found, said)
        case .finish(let status, let text):
            say(text, on: status == 0 ? .standardOutput : .standardError)
            return status
        }
        do {
            let configuration = try DaemonConfiguration(
                options, environment: ProcessInfo.processInfo.environment, hostname: hostname)
            return try await run(options, configuration, notes: notes, flags: redacted(words))
        } catch {
            say(
                "weaver: \(error.message)" + (error.code == .usage ? "\n" + CommandLineRequest.usage : ""),
                on: .standardError)
            return error.code == .usage ? 2 : 1
        }
    }

    private static func run(
        _ options: WeaverOptions, _ configuration: DaemonConfiguration, notes: [String], flags: [String]
    ) async throws(DaemonError) -> Int32 {
        let level = configuration.logLevel
        // Libraries that make loggers of their own speak only of trouble.
        LoggingSystem.bootstrap { _ in DaemonLog(level: max(level, .warning)) }
        let logger = Logger(label: "weaver") { _ in DaemonLog(level: level) }
        let daemon = Daemon(configuration: configuration, logger: logger)
        if options.printPeerName {
            say("\(try await daemon.peerName())", on: .standardOutput)
            return 0
        }
        if options.reset {
            try await daemon.reset()
            return 0
        }
        logger.info("weave  \(WeaveNetVersion.current)")
        if !flags.isEmpty { logger.info("Command line: \(flags.joined(separator: " "))") }
        for note in notes { logger.info("\(note)") }
        for warning in configuration.warnings { logger.warning("\(warning)") }
        do {
            try await daemon.run()
            return 0
        } catch {
            logger.critical("\(error.message)")
            return 1
        }
    }

    /// The command line without the password.
    static func redacted(_ words: [String]) -> [String] {
        var shown: [String] = []
        var hidesNext = false
        for word in words {
            let flag = word.drop { $0 == "-" }
            if hidesNext {
                shown.append("<redacted>")
                hidesNext = false
            } else if word.hasPrefix("-"), flag == "password" || flag == "token" {
                shown.append(word)
                hidesNext = true
            } else if word.hasPrefix("-"), flag.hasPrefix("password=") || flag.hasPrefix("token=") {
                shown.append(word.prefix { $0 != "=" } + "=<redacted>")
            } else {
                shown.append(word)
            }
        }
        return shown
    }

    /// The host's name, without asking any name server.
    private static var hostname: String {
        let name = try? String(contentsOfFile: "/proc/sys/kernel/hostname", encoding: .utf8)
        return (name ?? "").trimmingCharacters(in: .whitespacesAndNewlines)
    }

    private static func say(_ text: String, on stream: FileHandle) {
        try? stream.write(contentsOf: Data((text + "\n").utf8))
    }
}
