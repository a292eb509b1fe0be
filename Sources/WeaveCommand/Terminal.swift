import Foundation

/// Where commands speak: standard output and standard error, or whatever takes their place.
struct Terminal: Sendable {
    enum Stream: Sendable { case output, error }

    /// Takes all text.
    let sink: @Sendable (Stream, String) -> Void

    /// The terminal of this process.
    static let standard = Terminal { stream, text in
        let file: FileHandle = stream == .output ? .standardOutput : .standardError
        try? file.write(contentsOf: Data(text.utf8))
    }

    /// Writes `text` to standard output as it is.
    func write(_ text: String) { sink(.output, text) }

    /// Writes a line to standard error.
    func complain(_ line: String) { sink(.error, line + "\n") }
}
