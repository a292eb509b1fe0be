import Foundation

/// The file in which supervisors and `weave stop` find the process id.
struct PidFile: Sendable {
    let path: String

    /// - Throws: `DaemonError` (system) when it cannot be written.
    func write() throws(DaemonError) {
        do {
            try Data("\(getpid())\n".utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
        } catch {
            throw DaemonError(.system, "cannot write --pid-file \(path): \((error as NSError).localizedDescription)")
        }
    }

    /// Removes the file, unless it is another process's by now.
    func remove() {
        guard let text = try? String(contentsOfFile: path, encoding: .utf8),
            text.trimmingCharacters(in: .whitespacesAndNewlines) == "\(getpid())"
        else { return }
        try? FileManager.default.removeItem(atPath: path)
    }
}
