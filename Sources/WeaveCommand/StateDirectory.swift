import Foundation

/// The directory where `weave launch` keeps what `weave stop` and the others need.
struct StateDirectory: Sendable, Equatable {
    let path: String

    /// A log that grew larger is moved aside at the next launch.
    static let maximumLog = 16 << 20

    init(environment: [String: String]) {
        let text = environment["WEAVE_STATE_DIR"] ?? ""
        path = text.isEmpty ? "/var/lib/weave" : text
    }

    var log: String { path + "/weaver.log" }
    var pidFile: String { path + "/weaver.pid" }
    var addressFile: String { path + "/weaver.http" }
    var databasePrefix: String { path + "/weave" }

    /// Whether a daemon has kept state here.
    var hasDatabase: Bool { FileManager.default.fileExists(atPath: databasePrefix + "data.sqlite") }

    /// The process id that the daemon wrote; nil when there is none.
    var processID: Int32? { line(pidFile).flatMap { Int32($0) } }

    /// The control interface of the last launch.
    var recordedAddress: String? { line(addressFile) }

    /// Makes the directory and an empty log, both for the owner alone.
    ///
    /// - Throws: `CommandError` when the file system refuses.
    func prepare() throws(CommandError) {
        let files = FileManager.default
        do {
            try files.createDirectory(
                atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            let size = (try? files.attributesOfItem(atPath: log))?[.size] as? NSNumber
            if let size, size.intValue > Self.maximumLog {
                try? files.removeItem(atPath: log + ".1")
                try files.moveItem(atPath: log, toPath: log + ".1")
            }
            if !files.fileExists(atPath: log) {
                guard files.createFile(atPath: log, contents: nil, attributes: [.posixPermissions: 0o600]) else {
                    throw CommandError("cannot make \(log)")
                }
            }
        } catch let error as CommandError {
            throw error
        } catch {
            throw CommandError("cannot use the state directory \(path): \((error as NSError).localizedDescription)")
        }
    }

    /// Keeps the address for later commands; nil forgets it.
    func record(address: String?) throws(CommandError) {
        do {
            if let address {
                try Data((address + "\n").utf8).write(to: URL(fileURLWithPath: addressFile))
            } else if FileManager.default.fileExists(atPath: addressFile) {
                try FileManager.default.removeItem(atPath: addressFile)
            }
        } catch {
            throw CommandError("cannot write \(addressFile): \((error as NSError).localizedDescription)")
        }
    }

    var logSize: UInt64 {
        let size = (try? FileManager.default.attributesOfItem(atPath: log))?[.size] as? NSNumber
        return size?.uint64Value ?? 0
    }

    /// The last lines of the log, of those after the first `offset` bytes.
    func logTail(after offset: UInt64, lines: Int = 15) -> String {
        guard let file = FileHandle(forReadingAtPath: log), (try? file.seek(toOffset: offset)) != nil,
            let data = try? file.read(upToCount: 64 * 1024)
        else { return "" }
        return String(decoding: data, as: UTF8.self).split(separator: "\n").suffix(lines).joined(separator: "\n")
    }

    private func line(_ path: String) -> String? {
        guard let file = FileHandle(forReadingAtPath: path), let data = try? file.read(upToCount: 4096) else {
            return nil
        }
        let text = String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        return text.isEmpty ? nil : text
    }
}
