public import Logging
import Synchronization

/// Keeps the lines of a log, each with its level in front.
public final class LogRecorder: Sendable {
    private let recorded = Mutex<[String]>([])

    public init() {}

    public var lines: [String] { recorded.withLock { $0 } }

    public func contains(_ text: String) -> Bool { lines.contains { $0.contains(text) } }

    /// Takes all levels from `debug` on.
    public var logger: Logger {
        Logger(label: "test") { _ in Handler(recorder: self) }
    }

    private func append(_ line: String) { recorded.withLock { $0.append(line) } }

    private struct Handler: LogHandler {
        let recorder: LogRecorder
        var metadata: Logger.Metadata = [:]
        var logLevel: Logger.Level = .debug

        init(recorder: LogRecorder) { self.recorder = recorder }

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) { recorder.append("\(event.level) \(event.message)") }
    }
}
