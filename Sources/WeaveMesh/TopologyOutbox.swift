import WeaveCore

/// The topology that waits to be sent on one connection. It is a set of places in the peer table; what they hold is read
/// when the message leaves.
struct TopologyOutbox: Sendable {
    /// A record to pass on.
    struct News {
        var slot: Int
        var stamp: UInt64
        /// Whether its owner tells it to all its neighbours that take digests.
        var ownerTells: Bool
    }

    /// Records to send in any case, and those to send unless the neighbour turns out to have them.
    var wanted = SlotSet()
    var news = SlotSet()
    /// Records to announce by version, unless the neighbour turns out to have them.
    var announcements = SlotSet()
    /// Whether to announce every record there is.
    var announcesAll = false
    /// Whether to send the summary of all records, and whether to answer one with all their versions.
    var summarizes = false
    var takesInventory = false
    /// When all records may be announced again because summaries differ.
    var nextComparison = MonotonicTime.zero
    /// Records to ask for.
    var questions: [PeerName] = []
    /// Broadcasts of topology, as only releases before 2.6 begin them.
    var broadcasts: [PeerName: SlotSet] = [:]
    /// What is left of an update too large for one message, and the tag and origin of its messages.
    private var rest: [Int] = []
    private var restOrigin: PeerName?
    /// For each slot the stamp of the record that the neighbour has been sent, has been told of, or has sent. Half of a
    /// stamp is enough: a table changes four thousand million times before two of them are taken for one.
    private var known: [UInt32] = []
    /// The state of the table when all of it was last given to the neighbour.
    var lastFull: UInt64?
    var heldBack = 0

    /// Whether the neighbour knows of the record with this stamp.
    func knows(_ slot: Int, _ stamp: UInt64) -> Bool {
        slot < known.count && known[slot] == UInt32(truncatingIfNeeded: stamp)
    }

    mutating func note(_ slot: Int, _ stamp: UInt64) {
        while known.count <= slot { known.append(0) }
        known[slot] = UInt32(truncatingIfNeeded: stamp)
    }

    /// The neighbour does not have the record after all.
    mutating func forget(_ slot: Int) {
        if slot < known.count { known[slot] = 0 }
    }

    /// Adds records that the neighbour does not know; whether there were any.
    mutating func add(_ fresh: [News], announce: Bool) -> Bool {
        var hasNews = false
        for record in fresh where !knows(record.slot, record.stamp) {
            hasNews = true
            if announce { announcements.insert(record.slot) } else { news.insert(record.slot) }
        }
        return hasNews
    }

    /// The next digest to send.
    mutating func nextDigest(of table: PeerTable) -> TopologyDigest.Message? {
        if !questions.isEmpty {
            let names = questions
            questions = []
            return .question(names)
        }
        if announcesAll || takesInventory {
            let all = entries(table.graph.reachable(from: PeerTable.ourSlot), of: table, isAll: true)
            announcements = SlotSet()
            defer { (announcesAll, takesInventory) = (false, false) }
            return takesInventory ? .inventory(all) : .announcement(all)
        }
        if !announcements.isEmpty {
            let slots = announcements
            announcements = SlotSet()
            let fresh = entries(slots, of: table, isAll: false)
            if !fresh.isEmpty { return .announcement(fresh) }
        }
        guard summarizes else { return nil }
        summarizes = false
        return .summary(table.summary)
    }

    private mutating func entries(_ slots: SlotSet, of table: PeerTable, isAll: Bool) -> [TopologyDigest.Entry] {
        var entries: [TopologyDigest.Entry] = []
        for slot in slots.members {
            guard let entry = table.entry(slot), isAll || !knows(slot, entry.stamp) else { continue }
            note(slot, entry.stamp)
            entries.append(entry.entry)
        }
        return entries
    }

    /// The next update to send. The origin is nil unless it is to go on as a broadcast.
    mutating func nextUpdate(of table: inout PeerTable) -> (data: [UInt8], origin: PeerName?)? {
        if rest.isEmpty { fill(from: table) }
        guard !rest.isEmpty else { return nil }
        for slot in rest {
            if let record = table.record(slot) { note(slot, record.stamp) }
        }
        let data = table.encode(&rest, limit: GossipLimits.topologyBytes)
        return data.isEmpty ? nil : (data, restOrigin)
    }

    /// Takes what shall go into the next update.
    private mutating func fill(from table: PeerTable) {
        restOrigin = nil
        var slots = wanted
        for slot in news.members {
            if let record = table.record(slot), !knows(slot, record.stamp) { slots.insert(slot) }
        }
        wanted = SlotSet()
        news = SlotSet()
        if slots.isEmpty, let origin = broadcasts.keys.min() {
            slots = broadcasts.removeValue(forKey: origin) ?? SlotSet()
            restOrigin = origin
        }
        rest = slots.members.reversed()
    }
}
