import WeaveCore

/// A peer as its owner described it.
struct PeerRecord: Sendable {
    var name: PeerName
    var nickname = ""
    /// 0 for a placeholder: a peer that others mention and nobody has described.
    var uid: UInt64 = 0
    var version: UInt64 = 0
    var shortID: ShortID?
    var connections = ConnectionList()
    /// The sum of the connections; it is up to date even while the list of our own is not.
    var connectionSum: UInt64 = 0
    /// Grows with each change of any record: equal stamps of a slot mean the same record.
    var stamp: UInt64 = 0

    var label: String { "\(name)(\(nickname))" }

    /// What is told of the record; nil while its owner has told nothing: whoever has a connection has changed once.
    var entry: TopologyDigest.Entry? {
        version == 0
            ? nil
            : TopologyDigest.Entry(
                name: name, uid: uid, version: version, hasShortID: shortID != nil, fingerprint: fingerprint)
    }

    /// Equal for all records of one version that say the same, however their connections are ordered.
    private var fingerprint: UInt32 {
        let own = Fingerprint.of(nickname.utf8, salt: shortID.map { UInt64($0.rawValue) + 1 } ?? 0)
        return UInt32(truncatingIfNeeded: Fingerprint.mixed(own &+ connectionSum))
    }
}

/// Every known peer, ourself at slot 0, and the graph of their connections.
struct PeerTable: Sendable {
    /// A connection of our own record.
    struct OwnLink: Sendable, Equatable {
        var address: String
        var outbound: Bool
        var established: Bool

        func fingerprint(to name: PeerName) -> UInt64 {
            ConnectionList.fingerprint(
                name: name, address: Array(address.utf8)[...], outbound: outbound, established: established)
        }
    }

    /// Peers learned from others at most: as many as there are short ids. Neighbours are taken even beyond it.
    static let maximumPeers = 4096
    /// Bytes of connections of all records together: many times what a full mesh of a thousand peers needs.
    static let maximumBytes = 128 << 20

    static let ourSlot = 0

    private(set) var records: [PeerRecord?] = []
    private(set) var graph = TopologyGraph()
    private(set) var shortIDs: ShortIDTable
    private(set) var ownLinks: [Int: OwnLink] = [:]
    /// The sum of all records but placeholders.
    private(set) var summary = TopologySummary()
    /// Grows with each change of a record or of the set of peers.
    private(set) var stamp: UInt64 = 0
    /// Grows when a peer comes or goes.
    private(set) var membership: UInt64 = 0
    private var slots: [PeerName: Int] = [:]
    private var free: [Int] = []
    private var bytes = 0
    private var ownConnectionsAreStale = false
    private let maximumPeers: Int
    private let maximumBytes: Int

    init(
        name: PeerName, nickname: String, uid: UInt64, shortID: ShortID?, version: UInt64 = 0,
        maximumPeers: Int = PeerTable.maximumPeers, maximumBytes: Int = PeerTable.maximumBytes
    ) {
        shortIDs = ShortIDTable(ourself: name)
        self.maximumPeers = maximumPeers
        self.maximumBytes = maximumBytes
        var record = PeerRecord(name: name)
        record.nickname = nickname
        record.uid = uid
        record.version = version
        record.shortID = shortID
        insert(record)
        if let shortID { _ = shortIDs.add(name, shortID) }
    }

    // MARK: Looking up

    var count: Int { slots.count }

    /// Ourself. There from the start and never removed.
    var own: PeerRecord { records[Self.ourSlot] ?? PeerRecord(name: .unknown) }

    func slot(of name: PeerName) -> Int? { slots[name] }

    func record(_ slot: Int) -> PeerRecord? { slot < records.count ? records[slot] : nil }

    /// What is told of the record in a slot, and its stamp; nil for placeholders.
    func entry(_ slot: Int) -> (entry: TopologyDigest.Entry, stamp: UInt64)? {
        guard slot < records.count, let entry = records[slot]?.entry, let stamp = records[slot]?.stamp else {
            return nil
        }
        return (entry, stamp)
    }

    /// The stamp of the record in a slot when it is just this one.
    func stamp(_ slot: Int, uid: UInt64, version: UInt64) -> UInt64? {
        guard slot < records.count, records[slot]?.uid == uid, records[slot]?.version == version else { return nil }
        return records[slot]?.stamp
    }

    /// The slots of all peers in the order of their names.
    var sortedSlots: [Int] { slots.sorted { $0.key < $1.key }.map(\.value) }

    /// The place of each slot in the order of names.
    var ranks: [Int32] {
        var ranks = [Int32](repeating: 0, count: records.count)
        for (rank, slot) in sortedSlots.enumerated() { ranks[slot] = Int32(rank) }
        return ranks
    }

    /// The names of the peers by slot; unknown where there is none.
    var names: [PeerName] { records.map { $0?.name ?? .unknown } }

    // MARK: Our own connections

    /// Finds or adds a neighbour as its handshake described it. A record that exists is not refreshed: its owner's
    /// next version will do that.
    mutating func neighbour(_ introduction: RemoteIntroduction) -> (slot: Int, isNew: Bool, effect: ShortIDTable.Effect)
    {
        if let slot = slots[introduction.name] { return (slot, false, ShortIDTable.Effect()) }
        var record = PeerRecord(name: introduction.name)
        record.nickname = introduction.nickname
        record.uid = introduction.uid
        record.shortID = introduction.shortID
        let slot = insert(record)
        let effect = introduction.shortID.map { shortIDs.add(introduction.name, $0) }
        return (slot, true, effect ?? ShortIDTable.Effect())
    }

    mutating func connect(_ slot: Int, _ link: OwnLink) {
        changeOwnLink(slot) { $0 = link }
    }

    mutating func establish(_ slot: Int) {
        guard ownLinks[slot] != nil else { return }
        changeOwnLink(slot) { $0?.established = true }
    }

    mutating func disconnect(_ slot: Int) {
        guard ownLinks[slot] != nil else { return }
        changeOwnLink(slot) { $0 = nil }
    }

    /// Takes another short id when ours belongs to somebody else; whether it did.
    mutating func reassignOwnShortID(using generator: inout some RandomNumberGenerator) -> Bool {
        let name = own.name
        guard let old = own.shortID, shortIDs.principal(of: old) != name,
            let new = shortIDs.unused(using: &generator)
        else { return false }
        _ = shortIDs.remove(name, old)
        _ = shortIDs.add(name, new)
        change(Self.ourSlot) { $0.shortID = new }
        raiseOwnVersion()
        return true
    }

    /// Our next version. It stays at the top once there, instead of starting again below what everybody has.
    mutating func raiseOwnVersion(beyond other: UInt64? = nil) {
        let base = other ?? own.version
        change(Self.ourSlot) { $0.version = base == .max ? .max : base + 1 }
    }

    /// Changes a record, with all that follows from it.
    private mutating func change(_ slot: Int, _ body: (inout PeerRecord) -> Void) {
        guard var record = records[slot] else { return }
        records[slot] = nil
        if let entry = record.entry { summary.remove(entry) }
        body(&record)
        stamp += 1
        record.stamp = stamp
        if let entry = record.entry { summary.add(entry) }
        records[slot] = record
    }

    private mutating func changeOwnLink(_ slot: Int, _ body: (inout OwnLink?) -> Void) {
        let name = records[slot]?.name ?? .unknown
        let old = ownLinks[slot]?.fingerprint(to: name) ?? 0
        body(&ownLinks[slot])
        let new = ownLinks[slot]?.fingerprint(to: name) ?? 0
        change(Self.ourSlot) { $0.connectionSum = $0.connectionSum &- old &+ new }
        var listed = SlotSet()
        var established = SlotSet()
        for (slot, link) in ownLinks {
            listed.insert(slot)
            if link.established { established.insert(slot) }
        }
        graph.setRow(Self.ourSlot, listed: listed, established: established)
        ownConnectionsAreStale = true
        raiseOwnVersion()
    }

    /// Brings the encoded form of our own connections up to date. It is wanted far less often than it changes.
    mutating func refreshOwnConnections() {
        guard ownConnectionsAreStale else { return }
        ownConnectionsAreStale = false
        var list = ConnectionList()
        list.reserve(ownLinks.count)
        for (slot, link) in ownLinks.sorted(by: { $0.key < $1.key }) {
            guard let name = records[slot]?.name else { continue }
            list.append(
                name: name, address: Array(link.address.utf8)[...], outbound: link.outbound,
                established: link.established)
        }
        records[Self.ourSlot]?.connections = list
    }

    // MARK: Peers coming and going

    /// Whether there are peers that cannot be reached from here.
    var holdsUnreachable: Bool {
        let reachable = graph.reachable(from: Self.ourSlot)
        return graph.present.members.contains { !reachable.contains($0) }
    }

    /// Removes the peers that cannot be reached from here, nor have a connection to us, and whose record has no later
    /// stamp than this.
    mutating func collect(
        unchangedSince limit: UInt64 = .max
    ) -> (removed: [PeerRecord], effect: ShortIDTable.Effect) {
        let reachable = graph.reachable(from: Self.ourSlot)
        var removed: [PeerRecord] = []
        var effect = ShortIDTable.Effect()
        for slot in graph.present.members where !reachable.contains(slot) {
            guard let record = records[slot], record.stamp <= limit else { continue }
            removed.append(record)
            if let shortID = record.shortID {
                effect.invalidated = shortIDs.remove(record.name, shortID).invalidated || effect.invalidated
            }
            if let entry = record.entry { summary.remove(entry) }
            graph.remove(slot)
            slots[record.name] = nil
            records[slot] = nil
            free.append(slot)
            bytes -= record.connections.byteCount
        }
        if !removed.isEmpty {
            membership += 1
            stamp += 1
        }
        return (removed.sorted { $0.name < $1.name }, effect)
    }

    @discardableResult
    private mutating func insert(_ record: PeerRecord) -> Int {
        stamp += 1
        membership += 1
        let slot = free.popLast() ?? records.count
        if slot == records.count { records.append(nil) }
        records[slot] = record
        records[slot]?.stamp = stamp
        if let entry = record.entry { summary.add(entry) }
        slots[record.name] = slot
        graph.insert(slot)
        return slot
    }

    // MARK: Encoding

    /// An update with the records in these slots, up to `limit` bytes and at least one; what is left stays in `slots`.
    mutating func encode(_ slots: inout [Int], limit: Int) -> [UInt8] {
        var writer = TopologyWriter()
        while let slot = slots.last, writer.bytes.count < limit {
            slots.removeLast()
            if slot == Self.ourSlot { refreshOwnConnections() }
            guard let record = record(slot) else { continue }
            writer.append(
                name: record.name, nickname: record.nickname, uid: record.uid, version: record.version,
                shortID: record.shortID, connections: record.connections.encoded, count: record.connections.count)
        }
        return writer.bytes
    }

    // MARK: Updates from others

    /// What an update did.
    struct Outcome {
        /// Records that were news, and all those in the update.
        var improved: [Int] = []
        var named: [Int] = []
        /// Whether a short id means another peer than before.
        var invalidated = false
        var mustReassignOwn = false
        /// The version that somebody else uses under our name, when it made us raise ours.
        var overtaken: UInt64?
        /// A version under our name that is too high to be true.
        var absurd: UInt64?
        /// Records left out because the table is full.
        var refused = 0
        /// Records that were not news.
        var stale = 0
        /// Records of which a better one of the same version is held.
        var outranked: [Int] = []
    }

    /// Versions from here on are nobody's honest count.
    static let absurdVersion: UInt64 = 1 << 62

    /// Whether the record of this version is held. Records of ourself are always looked at: they may be forged.
    func holds(_ name: PeerName, uid: UInt64, version: UInt64) -> Bool {
        guard let slot = slots[name], slot != Self.ourSlot, let record = records[slot] else { return false }
        return record.uid == uid && record.version == version
    }

    /// Applies an update as everybody does: new peers and those they mention first, then each record by its version.
    mutating func apply(_ update: TopologyUpdate) -> Outcome {
        var outcome = Outcome()
        outcome.refused = update.refused
        var inserted: Set<Int> = []
        for record in update.records where slots[record.name] == nil {
            guard count < maximumPeers else { continue }
            var new = PeerRecord(name: record.name)
            new.nickname = record.nickname
            new.uid = record.uid
            new.version = record.version
            new.shortID = record.shortID
            inserted.insert(insert(new))
            if let shortID = record.shortID { note(shortIDs.add(record.name, shortID), in: &outcome) }
        }
        for record in update.records where !record.isKnown {
            guard slots[record.name] != nil else { continue }
            for entry in update.entries[record.entries] where slots[entry.name] == nil && count < maximumPeers {
                insert(PeerRecord(name: entry.name))
            }
        }
        for record in update.records {
            guard let slot = slots[record.name] else {
                outcome.refused += 1
                continue
            }
            outcome.named.append(slot)
            let isNew = inserted.remove(slot) != nil
            if apply(record, of: update, at: slot, isNew: isNew, &outcome) {
                outcome.improved.append(slot)
            } else {
                outcome.stale += 1
            }
        }
        return outcome
    }

    private mutating func note(_ effect: ShortIDTable.Effect, in outcome: inout Outcome) {
        if effect.invalidated { outcome.invalidated = true }
        if effect.mustReassignOwn { outcome.mustReassignOwn = true }
    }

    private mutating func apply(
        _ new: TopologyUpdate.Record, of update: TopologyUpdate, at slot: Int, isNew: Bool, _ outcome: inout Outcome
    ) -> Bool {
        guard slot != Self.ourSlot else {
            claimOwn(uid: new.uid, version: new.version, &outcome)
            return false
        }
        guard let old = records[slot] else { return false }
        // A record that was passed over as known differs in its short id at most.
        guard !new.isKnown else {
            guard old.shortID == nil, let shortID = new.shortID else { return false }
            change(slot) { $0.shortID = shortID }
            note(shortIDs.add(old.name, shortID), in: &outcome)
            return true
        }
        guard isNew || (new.version, new.uid) >= (old.version, old.uid) else { return false }
        let told = accepted(new, from: update, &outcome)
        let record = described(old, by: new, told, from: update)
        if !isNew, (new.version, new.uid) == (old.version, old.uid) {
            // Placeholders of one peer are alike.
            guard let held = old.entry, let claimed = record.entry, held != claimed else { return false }
            guard held.isOutranked(by: claimed) else {
                outcome.outranked.append(slot)
                return false
            }
        }
        let growth = record.connections.byteCount - old.connections.byteCount
        guard bytes + growth <= maximumBytes else {
            outcome.refused += 1
            return false
        }
        bytes += growth
        change(slot) { $0 = record }
        if !isNew, new.shortID != old.shortID {
            if let shortID = old.shortID { note(shortIDs.remove(old.name, shortID), in: &outcome) }
            if let shortID = new.shortID { note(shortIDs.add(old.name, shortID), in: &outcome) }
        }
        graph.setRow(slot, listed: told.listed, established: told.established)
        return true
    }

    /// A record as an update has it.
    private func described(
        _ old: PeerRecord, by new: TopologyUpdate.Record, _ told: Connections, from update: TopologyUpdate
    ) -> PeerRecord {
        var record = old
        record.version = new.version
        record.uid = new.uid
        record.nickname = new.nickname
        record.shortID = new.shortID
        record.connections = Self.list(told.entries, from: update)
        record.connectionSum = record.connections.sum
        return record
    }

    /// Whether a record says something of us that we do not say, with our own UID and version.
    func contradictsOwn(_ new: TopologyUpdate.Record, of update: TopologyUpdate) -> Bool {
        guard new.name == own.name, !new.isKnown else { return false }
        var outcome = Outcome()
        let told = accepted(new, from: update, &outcome)
        return described(own, by: new, told, from: update).entry.map(contradictsOwn) ?? false
    }

    /// The same of what was announced. A short id alone may be missing: the oldest releases do not pass it on.
    func contradictsOwn(_ entry: TopologyDigest.Entry) -> Bool {
        guard let ours = own.entry, (entry.name, entry.uid, entry.version) == (ours.name, ours.uid, ours.version)
        else { return false }
        return entry.hasShortID == ours.hasShortID && entry.fingerprint != ours.fingerprint
    }

    /// Somebody described us. If it is an earlier life of ours, or another peer with our name, we go beyond its version.
    mutating func claimOwn(uid: UInt64, version: UInt64, _ outcome: inout Outcome) {
        guard uid != own.uid, version >= own.version else { return }
        guard version < Self.absurdVersion else {
            outcome.absurd = version
            return
        }
        raiseOwnVersion(beyond: version)
        outcome.overtaken = version
    }

    /// The connections of a record that are kept: one to each peer, and not too many.
    private struct Connections {
        var entries: [TopologyUpdate.Entry]
        var listed = SlotSet()
        var established = SlotSet()
    }

    private func accepted(
        _ new: TopologyUpdate.Record, from update: TopologyUpdate, _ outcome: inout Outcome
    ) -> Connections {
        var told = Connections(entries: Array(update.entries[new.entries]))
        if told.entries.count > maximumPeers {
            outcome.refused += told.entries.count - maximumPeers
            told.entries.removeLast(told.entries.count - maximumPeers)
        }
        var hasRepetition = false
        for entry in told.entries {
            guard let other = slots[entry.name] else { continue }
            hasRepetition = hasRepetition || told.listed.contains(other)
            told.listed.insert(other)
            if entry.established { told.established.insert(other) } else { told.established.remove(other) }
        }
        if hasRepetition { told.entries = Self.lastOfEach(told.entries) }
        return told
    }

    private static func list(_ entries: [TopologyUpdate.Entry], from update: TopologyUpdate) -> ConnectionList {
        var list = ConnectionList()
        list.reserve(entries.count)
        for entry in entries {
            list.append(
                name: entry.name,
                address: update.bytes[Int(entry.address.lowerBound)..<Int(entry.address.upperBound)],
                outbound: entry.outbound, established: entry.established)
        }
        return list
    }

    /// Of connections to the same peer the last counts.
    private static func lastOfEach(_ entries: [TopologyUpdate.Entry]) -> [TopologyUpdate.Entry] {
        var index: [PeerName: Int] = [:]
        var kept: [TopologyUpdate.Entry] = []
        for entry in entries {
            if let known = index[entry.name] {
                kept[known] = entry
            } else {
                index[entry.name] = kept.count
                kept.append(entry)
            }
        }
        return kept
    }
}
