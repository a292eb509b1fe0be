import WeaveCore

/// Versions in place of records. Peers of this library say in the handshake that they take digests; between them a
/// record travels only when it is asked for, so that each peer gets it once, not once from every neighbour. Only its
/// own record a peer gives unasked to all neighbours that take digests: nobody can have a newer one. To others, 2.8.1
/// among them, records are sent as ever.
///
///     A ── announcement: names and versions ──► B     B compares
///     A ◄── question: names of what it lacks ── B
///     A ── ordinary topology update ──────────► B
///
/// A version alone does not tell a record from one that somebody forged with the same version; so a fingerprint of all
/// that the record says goes with it. Of two records of one version everybody keeps the one with the higher fingerprint,
/// until its owner hears of the difference and makes a version beyond both.
///
/// From time to time they look whether they have missed something, which costs 20 bytes when they have not:
///
///     A ── summary: one sum over all versions ► B     equal: nothing more; different:
///     A ◄── inventory: all names and versions ─ B     A asks for what is newer there
///     A ── announcement: what B lacks ────────► B     and B asks in its turn
enum TopologyDigest {
    /// The channel of digests. It is used only towards neighbours that announced the feature.
    static let channel = "topology-digest"
    static let feature = "TopologyDigest"
    static let featureValue = "3"

    /// Whether a neighbour with these features takes digests. Values below 3 were entries without fingerprints; those
    /// above it are digests with something added.
    static func isTaken(by features: [String: String]) -> Bool {
        features[feature].flatMap { UInt8($0) }.map { $0 >= 3 } ?? false
    }

    /// What is announced of a record.
    struct Entry: Equatable, Sendable {
        var name: PeerName
        var uid: UInt64
        var version: UInt64
        var hasShortID: Bool
        /// Equal for all records that say the same (`PeerRecord.fingerprint`).
        var fingerprint: UInt32

        /// Whether another record of the same peer wins over this one. An owner makes no two of the same version; what
        /// comes after the version decides between the truth and a forgery, so that all take the same for true.
        func isOutranked(by other: Entry) -> Bool {
            if (other.version, other.uid) != (version, uid) { return (other.version, other.uid) > (version, uid) }
            if other.hasShortID != hasShortID { return other.hasShortID }
            return other.fingerprint > fingerprint
        }
    }

    enum Message: Equatable {
        /// Versions that the sender has.
        case announcement([Entry])
        /// Records that the sender wants.
        case question([PeerName])
        /// The sum of all versions that the sender has.
        case summary(TopologySummary)
        /// All versions that the sender has: what is not in it, it lacks.
        case inventory([Entry])
    }

    /// A name, a flag, a fingerprint, a UID and a version of one byte.
    private static let minimumEntryBytes = PeerName.byteCount + 14

    private static let announcementKind: UInt8 = 1
    private static let questionKind: UInt8 = 2
    private static let summaryKind: UInt8 = 3
    private static let inventoryKind: UInt8 = 4

    /// Entries of one digest. A peer knows fewer: it stops learning at a quarter of this.
    static let maximumEntries = 4 * PeerTable.maximumPeers

    static func encode(_ message: Message) -> [UInt8] {
        var out: [UInt8] = []
        switch message {
        case .announcement(let entries): append(entries, announcementKind, to: &out)
        case .inventory(let entries): append(entries, inventoryKind, to: &out)
        case .question(let names):
            out.reserveCapacity(1 + names.count * PeerName.byteCount)
            out.append(questionKind)
            for name in names { out.appendInteger(name.rawValue, byteCount: PeerName.byteCount) }
        case .summary(let summary):
            out.append(summaryKind)
            out.appendInteger(summary.count, byteCount: 4)
            out.appendInteger(summary.first, byteCount: 8)
            out.appendInteger(summary.second, byteCount: 8)
        }
        return out
    }

    private static func append(_ entries: [Entry], _ kind: UInt8, to out: inout [UInt8]) {
        out.reserveCapacity(1 + entries.count * (minimumEntryBytes + 2))
        out.append(kind)
        for entry in entries {
            out.appendInteger(entry.name.rawValue, byteCount: PeerName.byteCount)
            out.append(entry.hasShortID ? 1 : 0)
            out.appendInteger(entry.fingerprint, byteCount: 4)
            out.appendInteger(entry.uid, byteCount: 8)
            out.appendWireUnsigned(entry.version)
        }
    }

    static func decode(_ bytes: [UInt8], from start: Int, to end: Int) throws(MeshWireError) -> Message {
        var cursor = MeshWireCursor(bytes, from: start, to: end)
        switch UInt8(truncatingIfNeeded: try integer(1, &cursor)) {
        case announcementKind: return .announcement(try entries(&cursor))
        case inventoryKind: return .inventory(try entries(&cursor))
        case questionKind:
            var names: [PeerName] = []
            names.reserveCapacity(min(cursor.remaining / PeerName.byteCount, maximumEntries))
            while cursor.remaining > 0 {
                try checkCount(names.count)
                names.append(PeerName(truncating: try integer(PeerName.byteCount, &cursor)))
            }
            return .question(names)
        case summaryKind:
            let count = UInt32(truncatingIfNeeded: try integer(4, &cursor))
            let first = try integer(8, &cursor)
            return .summary(TopologySummary(count: count, first: first, second: try integer(8, &cursor)))
        case let kind: throw MeshWireError("topology digest of unknown kind \(kind)")
        }
    }

    private static func entries(_ cursor: inout MeshWireCursor) throws(MeshWireError) -> [Entry] {
        var entries: [Entry] = []
        entries.reserveCapacity(min(cursor.remaining / minimumEntryBytes, maximumEntries))
        while cursor.remaining > 0 {
            try checkCount(entries.count)
            let name = PeerName(truncating: try integer(PeerName.byteCount, &cursor))
            let hasShortID = try integer(1, &cursor) != 0
            let fingerprint = UInt32(truncatingIfNeeded: try integer(4, &cursor))
            let uid = try integer(8, &cursor)
            entries.append(
                Entry(
                    name: name, uid: uid, version: try cursor.unsigned(), hasShortID: hasShortID,
                    fingerprint: fingerprint))
        }
        return entries
    }

    private static func checkCount(_ count: Int) throws(MeshWireError) {
        guard count < maximumEntries else {
            throw MeshWireError("topology digest of more than \(maximumEntries) entries")
        }
    }

    private static func integer(_ count: Int, _ cursor: inout MeshWireCursor) throws(MeshWireError) -> UInt64 {
        guard count <= cursor.remaining else { throw MeshWireError("topology digest cut short") }
        let first = cursor.position
        try cursor.skip(UInt64(count))
        var value: UInt64 = 0
        for index in first..<first + count { value = value << 8 | UInt64(cursor.bytes[index]) }
        return value
    }
}
