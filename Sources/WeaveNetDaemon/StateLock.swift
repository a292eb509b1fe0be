import Foundation

/// Keeps a second daemon from using the same state: a lock file with the process id of its holder, freed by the kernel
/// when the process ends, however it ends.
final class StateLock {
    private let file: FileHandle

    /// - Throws: `DaemonError` (system) that names the process that holds the lock.
    init(path: String) throws(DaemonError) {
        let directory = URL(fileURLWithPath: path).deletingLastPathComponent().path
        do {
            try FileManager.default.createDirectory(
                atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw DaemonError(
                .system, "cannot make the directory \(directory): \((error as NSError).localizedDescription)")
        }
        let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw DaemonError(.system, "cannot open \(path): \(systemReason())")
        }
        file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let holder = String(decoding: (try? file.read(upToCount: 32)) ?? Data(), as: UTF8.self)
            let process = Int(holder.trimmingCharacters(in: .whitespacesAndNewlines)).map { " (process \($0))" } ?? ""
            throw DaemonError(
                .system, "another weaver\(process) uses this state, see \(path); stop it or give another --db-prefix")
        }
        try? file.truncate(atOffset: 0)
        try? file.write(contentsOf: Data("\(getpid())\n".utf8))
    }
}

/// The system's text for the error of the last call.
func systemReason(_ code: Int32 = errno) -> String {
    NSError(domain: NSPOSIXErrorDomain, code: Int(code)).localizedDescription
}
