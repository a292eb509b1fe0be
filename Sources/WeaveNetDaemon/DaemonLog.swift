import Foundation
import Logging

/// Writes log lines to standard error the way 2.8.1 does: `INFO: 2031/02/03 04:05:06.123456 message`, local time.
struct DaemonLog: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level
    /// Takes whole lines.
    private let write: @Sendable (String) -> Void

    init(level: Logger.Level, write: @escaping @Sendable (String) -> Void = DaemonLog.toStandardError) {
        logLevel = level
        self.write = write
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let now = Date()
        let stamp = CivilTime(now, secondsFromUTC: TimeZone.current.secondsFromGMT(for: now)).logStamp
        let extra = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
            .map { " \($0.key)=\(printable("\($0.value)"))" }.joined()
        write("\(Self.word(event.level)): \(stamp) \(printable("\(event.message)"))\(extra)\n")
    }

    /// Parses the words of `--log-level`, those of 2.8.1 included.
    static func level(_ word: String) -> Logger.Level? {
        switch word.lowercased() {
        case "trace": .trace
        case "debug": .debug
        case "info": .info
        case "warning", "warn": .warning
        case "error": .error
        case "fatal", "panic": .critical
        default: nil
        }
    }

    private static func word(_ level: Logger.Level) -> String {
        switch level {
        case .trace: "TRAC"
        case .debug: "DEBU"
        case .info, .notice: "INFO"
        case .warning: "WARN"
        case .error: "ERRO"
        case .critical: "FATA"
        }
    }

    static let toStandardError: @Sendable (String) -> Void = { line in
        // A log nobody reads any more must not end the daemon.
        try? FileHandle.standardError.write(contentsOf: Data(line.utf8))
    }
}
