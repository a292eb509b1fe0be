import WeaveCore

extension MeshCore {
    // MARK: In

    /// A topology update arrived.
    mutating func onTopology(
        _ payload: [UInt8], _ data: Range<Int>, _ envelope: GossipEnvelope, _ tag: MessageTag,
        _ connection: MeshNeighbour, _ now: MonotonicTime
    ) {
        guard tag != .gossipUnicast else {
            let reason = "unexpected topology gossip unicast: \(Array(payload[data.prefix(64)]))"
            return blame(connection.id, for: envelope.source, "[gossip topology]: \(reason)", reason, now)
        }
        var update: TopologyUpdate
        do {
            update = try read(Array(payload[data]))
        } catch {
            statistics.malformedUpdates += 1
            // Tag 4 is made anew at each hop, so its bytes are the neighbour's whatever name stands in it.
            let source = tag == .gossip ? connection.name : envelope.source
            return blame(connection.id, for: source, "[gossip topology]: \(error)", error.message, now)
        }
        sift(&update, from: connection, now)
        let membership = table.membership
        let outcome = table.apply(update)
        note(update, from: connection.id)
        report(outcome, from: connection, now)
        if !outcome.improved.isEmpty || table.membership != membership {
            timers.armIfIdle(.collect, at: now + Self.collectDelay)
        }
        if !outcome.improved.isEmpty {
            timers.armIfIdle(.routes, at: now + Self.routeDelay)
            checkSoon(now)
        }
        if tag == .gossipBroadcast {
            passOnBroadcast(outcome.named, origin: envelope.source, except: connection.id, now)
        } else {
            for slot in outcome.improved { news.insert(slot) }
            if !outcome.improved.isEmpty { timers.armIfIdle(.news, at: now + Self.newsDelay) }
        }
    }

    private func read(_ bytes: [UInt8]) throws(MeshWireError) -> TopologyUpdate {
        try TopologyReader.read(bytes) { table.holds($0, uid: $1, version: $2) }
    }

    /// Remembers which records the neighbour has.
    private mutating func note(_ update: TopologyUpdate, from id: ConnectionID) {
        guard var topology = connections[id]?.topology else { return }
        connections[id]?.topology = TopologyOutbox()
        defer { connections[id]?.topology = topology }
        for record in update.records {
            questions.onRecord(record.name, version: record.version, uid: record.uid)
            guard let slot = table.slot(of: record.name), let held = table.record(slot), held.uid == record.uid,
                held.version == record.version
            else { continue }
            topology.note(slot, held.stamp)
        }
    }

    private mutating func report(_ outcome: PeerTable.Outcome, from connection: MeshNeighbour, _ now: MonotonicTime) {
        statistics.refusedRecords += outcome.refused
        statistics.improvedRecords += outcome.improved.count
        statistics.staleRecords += outcome.stale
        if outcome.refused > 0 {
            complain(.debug, "\(connection.label): refused \(outcome.refused) entries of a topology update", now)
        }
        if let version = outcome.absurd {
            complain(.warning, "\(connection.label): ignored a record of ourself with version \(version)", now)
        }
        if let version = outcome.overtaken { overtook(version, now) }
        apply(ShortIDTable.Effect(invalidated: outcome.invalidated, mustReassignOwn: outcome.mustReassignOwn), now)
    }

    /// We went beyond a version that somebody else had under our name.
    private mutating func overtook(_ version: UInt64, _ now: MonotonicTime) {
        statistics.ownRecordConflicts += 1
        complain(
            .debug, "Record of ourself with another UID and version \(version); ours is now \(table.own.version)", now)
        if nameConflicts.note(now) {
            log(
                .warning,
                "Another peer seems to use our name \(configuration.name); give each peer a name of its own")
        }
        timers.armIfIdle(.update, at: now + Self.updateDelay)
    }

    // MARK: Out

    /// Everything there is, for a neighbour that knows nothing.
    mutating func giveTopology(to id: ConnectionID) {
        connections[id]?.topology.lastFull = table.stamp
        connections[id]?.topology.heldBack = 0
        if connections[id]?.takesDigests == true {
            connections[id]?.topology.announcesAll = true
        } else {
            connections[id]?.topology.wanted.formUnion(table.graph.present)
        }
        wake(id)
    }

    /// The periodic exchange with some neighbours.
    mutating func exchangeTopology() {
        for id in randomNeighbours() {
            guard let topology = connections[id]?.topology else { continue }
            if topology.lastFull == table.stamp, topology.heldBack < GossipOutbox.quietRounds {
                connections[id]?.topology.heldBack += 1
                statistics.suppressedStates += 1
                continue
            }
            giveTopology(to: id)
        }
    }

    /// Our own record, and those of the neighbours that are new.
    mutating func announceOurself(_ now: MonotonicTime) {
        news.formUnion(update)
        news.insert(PeerTable.ourSlot)
        update.removeAll()
        passOnNews(now)
    }

    /// What is new goes to random neighbours, except those known to have it.
    mutating func passOnNews(_ now: MonotonicTime) {
        // Routes that are about to be computed may know of neighbours that these do not.
        guard !routesAreStale else { return }
        timers.cancel(.news)
        let slots = news.members
        news.removeAll()
        for id in randomNeighbours() {
            var hasNews = false
            for slot in slots {
                guard let record = table.record(slot), connections[id]?.topology.knows(slot, record.stamp) == false
                else { continue }
                hasNews = true
                if connections[id]?.takesDigests == true {
                    connections[id]?.topology.announcements.insert(slot)
                } else {
                    connections[id]?.topology.news.insert(slot)
                }
            }
            if hasNews { wake(id) }
        }
    }

    private mutating func passOnBroadcast(
        _ slots: [Int], origin: PeerName, except: ConnectionID, _ now: MonotonicTime
    ) {
        guard !slots.isEmpty, origin != configuration.name else { return }
        if routesAreStale { recalculate(now) }
        for id in broadcastConnections(from: origin) where id != except {
            var set = connections[id]?.topology.broadcasts[origin] ?? SlotSet()
            for slot in slots { set.insert(slot) }
            connections[id]?.topology.broadcasts[origin] = set
            wake(id)
        }
    }

    /// The next message about topology for a connection.
    mutating func nextTopologyMessage(for id: ConnectionID) -> MeshMessage? {
        guard var topology = connections[id]?.topology else { return nil }
        connections[id]?.topology = TopologyOutbox()
        defer { connections[id]?.topology = topology }
        if !topology.questions.isEmpty {
            let names = topology.questions
            topology.questions = []
            return digest(.question(names))
        }
        if let announcement = announcement(&topology) { return announcement }
        if topology.rest.isEmpty { fill(&topology) }
        guard !topology.rest.isEmpty else { return nil }
        for slot in topology.rest {
            if let record = table.record(slot) { topology.note(slot, record.stamp) }
        }
        let data = table.encode(&topology.rest, limit: GossipLimits.topologyBytes)
        guard !data.isEmpty else { return nil }
        let origin = topology.restOrigin
        return MeshMessage(
            tag: origin == nil ? .gossip : .gossipBroadcast,
            payload: GossipEnvelope.encode(
                channel: Self.topologyChannel, source: origin ?? configuration.name, data: data))
    }

    private func digest(_ message: TopologyDigest.Message) -> MeshMessage {
        MeshMessage(
            tag: .gossip,
            payload: GossipEnvelope.encode(
                channel: TopologyDigest.channel, source: configuration.name, data: TopologyDigest.encode(message)))
    }

    private func announcement(_ topology: inout TopologyOutbox) -> MeshMessage? {
        let slots = topology.announcesAll ? table.graph.present : topology.announcements
        let isAll = topology.announcesAll
        topology.announcesAll = false
        topology.announcements.removeAll()
        var entries: [TopologyDigest.Entry] = []
        for slot in slots.members {
            guard let record = table.record(slot), !record.isPlaceholder, isAll || !topology.knows(slot, record.stamp)
            else { continue }
            topology.note(slot, record.stamp)
            entries.append(
                TopologyDigest.Entry(
                    name: record.name, uid: record.uid, version: record.version, hasShortID: record.shortID != nil))
        }
        return entries.isEmpty ? nil : digest(.announcement(entries))
    }

    /// Takes what shall go into the next update.
    private func fill(_ topology: inout TopologyOutbox) {
        topology.restOrigin = nil
        var slots = topology.wanted
        for slot in topology.news.members {
            if let record = table.record(slot), !topology.knows(slot, record.stamp) { slots.insert(slot) }
        }
        topology.wanted.removeAll()
        topology.news.removeAll()
        if slots.isEmpty, let origin = topology.broadcasts.keys.min() {
            slots = topology.broadcasts.removeValue(forKey: origin) ?? SlotSet()
            topology.restOrigin = origin
        }
        topology.rest = slots.members.reversed()
    }

    // MARK: Digests

    /// A neighbour told which versions it has, or asked for records.
    mutating func onDigest(
        _ payload: [UInt8], _ data: Range<Int>, _ tag: MessageTag, _ connection: MeshNeighbour, _ now: MonotonicTime
    ) {
        guard tag == .gossip else { return }
        switch Result(catching: { () throws(MeshWireError) in
            try TopologyDigest.decode(payload, from: data.lowerBound, to: data.upperBound)
        }) {
        case .failure(let error): end(connection.id, reason: error.message, now)
        case .success(.question(let names)):
            for name in names {
                if let slot = table.slot(of: name) { connections[connection.id]?.topology.wanted.insert(slot) }
            }
            wake(connection.id)
        case .success(.announcement(let entries)): onAnnouncement(entries, connection.id, now)
        }
    }

    private mutating func onAnnouncement(
        _ entries: [TopologyDigest.Entry], _ id: ConnectionID, _ now: MonotonicTime
    ) {
        guard var topology = connections[id]?.topology else { return }
        connections[id]?.topology = TopologyOutbox()
        for entry in entries where entry.name != .unknown { compare(entry, id, &topology, now) }
        let hasSomething = !topology.questions.isEmpty || !topology.announcements.isEmpty
        connections[id]?.topology = topology
        if hasSomething { wake(id) }
        if !questions.isEmpty { timers.armIfIdle(.questions, at: now + TopologyQuestions.patience) }
    }

    /// Asks for a record that is newer there, and announces one that is newer here.
    private mutating func compare(
        _ entry: TopologyDigest.Entry, _ id: ConnectionID, _ topology: inout TopologyOutbox, _ now: MonotonicTime
    ) {
        guard !isAbsurd(entry.name, version: entry.version) else { return statistics.forgedRecords += 1 }
        outdo(entry.name, uid: entry.uid, version: entry.version, now)
        if entry.name == configuration.name {
            var outcome = PeerTable.Outcome()
            table.claimOwn(uid: entry.uid, version: entry.version, &outcome)
            if let version = outcome.overtaken { overtook(version, now) }
        }
        if let slot = table.slot(of: entry.name), let held = table.record(slot) {
            let theirs = (entry.version, entry.uid)
            let ours = (held.version, held.uid)
            let gainsShortID = theirs == ours && entry.hasShortID && held.shortID == nil
            if theirs == ours, !gainsShortID { return topology.note(slot, held.stamp) }
            if theirs < ours || slot == PeerTable.ourSlot {
                if !topology.knows(slot, held.stamp) { topology.announcements.insert(slot) }
                return
            }
        }
        guard questions.mayAsk(entry, of: id, now: now) else { return }
        statistics.recordsAsked += 1
        topology.questions.append(entry.name)
    }

    /// Asks others for records that did not come.
    mutating func askAgain(_ now: MonotonicTime, lost: ConnectionID? = nil) {
        guard !questions.isEmpty else { return }
        let live = Set(connections.keys)
        for (name, id) in questions.askAgain(now: now, lost: lost, isLive: { live.contains($0) }) {
            connections[id]?.topology.questions.append(name)
            wake(id)
        }
        if !questions.isEmpty { timers.armIfIdle(.questions, at: now + TopologyQuestions.patience) }
    }
}
