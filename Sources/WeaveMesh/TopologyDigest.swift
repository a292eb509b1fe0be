import WeaveCore

/// Versions in place of records. Peers of this library say in the handshake that they take digests; between them a
/// record travels only when it is asked for, so that each peer gets it once, not once from every neighbour. To others,
/// 2.8.1 among them, records are sent as ever.
///
///     A ── announcement: names and versions ──► B     B compares
///     A ◄── question: names of what it lacks ── B
///     A ── ordinary topology update ──────────► B
enum TopologyDigest {
    /// The channel of digests. It is used only towards neighbours that announced the feature.
    static let channel = "topology-digest"
    static let feature = "TopologyDigest"
    static let featureValue = "1"

    /// What is announced of a record.
    struct Entry: Equatable {
        var name: PeerName
        var uid: UInt64
        var version: UInt64
        var hasShortID: Bool
    }

    enum Message: Equatable {
        case announcement([Entry])
        case question([PeerName])
    }

    private static let announcementKind: UInt8 = 1
    private static let questionKind: UInt8 = 2

    static func encode(_ message: Message) -> [UInt8] {
        var out: [UInt8] = []
        switch message {
        case .announcement(let entries):
            out.reserveCapacity(1 + entries.count * 20)
            out.append(announcementKind)
            for entry in entries {
                out += entry.name.bytes
                out.append(entry.hasShortID ? 1 : 0)
                out.appendInteger(entry.uid, byteCount: 8)
                out.appendWireUnsigned(entry.version)
            }
        case .question(let names):
            out.append(questionKind)
            for name in names { out += name.bytes }
        }
        return out
    }

    static func decode(_ bytes: [UInt8], from start: Int, to end: Int) throws(MeshWireError) -> Message {
        var cursor = MeshWireCursor(bytes, from: start, to: end)
        func integer(_ count: Int) throws(MeshWireError) -> UInt64 {
            guard count <= cursor.remaining else { throw MeshWireError("topology digest cut short") }
            let first = cursor.position
            try cursor.skip(UInt64(count))
            return bytes[first..<first + count].reduce(0) { $0 << 8 | UInt64($1) }
        }
        let kind = try integer(1)
        switch UInt8(truncatingIfNeeded: kind) {
        case announcementKind:
            var entries: [Entry] = []
            while cursor.remaining > 0 {
                let name = PeerName(truncating: try integer(PeerName.byteCount))
                let hasShortID = try integer(1) != 0
                let uid = try integer(8)
                entries.append(
                    Entry(name: name, uid: uid, version: try cursor.unsigned(), hasShortID: hasShortID))
            }
            return .announcement(entries)
        case questionKind:
            var names: [PeerName] = []
            while cursor.remaining > 0 { names.append(PeerName(truncating: try integer(PeerName.byteCount))) }
            return .question(names)
        default: throw MeshWireError("topology digest of unknown kind \(kind)")
        }
    }
}

/// The records that were asked for and have not come yet.
struct TopologyQuestions: Sendable {
    private struct Question: Sendable {
        var version: UInt64
        var uid: UInt64
        var asked: ConnectionID
        /// Others who announced the same, to ask when the answer does not come.
        var others: [ConnectionID] = []
        var deadline: MonotonicTime
    }

    private var open: [PeerName: Question] = [:]

    /// How long an answer may take before another neighbour is asked. An answer waits behind what its sender has to send.
    static let patience = Duration.seconds(2)
    private static let alternatives = 3

    var isEmpty: Bool { open.isEmpty }

    /// Notes that a neighbour has a record we lack; whether to ask it now.
    mutating func mayAsk(_ entry: TopologyDigest.Entry, of id: ConnectionID, now: MonotonicTime) -> Bool {
        if let known = open[entry.name], (known.version, known.uid) >= (entry.version, entry.uid), known.deadline > now
        {
            if known.asked != id, known.others.count < Self.alternatives, !known.others.contains(id) {
                open[entry.name]?.others.append(id)
            }
            return false
        }
        guard open.count < PeerTable.maximumPeers || open[entry.name] != nil else { return false }
        open[entry.name] = Question(
            version: entry.version, uid: entry.uid, asked: id, deadline: now + Self.patience)
        return true
    }

    /// A record came.
    mutating func onRecord(_ name: PeerName, version: UInt64, uid: UInt64) {
        guard let known = open[name], (version, uid) >= (known.version, known.uid) else { return }
        open[name] = nil
    }

    /// Gives up on answers that are late, or whose neighbour is gone: whom to ask instead.
    mutating func askAgain(
        now: MonotonicTime, lost: ConnectionID? = nil, isLive: (ConnectionID) -> Bool
    ) -> [(name: PeerName, of: ConnectionID)] {
        var again: [(name: PeerName, of: ConnectionID)] = []
        for (name, question) in open where question.asked == lost || question.deadline <= now {
            guard let next = question.others.first(where: isLive) else {
                open[name] = nil
                continue
            }
            open[name]?.asked = next
            open[name]?.others.removeAll { $0 == next }
            open[name]?.deadline = now + Self.patience
            again.append((name, next))
        }
        return again.sorted { $0.name < $1.name }
    }
}
