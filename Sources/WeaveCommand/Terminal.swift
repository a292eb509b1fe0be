import Foundation

/// Standard output and standard error.
enum Terminal {
    /// Writes `text` to standard output as it is.
    static func write(_ text: String) { try? FileHandle.standardOutput.write(contentsOf: Data(text.utf8)) }

    /// Writes a line to standard error.
    static func complain(_ line: String) { try? FileHandle.standardError.write(contentsOf: Data((line + "\n").utf8)) }
}
