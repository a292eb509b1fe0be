import WeaveCore

/// A topology update off the wire: records, each with all connections of its peer.
struct TopologyUpdate {
    struct Record: Equatable {
        var name: PeerName
        var nickname: String
        var uid: UInt64
        var version: UInt64
        /// Nil when absent or out of range.
        var shortID: ShortID?
        /// Which of `entries` are its connections. Empty when they were passed over.
        var entries: Range<Int>
        /// Whether the connections were passed over because the reader said that it has this very record.
        var isKnown: Bool
    }

    /// A connection of a record, not yet copied out of the update.
    struct Entry: Equatable {
        var name: PeerName
        var address: Range<Int32>
        var outbound: Bool
        var established: Bool
    }

    var bytes: [UInt8]
    var records: [Record] = []
    var entries: [Entry] = []
    /// Records and entries left out because they cannot be anybody's: names that are not six bytes, texts too long.
    var refused = 0

    /// The longest nickname. Host names have up to 64 bytes.
    static let maximumNicknameBytes = 1024
    /// The longest address. `[v6%zone]:port` has under 100 bytes.
    static let maximumAddressBytes = 256
}

/// Reads topology updates in one pass. Connection lists of records that are known already are passed over by their
/// length, which makes repetition, most of all topology traffic, nearly free.
struct TopologyReader {
    private var update: TopologyUpdate
    private var cursor: MeshWireCursor
    private var types = TopologyTypes()
    private var summaryPlan: (id: Int64, actions: [TopologyTypes.Action])?
    private var listPlan: (id: Int64, actions: [TopologyTypes.Action])?

    private static let summaryFields = [
        TopologyTypes.Local(name: "NameByte", type: MeshWireType.bytes),
        TopologyTypes.Local(name: "NickName", type: MeshWireType.string),
        TopologyTypes.Local(name: "UID", type: MeshWireType.uint),
        TopologyTypes.Local(name: "Version", type: MeshWireType.uint),
        TopologyTypes.Local(name: "ShortID", type: MeshWireType.uint),
        TopologyTypes.Local(name: "HasShortID", type: MeshWireType.bool),
    ]

    private static let connectionFields = [
        TopologyTypes.Local(name: "NameByte", type: MeshWireType.bytes),
        TopologyTypes.Local(name: "RemoteTCPAddr", type: MeshWireType.string),
        TopologyTypes.Local(name: "Outbound", type: MeshWireType.bool),
        TopologyTypes.Local(name: "Established", type: MeshWireType.bool),
    ]

    /// The values of a summary before they are judged.
    private struct Summary {
        var name = 0..<0
        var nickname = 0..<0
        var uid: UInt64 = 0
        var version: UInt64 = 0
        var shortID: UInt64 = 0
        var hasShortID = false
    }

    /// Reads a whole update. Nothing of it counts when any of it is malformed.
    ///
    /// - Parameter isKnown: whether the record of this name, UID and version is held already.
    static func read(
        _ bytes: [UInt8], isKnown: (PeerName, UInt64, UInt64) -> Bool = { _, _, _ in false }
    ) throws(MeshWireError) -> TopologyUpdate {
        var reader = TopologyReader(bytes)
        while let summary = try reader.summary() {
            // An update that ends after a summary is taken without it, as 2.8.1 does.
            guard try reader.connections(of: summary, isKnown) else { break }
        }
        return reader.update
    }

    private init(_ bytes: [UInt8]) {
        update = TopologyUpdate(bytes: bytes)
        cursor = MeshWireCursor(bytes)
    }

    /// The next value, definitions taken in on the way; nil at the end.
    private mutating func value() throws(MeshWireError) -> (id: Int64, body: MeshWireCursor)? {
        var isFirst = true
        while true {
            guard var message = try cursor.message() else {
                guard isFirst else { throw MeshWireError.endedInside }
                return nil
            }
            let id = try message.signed()
            guard id < 0 else { return (id, message) }
            try types.define(id, &message)
            isFirst = false
        }
    }

    private mutating func summary() throws(MeshWireError) -> Summary? {
        guard let (id, message) = try value() else { return nil }
        var body = message
        if summaryPlan?.id != id {
            let actions = try types.plan(Int(id), as: Self.summaryFields, name: "peerSummary")
            summaryPlan = (id, actions)
        }
        var summary = Summary()
        guard let actions = summaryPlan?.actions else { return nil }
        try fields(actions, &body) { (field, body) throws(MeshWireError) in
            switch field {
            case 0: summary.name = try body.range("[]uint8")
            case 1: summary.nickname = try body.range("string")
            case 2: summary.uid = try body.unsigned()
            case 3: summary.version = try body.unsigned()
            case 4:
                summary.shortID = try body.unsigned()
                guard summary.shortID <= UInt64(UInt16.max) else {
                    throw MeshWireError("value for \"ShortID\" out of range")
                }
            default: summary.hasShortID = try body.unsigned() != 0
            }
        }
        return summary
    }

    /// Reads the connections of a peer; false when the update ends here.
    private mutating func connections(
        of summary: Summary, _ isKnown: (PeerName, UInt64, UInt64) -> Bool
    ) throws(MeshWireError) -> Bool {
        guard let (id, message) = try value() else { return false }
        let name = PeerName(bytes: update.bytes[summary.name])
        let nickname = nickname(of: summary)
        let isAcceptable = name != nil && name != .unknown && nickname != nil
        if isAcceptable, let name, let nickname, isKnown(name, summary.uid, summary.version) {
            append(summary, name, nickname, update.entries.count..<update.entries.count, isKnown: true)
            return true
        }
        let first = update.entries.count
        try list(id, message)
        guard isAcceptable, let name, let nickname else {
            update.refused += 1
            update.entries.removeLast(update.entries.count - first)
            return true
        }
        append(summary, name, nickname, first..<update.entries.count, isKnown: false)
        return true
    }

    /// The nickname of a record; nil when it is too long. Bytes that are no UTF-8 grow when they are repaired, and others
    /// must be able to read what we pass on.
    private func nickname(of summary: Summary) -> String? {
        guard summary.nickname.count <= TopologyUpdate.maximumNicknameBytes else { return nil }
        let nickname = String(decoding: update.bytes[summary.nickname], as: UTF8.self)
        return nickname.utf8.count <= TopologyUpdate.maximumNicknameBytes ? nickname : nil
    }

    private mutating func append(
        _ summary: Summary, _ name: PeerName, _ nickname: String, _ entries: Range<Int>, isKnown: Bool
    ) {
        let shortID = summary.hasShortID ? ShortID(exactly: summary.shortID) : nil
        update.records.append(
            TopologyUpdate.Record(
                name: name, nickname: nickname, uid: summary.uid, version: summary.version, shortID: shortID,
                entries: entries, isKnown: isKnown))
    }

    /// Reads a list of connections into `entries`.
    private mutating func list(_ id: Int64, _ message: MeshWireCursor) throws(MeshWireError) {
        var body = message
        if listPlan?.id != id {
            guard let wire = types.wire(Int(id)) else { throw MeshWireError.unknownType }
            guard case .slice(let element) = wire else {
                throw MeshWireError(
                    "gob: decoding into local type *[]mesh.connectionSummary, received remote type "
                        + MeshWireType.name(id))
            }
            let actions = try types.plan(element, as: Self.connectionFields, name: "connectionSummary")
            listPlan = (id, actions)
        }
        guard let actions = listPlan?.actions else { return }
        guard try body.unsigned() == 0 else {
            throw MeshWireError("gob: decode: corrupted data: non-zero delta for singleton")
        }
        let count = try body.unsigned()
        guard count <= UInt64(body.remaining) else { throw TopologyTypes.tooLong(count) }
        for _ in 0..<count {
            var name = 0..<0
            var entry = TopologyUpdate.Entry(name: .unknown, address: 0..<0, outbound: false, established: false)
            try fields(actions, &body) { (field, body) throws(MeshWireError) in
                switch field {
                case 0: name = try body.range("[]uint8")
                case 1:
                    let range = try body.range("string")
                    entry.address = Int32(range.lowerBound)..<Int32(range.upperBound)
                case 2: entry.outbound = try body.unsigned() != 0
                default: entry.established = try body.unsigned() != 0
                }
            }
            var value: UInt64 = 0
            if name.count == PeerName.byteCount {
                for index in name { value = value << 8 | UInt64(update.bytes[index]) }
                entry.name = PeerName(truncating: value)
            }
            // A connection to nobody would make a peer of nobody, whom others refuse.
            guard entry.name != .unknown, entry.address.count <= TopologyUpdate.maximumAddressBytes else {
                update.refused += 1
                continue
            }
            update.entries.append(entry)
        }
    }

    @inline(__always)
    private func fields(
        _ actions: [TopologyTypes.Action], _ body: inout MeshWireCursor,
        _ take: (Int, inout MeshWireCursor) throws(MeshWireError) -> Void
    ) throws(MeshWireError) {
        var field = -1
        // A message may end without the terminators of the structures that are open.
        while body.remaining > 0 {
            let delta = try body.unsigned()
            guard delta > 0 else { return }
            guard delta < UInt64(actions.count - field) else { throw TopologyTypes.outOfBounds }
            field += Int(delta)
            switch actions[field] {
            case .take(let local): try take(local, &body)
            case .skip(let id): try types.skip(id, &body)
            }
        }
    }
}
