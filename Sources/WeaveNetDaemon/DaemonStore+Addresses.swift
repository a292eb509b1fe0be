import Foundation
import GRDB
import WeaveCore
import WeaveDatapath
import WeaveIPAM

/// The ring and the addresses given out. Each transaction is one of the database: peer name, ring and owned addresses
/// are true together, or the change did not happen.
extension DaemonStore: RingStore {
    func load() async throws -> StoredState? {
        try await attempt { database in
            guard let row = try Row.fetchOne(database, sql: "SELECT peer, ring FROM ring WHERE id = 1") else {
                return nil
            }
            let peer = try PeerName(parsing: row["peer"] as String)
            let ring = try (row["ring"] as Data?).map { try StoredForms.decodeRing([UInt8]($0)) }
            var owned: [String: OwnedAddresses] = [:]
            for row in try Row.fetchAll(database, sql: "SELECT ident, is_container, addresses FROM owned") {
                let texts = (row["addresses"] as String).split(separator: " ")
                let cidrs = texts.compactMap { IPv4CIDR(String($0)) }
                guard cidrs.count == texts.count else { throw Self.unreadable(row["ident"]) }
                owned[row["ident"]] = OwnedAddresses(isContainer: row["is_container"], cidrs: cidrs)
            }
            return StoredState(peer: peer, ring: ring, owned: owned)
        }
    }

    func save(_ transaction: RingTransaction) async throws {
        try await attempt { database in
            let ring = transaction.ring.map { Data(StoredForms.encode(ring: $0)) }
            // COALESCE keeps the stored ring when the transaction has none.
            try database.cachedStatement(
                sql: """
                    INSERT INTO ring (id, peer, ring) VALUES (1, ?, ?)
                    ON CONFLICT (id) DO UPDATE SET peer = excluded.peer, ring = COALESCE(excluded.ring, ring)
                    """
            ).execute(arguments: [transaction.peer.description, ring])
            if transaction.dropsOwned { try database.execute(sql: "DELETE FROM owned") }
            for (ident, addresses) in transaction.owned {
                guard let addresses else {
                    try database.cachedStatement(sql: "DELETE FROM owned WHERE ident = ?").execute(arguments: [ident])
                    continue
                }
                let texts = addresses.cidrs.map(\.description).joined(separator: " ")
                try database.cachedStatement(
                    sql: "INSERT OR REPLACE INTO owned (ident, is_container, addresses) VALUES (?, ?, ?)"
                ).execute(arguments: [ident, addresses.isContainer, texts])
            }
        }
    }

    private static func unreadable(_ ident: String) -> DaemonError {
        DaemonError(.system, "the addresses of \(printable(ident)) in the database cannot be read")
    }
}

/// Which containers were attached, and which addresses the host has in the network.
extension DaemonStore {
    /// The containers by the names that their addresses are filed under.
    func containers() async throws(DaemonError) -> [String: ContainerLedger.Entry] {
        try await attempt { database in
            let rows = try Row.fetchAll(database, sql: "SELECT ident, container, namespace, device FROM container")
            var entries: [String: ContainerLedger.Entry] = [:]
            for row in rows {
                entries[row["ident"]] = ContainerLedger.Entry(
                    container: row["container"], namespace: row["namespace"], device: row["device"])
            }
            return entries
        }
    }

    /// - Parameter entry: nil forgets the container.
    func setContainer(_ ident: String, _ entry: ContainerLedger.Entry?) async throws(DaemonError) {
        try await attempt { database in
            guard let entry else {
                return try database.execute(sql: "DELETE FROM container WHERE ident = ?", arguments: [ident])
            }
            try database.execute(
                sql: "INSERT OR REPLACE INTO container (ident, container, namespace, device) VALUES (?, ?, ?, ?)",
                arguments: [ident, entry.container, entry.namespace, entry.device])
        }
    }

    /// What the host has in the network, and whether it is masqueraded.
    func exposures() async throws(DaemonError) -> [Exposure] {
        try await attempt { database in
            try Row.fetchAll(database, sql: "SELECT address, masquerade FROM exposure ORDER BY address").compactMap {
                row in
                IPv4CIDR(row["address"] as String).map { Exposure($0, isMasqueraded: row["masquerade"]) }
            }
        }
    }

    func setExposures(_ exposures: [Exposure]) async throws(DaemonError) {
        try await attempt { database in
            try database.execute(sql: "DELETE FROM exposure")
            for one in exposures {
                try database.execute(
                    sql: "INSERT INTO exposure (address, masquerade) VALUES (?, ?)",
                    arguments: [one.address.description, one.isMasqueraded])
            }
        }
    }
}
