import Foundation
import GRDB
import WeaveCore

/// What must survive a restart, in an SQLite database: the peer name, the targets, the ring, the addresses given out,
/// the containers they were given to, and the addresses of the host.
///
/// Each change is one transaction, on the disk when the call returns.
final class DaemonStore: Sendable {
    /// `<db-prefix>data.sqlite`.
    let path: String
    /// Where a database went that could not be read; nil when all was well.
    let setAside: String?
    private let database: DatabaseQueue

    /// Opens the database, or makes it. One that is damaged is set aside under another name, never deleted, and an
    /// empty one takes its place.
    ///
    /// - Throws: `DaemonError` (system) when the file system refuses, or a newer release wrote the database.
    init(prefix: String, now: Date) throws(DaemonError) {
        path = prefix + "data.sqlite"
        let directory = URL(fileURLWithPath: path).deletingLastPathComponent().path
        do {
            try FileManager.default.createDirectory(
                atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw DaemonError(.system, "cannot make the directory \(directory): \(Self.reason(error))")
        }
        do {
            database = try Self.open(path)
            setAside = nil
        } catch let error as DatabaseError where Self.isDamage(error) {
            let aside = "\(path).damaged-\(Int(now.timeIntervalSince1970))"
            try Self.move(path, to: aside)
            do {
                database = try Self.open(path)
            } catch {
                throw DaemonError(.system, "cannot make the database \(path): \(Self.reason(error))")
            }
            setAside = aside
        } catch let error as DaemonError {
            throw error
        } catch {
            throw DaemonError(.system, "cannot open the database \(path): \(Self.reason(error))")
        }
    }

    /// The peer name of the last run; nil at the first.
    func peerName() async throws(DaemonError) -> PeerName? {
        let text = try await attempt { database in
            try String.fetchOne(database, sql: "SELECT value FROM setting WHERE key = 'peer-name'")
        }
        return text.flatMap { try? PeerName(parsing: $0) }
    }

    func setPeerName(_ name: PeerName) async throws(DaemonError) {
        try await attempt { database in
            try database.execute(
                sql:
                    "INSERT OR REPLACE INTO setting (key, value) VALUES ('peer-name', ?)",
                arguments: [name.description])
        }
    }

    /// The targets, in the order they were given.
    func targets() async throws(DaemonError) -> [String] {
        try await attempt { try String.fetchAll($0, sql: "SELECT name FROM target ORDER BY position") }
    }

    func setTargets(_ targets: [String]) async throws(DaemonError) {
        try await attempt { database in
            try database.execute(sql: "DELETE FROM target")
            for (position, name) in targets.enumerated() {
                try database.execute(
                    sql: "INSERT OR IGNORE INTO target (position, name) VALUES (?, ?)", arguments: [position, name])
            }
        }
    }

    func close() throws { try database.close() }

    func attempt<Value: Sendable>(
        _ work: @escaping @Sendable (Database) throws -> Value
    ) async throws(DaemonError) -> Value {
        do {
            return try await database.write(work)
        } catch {
            throw DaemonError(.system, "the database \(path) fails: \(Self.reason(error))")
        }
    }

    private static func open(_ path: String) throws -> DatabaseQueue {
        var configuration = Configuration()
        // Acknowledged means on the disk, also when the power goes.
        configuration.prepareDatabase { database in
            try database.execute(sql: "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
        }
        let queue = try DatabaseQueue(path: path, configuration: configuration)
        let verdict = try queue.read { try String.fetchOne($0, sql: "PRAGMA quick_check(1)") }
        if verdict != "ok" { throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: verdict) }
        if try queue.read({ try migrator.hasBeenSuperseded($0) }) {
            throw DaemonError(.system, "the database \(path) was written by a newer release; use that, or move it away")
        }
        try migrator.migrate(queue)
        return queue
    }

    private static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1") { database in
            try database.execute(
                sql: """
                    CREATE TABLE setting (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT;
                    CREATE TABLE target (position INTEGER PRIMARY KEY NOT NULL, name TEXT UNIQUE NOT NULL) STRICT;
                    """)
        }
        migrator.registerMigration("2") { database in
            try database.execute(
                sql: """
                    CREATE TABLE ring (id INTEGER PRIMARY KEY NOT NULL CHECK (id = 1), peer TEXT NOT NULL, ring BLOB)
                        STRICT;
                    CREATE TABLE owned (
                        ident TEXT PRIMARY KEY NOT NULL, is_container INTEGER NOT NULL, addresses TEXT NOT NULL) STRICT;
                    CREATE TABLE container (
                        ident TEXT PRIMARY KEY NOT NULL, container TEXT NOT NULL, namespace TEXT NOT NULL, device TEXT)
                        STRICT;
                    CREATE TABLE exposure (address TEXT PRIMARY KEY NOT NULL, masquerade INTEGER NOT NULL) STRICT;
                    """)
        }
        return migrator
    }

    private static func isDamage(_ error: DatabaseError) -> Bool {
        [.SQLITE_CORRUPT, .SQLITE_NOTADB, .SQLITE_FORMAT].contains(error.resultCode)
    }

    /// The write-ahead log belongs to the database: both move together.
    private static func move(_ path: String, to aside: String) throws(DaemonError) {
        do {
            for suffix in ["", "-wal", "-shm"] where FileManager.default.fileExists(atPath: path + suffix) {
                try FileManager.default.moveItem(atPath: path + suffix, toPath: aside + suffix)
            }
        } catch {
            throw DaemonError(
                .system, "the database \(path) is damaged and cannot be moved away: \(reason(error))")
        }
    }

    private static func reason(_ error: any Error) -> String {
        if let error = error as? DatabaseError { return error.message ?? "SQLite error \(error.resultCode.rawValue)" }
        return (error as NSError).localizedDescription
    }
}
