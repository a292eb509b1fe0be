import WeaveCore

/// Comparing topology with neighbours that take digests.
extension MeshCore {
    /// Answers to summaries that differ come this far apart at least, for one neighbour. A neighbour whose summary never
    /// agrees, by fault or by will, gets all versions this often and no more.
    static let comparisonInterval = Duration.seconds(10)

    /// A neighbour came that may know what is not known here, and the other way round.
    mutating func greet(_ connection: MeshNeighbour, _ now: MonotonicTime) {
        guard connection.takesDigests, !newcomers.mayTell(connection.id, now: now) else {
            return giveTopology(to: connection.id)
        }
        timers.armIfIdle(.newcomers, at: now + Newcomers.patience + strain * 16)
    }

    /// Some of those that came in a storm are as good as all: what they have gone without goes round from there.
    mutating func compareWithNewcomers() {
        let count = Self.neighbourCount(reached: UInt64(table.count), neighbours: newcomers.count)
        for id in newcomers.choose(count, using: &generator) {
            connections[id]?.topology.summarizes = true
            wake(id)
        }
    }

    /// Nothing has changed for a while: the sums of all should be the same by now.
    mutating func compareInCalm() {
        var candidates = connections.values.filter(\.takesDigests).map(\.neighbour.id).sorted {
            $0.rawValue < $1.rawValue
        }
        for _ in 0..<min(Self.calmComparisons, candidates.count) {
            let id = candidates.remove(at: Int.random(in: candidates.indices, using: &generator))
            connections[id]?.topology.summarizes = true
            wake(id)
        }
    }

    /// A neighbour told which versions it has, or asked for records.
    mutating func onDigest(
        _ payload: [UInt8], _ data: Range<Int>, _ tag: MessageTag, _ connection: MeshNeighbour, _ now: MonotonicTime
    ) {
        guard tag == .gossip else { return }
        let message: TopologyDigest.Message
        do throws(MeshWireError) {
            message = try TopologyDigest.decode(payload, from: data.lowerBound, to: data.upperBound)
        } catch {
            statistics.malformedUpdates += 1
            return end(connection.id, reason: error.message, now)
        }
        switch message {
        case .question(let names): onQuestion(names, connection.id)
        case .announcement(let entries): onAnnouncement(entries, isAll: false, connection.id, now)
        case .inventory(let entries): onAnnouncement(entries, isAll: true, connection.id, now)
        case .summary(let summary): onSummary(summary, connection.id, now)
        }
    }

    private mutating func onQuestion(_ names: [PeerName], _ id: ConnectionID) {
        guard let index = connections.index(forKey: id) else { return }
        for name in names {
            if let slot = table.slot(of: name) { connections.values[index].topology.wanted.insert(slot) }
        }
        wake(id)
    }

    /// The sum of all that the neighbour has. When it differs from ours the neighbour gets our versions, and answers with
    /// what it has and we lack, and asks for what it lacks.
    private mutating func onSummary(_ summary: TopologySummary, _ id: ConnectionID, _ now: MonotonicTime) {
        guard let index = connections.index(forKey: id) else { return }
        guard summary != table.summary else {
            statistics.equalSummaries += 1
            return
        }
        statistics.differentSummaries += 1
        guard connections.values[index].topology.nextComparison <= now else { return }
        connections.values[index].topology.nextComparison = now + Self.comparisonInterval
        connections.values[index].topology.takesInventory = true
        wake(id)
    }

    private mutating func onAnnouncement(
        _ entries: [TopologyDigest.Entry], isAll: Bool, _ id: ConnectionID, _ now: MonotonicTime
    ) {
        guard let index = connections.index(forKey: id) else { return }
        var topology = connections.values[index].topology
        connections.values[index].topology = TopologyOutbox()
        var named = SlotSet()
        for entry in entries where entry.name != .unknown {
            if let slot = compare(entry, isAll: isAll, id, &topology, now), isAll { named.insert(slot) }
        }
        if isAll { announceMissing(from: named, &topology) }
        let hasSomething = !topology.questions.isEmpty || !topology.announcements.isEmpty
        connections.values[index].topology = topology
        if hasSomething { wake(id) }
        armQuestions()
    }

    /// Asks for a record that is newer there, and announces one that is newer here. The place of the record here.
    private mutating func compare(
        _ entry: TopologyDigest.Entry, isAll: Bool, _ id: ConnectionID, _ topology: inout TopologyOutbox,
        _ now: MonotonicTime
    ) -> Int? {
        guard !isAbsurd(entry.name, version: entry.version) else {
            statistics.forgedRecords += 1
            return table.slot(of: entry.name)
        }
        if entry.name == configuration.name {
            outdo(uid: entry.uid, version: entry.version, isFalse: table.contradictsOwn(entry), now)
            var outcome = PeerTable.Outcome()
            table.claimOwn(uid: entry.uid, version: entry.version, &outcome)
            if let version = outcome.overtaken { overtook(version, now) }
        }
        let slot = table.slot(of: entry.name)
        var isRefresh = false
        if let slot, let held = table.entry(slot) {
            if entry == held.entry {
                topology.note(slot, held.stamp)
                return slot
            }
            guard held.entry.isOutranked(by: entry), slot != PeerTable.ourSlot else {
                if isAll { topology.forget(slot) }
                if !topology.knows(slot, held.stamp) { topology.announcements.insert(slot) }
                return slot
            }
            isRefresh = held.entry.uid == entry.uid
        }
        guard questions.mayAsk(entry, of: id, isRefresh: isRefresh, now: now) else { return slot }
        statistics.recordsAsked += 1
        topology.questions.append(entry.name)
        return slot
    }

    /// Announces what the neighbour did not name when it named everything it has.
    private func announceMissing(from named: SlotSet, _ topology: inout TopologyOutbox) {
        var missing = table.graph.reachable(from: PeerTable.ourSlot)
        missing.subtract(named)
        for slot in missing.members {
            guard table.entry(slot) != nil else { continue }
            // It may have been told and not have listened, or have lost the record since.
            topology.forget(slot)
            topology.announcements.insert(slot)
        }
    }

    /// Asks for records that have waited, and others for those that did not come.
    mutating func askAgain(_ now: MonotonicTime, lost: ConnectionID? = nil) {
        guard !questions.isEmpty else { return }
        let asks = questions.due(now, lost: lost) { [connections] in connections[$0] != nil }
        for (name, id) in asks {
            statistics.recordsAsked += 1
            connections[id]?.topology.questions.append(name)
            wake(id)
        }
        armQuestions()
    }

    mutating func armQuestions() {
        guard let due = questions.nextDue else { return }
        if let armed = timers.deadline(of: .questions), armed <= due { return }
        timers.arm(.questions, at: due)
    }
}
