import Foundation
import GRDB
import Testing
import WeaveCore
import WeaveDatapath
import WeaveIPAM

@testable import WeaveNetDaemon

/// The database as the allocator's store.
struct AddressStoreTests {
    private let now = Date(timeIntervalSince1970: 1000)
    private let peer = PeerName(truncating: 0x7a00_0000_0001)
    private let universe = IPv4CIDR("10.32.0.0/24")

    private func ring(_ owner: PeerName) throws -> Ring {
        var ring = try Ring(universe: try #require(universe).range, peer: owner)
        try ring.divide(among: [owner])
        return ring
    }

    private func owned(_ texts: String..., isContainer: Bool = true) -> OwnedAddresses {
        OwnedAddresses(isContainer: isContainer, cidrs: texts.compactMap { IPv4CIDR($0) })
    }

    @Test("transactions add up, and are there after reopening")
    func round() async throws {
        let directory = try TemporaryDirectory()
        let prefix = directory.path("w")
        do {
            let store = try DaemonStore(prefix: prefix, now: now)
            #expect(try await store.load() == nil)
            try await store.save(
                RingTransaction(peer: peer, ring: try ring(peer), owned: ["a": owned("10.32.0.1/24", "1.2.3.4/8")]))
            try await store.save(
                RingTransaction(peer: peer, owned: ["b'; --": owned("10.32.0.2/24", isContainer: false)]))
            try await store.save(RingTransaction(peer: peer, owned: ["a": owned("10.32.0.1/24")]))
            try store.close()
        }
        let store = try DaemonStore(prefix: prefix, now: now)
        let state = StoredState(
            peer: peer, ring: try ring(peer),
            owned: ["a": owned("10.32.0.1/24"), "b'; --": owned("10.32.0.2/24", isContainer: false)])
        #expect(try await store.load() == state)
        try await store.save(RingTransaction(peer: peer, owned: ["a": nil]))
        #expect(try await store.load()?.owned.count == 1)
        try await store.save(RingTransaction(peer: peer, dropsOwned: true, owned: ["c": owned("10.32.0.9/24")]))
        #expect(try await store.load()?.owned.keys.sorted() == ["c"])
        // A peer of another name takes the store over with its ring in one step.
        let other = PeerName(truncating: 2)
        try await store.save(RingTransaction(peer: other, ring: try ring(other), dropsOwned: true))
        #expect(try await store.load() == StoredState(peer: other, ring: try ring(other), owned: [:]))
    }

    @Test("random transactions leave what the store in memory has", arguments: [1, 2, 3])
    func likeMemory(_ seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        let directory = try TemporaryDirectory()
        let store = try DaemonStore(prefix: directory.path("w"), now: now)
        let model = InMemoryRingStore()
        for _ in 0..<100 {
            var change = RingTransaction(peer: peer)
            if random.next() % 4 == 0 { change.ring = try ring(peer) }
            change.dropsOwned = random.next() % 16 == 0
            for _ in 0..<(random.next() % 4) {
                let ident = "c\(random.next() % 6)"
                let value = owned("10.32.0.\(random.next() % 200)/24", isContainer: random.next() % 2 == 0)
                change.owned.updateValue(random.next() % 3 == 0 ? nil : value, forKey: ident)
            }
            try await store.save(change)
            try await model.save(change)
            #expect(try await store.load() == model.contents, "seed \(seed)")
        }
    }

    @Test("a failing transaction changes nothing")
    func atomic() async throws {
        let directory = try TemporaryDirectory()
        let store = try DaemonStore(prefix: directory.path("w"), now: now)
        try await store.save(RingTransaction(peer: peer, ring: try ring(peer), owned: ["a": owned("10.32.0.1/24")]))
        let before = try await store.load()
        // Somebody else's trigger stands in for a disk that fails in the middle.
        let other = try DatabaseQueue(path: directory.path("wdata.sqlite"))
        try await other.write { database in
            try database.execute(
                sql: """
                    CREATE TRIGGER full BEFORE INSERT ON owned WHEN NEW.ident = 'z'
                    BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END
                    """)
        }
        let later = PeerName(truncating: 9)
        let error = await #expect(throws: DaemonError.self) {
            try await store.save(
                RingTransaction(
                    peer: later, ring: try ring(later), dropsOwned: true, owned: ["z": owned("10.32.0.5/24")]))
        }
        #expect(error?.message.contains("disk is full") == true)
        #expect(try await store.load() == before)
    }

    @Test("what cannot be read is an error, not an empty state")
    func unreadable() async throws {
        let directory = try TemporaryDirectory()
        let store = try DaemonStore(prefix: directory.path("w"), now: now)
        try await store.save(RingTransaction(peer: peer, ring: try ring(peer), owned: ["a": owned("10.32.0.1/24")]))
        let other = try DatabaseQueue(path: directory.path("wdata.sqlite"))
        try await other.write { try $0.execute(sql: "UPDATE owned SET addresses = 'x'") }
        await #expect(throws: DaemonError.self) { try await store.load() }
        try await other.write { try $0.execute(sql: "DELETE FROM owned; UPDATE ring SET ring = x'0102'") }
        await #expect(throws: DaemonError.self) { try await store.load() }
    }

    @Test("containers and the host's addresses are kept")
    func ledger() async throws {
        let directory = try TemporaryDirectory()
        let store = try DaemonStore(prefix: directory.path("w"), now: now)
        let entry = ContainerLedger.Entry(container: "/x/y", namespace: "4:5", device: "vethwepl1")
        try await store.setContainer("a", entry)
        try await store.setContainer("b", .init(container: "b", namespace: "4:6"))
        try await store.setContainer("b", nil)
        #expect(try await store.containers() == ["a": entry])
        let exposure = Exposure(try #require(IPv4CIDR("10.32.0.7/12")), isMasqueraded: false)
        try await store.setExposures([exposure])
        #expect(try await store.exposures() == [exposure])
        try await store.setExposures([])
        #expect(try await store.exposures() == [])
    }

    @Test("a database of the first release is taken over")
    func migration() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("wdata.sqlite")
        do {
            let old = try DatabaseQueue(path: path)
            try await old.write { database in
                try database.execute(
                    sql: """
                        CREATE TABLE setting (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT;
                        CREATE TABLE target (position INTEGER PRIMARY KEY NOT NULL, name TEXT UNIQUE NOT NULL) STRICT;
                        INSERT INTO setting VALUES ('peer-name', '7a:00:00:00:00:01');
                        CREATE TABLE grdb_migrations (identifier TEXT NOT NULL PRIMARY KEY);
                        INSERT INTO grdb_migrations VALUES ('1');
                        """)
            }
            try old.close()
        }
        let store = try DaemonStore(prefix: directory.path("w"), now: now)
        #expect(store.setAside == nil)
        #expect(try await store.peerName() == peer)
        #expect(try await store.load() == nil)
    }
}
