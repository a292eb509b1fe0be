import Foundation
import GRDB
import Testing
import WeaveCore

@testable import WeaveNetDaemon

struct StoreTests {
    private let now = Date(timeIntervalSince1970: 1000)

    @Test("name and targets survive closing, in the order given")
    func survives() async throws {
        let directory = try TemporaryDirectory()
        let prefix = directory.path("deep/er/w")
        do {
            let store = try DaemonStore(prefix: prefix, now: now)
            #expect(try await store.peerName() == nil)
            #expect(try await store.targets() == [])
            try await store.setPeerName(PeerName(truncating: 0x7a00_0000_0001))
            try await store.setTargets(["b:1", "a", "b:1", "c'; DROP TABLE target; --"])
            try store.close()
        }
        let store = try DaemonStore(prefix: prefix, now: now)
        #expect(store.setAside == nil)
        #expect(try await store.peerName() == PeerName(truncating: 0x7a00_0000_0001))
        #expect(try await store.targets() == ["b:1", "a", "c'; DROP TABLE target; --"])
        try await store.setTargets([])
        #expect(try await store.targets() == [])
    }

    @Test("what was written is on the disk without closing")
    func crash() async throws {
        let directory = try TemporaryDirectory()
        let store = try DaemonStore(prefix: directory.path("w"), now: now)
        try await store.setTargets(["a"])
        // Another reader of the same files sees what a restart after a crash would.
        let other = try DaemonStore(prefix: directory.path("w"), now: now)
        #expect(try await other.targets() == ["a"])
        try store.close()
    }

    @Test("a damaged database is set aside, not deleted, and the daemon starts with an empty one", arguments: [0, 100])
    func damage(_ offset: Int) async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("wdata.sqlite")
        do {
            let store = try DaemonStore(prefix: directory.path("w"), now: now)
            try await store.setTargets(["a"])
            try store.close()
        }
        var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        for index in offset..<min(bytes.count, offset + 3000) { bytes[index] = UInt8(truncatingIfNeeded: index &* 37) }
        try bytes.write(to: URL(fileURLWithPath: path))

        let store = try DaemonStore(prefix: directory.path("w"), now: now)
        let aside = try #require(store.setAside)
        #expect(aside == path + ".damaged-1000")
        #expect(try Data(contentsOf: URL(fileURLWithPath: aside)) == bytes)
        #expect(try await store.targets() == [])
        try await store.setTargets(["b"])
        #expect(try await store.targets() == ["b"])
    }

    @Test("a database of a newer release is refused and left alone")
    func newer() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("wdata.sqlite")
        try DaemonStore(prefix: directory.path("w"), now: now).close()
        let queue = try DatabaseQueue(path: path)
        try queue.write { try $0.execute(sql: "INSERT INTO grdb_migrations VALUES ('999')") }
        try queue.close()
        let error = #expect(throws: DaemonError.self) { try DaemonStore(prefix: directory.path("w"), now: now) }
        #expect(error?.message.contains("newer release") == true)
        #expect(!directory.names.contains { $0.contains("damaged") })
    }

    @Test("a place that cannot be written to is named")
    func unwritable() {
        let error = #expect(throws: DaemonError.self) { try DaemonStore(prefix: "/proc/nothing/w", now: now) }
        #expect(error?.message.contains("/proc/nothing") == true)
    }

    @Test("a second daemon is refused with the id of the first, until the first has gone")
    func lock() throws {
        let directory = try TemporaryDirectory()
        var first: StateLock? = try StateLock(path: directory.path("w.lock"))
        let error = #expect(throws: DaemonError.self) { try StateLock(path: directory.path("w.lock")) }
        #expect(error?.message.contains("(process \(getpid()))") == true)
        withExtendedLifetime(first) {}
        first = nil
        _ = try StateLock(path: directory.path("w.lock"))
    }
}
