import Foundation

/// Standard output and standard error.
enum Terminal {
    enum Stream: Sendable { case output, error }

    /// Takes all text in place of the terminal, where it is set.
    @TaskLocal static var recorder: (@Sendable (Stream, String) -> Void)?

    /// Writes `text` to standard output as it is.
    static func write(_ text: String) { send(text, to: .output) }

    /// Writes a line to standard error.
    static func complain(_ line: String) { send(line + "\n", to: .error) }

    private static func send(_ text: String, to stream: Stream) {
        if let recorder { return recorder(stream, text) }
        let file: FileHandle = stream == .output ? .standardOutput : .standardError
        try? file.write(contentsOf: Data(text.utf8))
    }
}
