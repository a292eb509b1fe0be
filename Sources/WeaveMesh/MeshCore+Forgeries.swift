import WeaveCore

/// Words that only a liar can have said. Nothing in the protocol is signed, so any peer can write any record: what no
/// honest peer can have come to is not believed, and what is false about ourself is outdone.
extension MeshCore {
    /// Takes records out of an update that nobody can have counted to, and goes beyond one about this very life of ours.
    mutating func sift(_ update: inout TopologyUpdate, from connection: MeshNeighbour, _ now: MonotonicTime) {
        for record in update.records where record.name == configuration.name {
            let isFalse = table.contradictsOwn(record, of: update)
            outdo(uid: record.uid, version: record.version, isFalse: isFalse, now)
        }
        let count = update.records.count
        update.records.removeAll { isAbsurd($0.name, version: $0.version) }
        guard update.records.count < count else { return }
        statistics.forgedRecords += count - update.records.count
        complain(
            .warning, "\(connection.label): ignored \(count - update.records.count) records with absurd versions", now)
    }

    /// Whether a version of somebody else's is one that nobody counts to. Were it taken, its owner could never again
    /// say anything newer. About ourself such versions are heard, and told (`PeerTable.claimOwn`).
    func isAbsurd(_ name: PeerName, version: UInt64) -> Bool {
        version >= PeerTable.absurdVersion && name != configuration.name
    }

    /// Goes beyond a record with our own name and UID that is newer than ours, or as new and false. 2.8.1 leaves it
    /// alone, and is then believed by nobody until it has counted further.
    mutating func outdo(uid: UInt64, version: UInt64, isFalse: Bool, _ now: MonotonicTime) {
        guard uid == configuration.uid, version < PeerTable.absurdVersion,
            version > table.own.version || version == table.own.version && isFalse
        else { return }
        statistics.forgedRecords += 1
        table.raiseOwnVersion(beyond: version)
        complain(
            .warning,
            "Somebody else made a record of ourself with version \(version); ours is now \(table.own.version)", now)
        armUpdate(now)
    }

    /// Puts a line into the log that a peer's message is the reason for, unless there were many in this second.
    mutating func complain(_ level: MeshLogLevel, _ text: String, _ now: MonotonicTime) {
        guard complaints.admits(now) else { return statistics.suppressedLines += 1 }
        log(level, text)
    }
}

/// How many lines others may put into the log: whoever sends a million messages must not fill a disk.
struct ComplaintBudget: Sendable {
    /// For messages of peers; as many as strangers get for their handshakes.
    static let linesPerSecond = 20

    private var second = Int64.min
    private var count = 0

    /// Whether one more line fits into this second.
    mutating func admits(_ now: MonotonicTime, limit: Int = linesPerSecond) -> Bool {
        let current = now.nanoseconds / 1_000_000_000
        if current != second { (second, count) = (current, 0) }
        count += 1
        return count <= limit
    }
}
