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
            update = try Self.read(Array(payload[data]), knownTo: table, questions)
        } catch {
            statistics.malformedUpdates += 1
            // Tag 4 is made anew at each hop, so its bytes are the neighbour's whatever name stands in it.
            let source = tag == .gossip ? connection.name : envelope.source
            return blame(connection.id, for: source, "[gossip topology]: \(error)", error.message, now)
        }
        sift(&update, from: connection, now)
        let membership = table.membership
        let outcome = table.apply(update)
        note(update, outcome, from: connection.id)
        report(outcome, from: connection, now)
        if !outcome.improved.isEmpty || table.membership != membership {
            armCollection(now)
        }
        if !outcome.improved.isEmpty {
            timers.armIfIdle(.routes, at: now + Self.routeDelay)
            timers.arm(.calm, at: now + Self.calmDelay + strain * 16)
            if configuration.discovery || maker.awaitsPlaces { checkSoon(now) }
        }
        if tag == .gossipBroadcast {
            passOnBroadcast(outcome.named, origin: envelope.source, except: connection.id, now)
        } else {
            for slot in outcome.improved { news.insert(slot) }
            if !outcome.improved.isEmpty { armNews(now) }
        }
    }

    private static func read(
        _ bytes: [UInt8], knownTo table: PeerTable, _ questions: TopologyQuestions
    ) throws(MeshWireError) -> TopologyUpdate {
        // What was asked for says something else in the same version.
        try TopologyReader.read(bytes) { table.holds($0, uid: $1, version: $2) && !questions.awaits($0) }
    }

    /// Remembers which records the neighbour has, and which it should have instead.
    private mutating func note(_ update: TopologyUpdate, _ outcome: PeerTable.Outcome, from id: ConnectionID) {
        if !questions.isEmpty {
            for record in update.records {
                questions.onRecord(record.name, version: record.version, uid: record.uid)
            }
            armQuestions()
        }
        guard let index = connections.index(forKey: id) else { return }
        for record in update.records {
            guard let slot = table.slot(of: record.name),
                let stamp = table.stamp(slot, uid: record.uid, version: record.version)
            else { continue }
            connections.values[index].topology.note(slot, stamp)
        }
        guard connections.values[index].takesDigests, !outcome.outranked.isEmpty else { return }
        for slot in outcome.outranked {
            connections.values[index].topology.forget(slot)
            connections.values[index].topology.announcements.insert(slot)
        }
        wake(id)
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
    mutating func overtook(_ version: UInt64, _ now: MonotonicTime) {
        statistics.ownRecordConflicts += 1
        complain(
            .debug, "Record of ourself with another UID and version \(version); ours is now \(table.own.version)", now)
        if nameConflicts.note(now) {
            log(
                .warning,
                "Another peer seems to use our name \(configuration.name); give each peer a name of its own")
        }
        armUpdate(now)
    }

    // MARK: Out

    /// Everything there is, for a neighbour that knows nothing.
    mutating func giveTopology(to id: ConnectionID) {
        guard let index = connections.index(forKey: id) else { return }
        connections.values[index].topology.lastFull = table.stamp
        connections.values[index].topology.heldBack = 0
        if !connections.values[index].takesDigests {
            connections.values[index].topology.wanted.formUnion(table.graph.present)
        } else {
            connections.values[index].topology.announcesAll = true
        }
        wake(id)
    }

    /// The periodic exchange with some neighbours.
    mutating func exchangeTopology() {
        for id in randomNeighbours() {
            guard let connection = connections[id] else { continue }
            if connection.takesDigests {
                connections[id]?.topology.summarizes = true
                wake(id)
                continue
            }
            if connection.topology.lastFull == table.stamp,
                connection.topology.heldBack < GossipOutbox.quietRounds
            {
                connections[id]?.topology.heldBack += 1
                statistics.suppressedStates += 1
                continue
            }
            giveTopology(to: id)
        }
    }

    /// Our own record, and to peers that take no digests those of the neighbours that are new.
    ///
    /// Of our own record nobody can have a newer version. So all who take digests get it unasked and at once, and none of
    /// them has to be told of it by others.
    mutating func announceOurself(_ now: MonotonicTime) {
        lastUpdate = now
        // In the order of places, so that a run can be repeated.
        for slot in table.graph.row(PeerTable.ourSlot).members {
            guard let id = connectionOfSlot[slot], let index = connections.index(forKey: id),
                connections.values[index].takesDigests
            else { continue }
            connections.values[index].topology.news.insert(PeerTable.ourSlot)
            wake(id)
        }
        if plainConnections > 0 {
            news.formUnion(update)
            news.insert(PeerTable.ourSlot)
        }
        update.removeAll()
        if !news.isEmpty { passOnNews(now) }
    }

    /// Sees to it that what is new is passed on: soon after the first of it, and then in rounds.
    private mutating func armNews(_ now: MonotonicTime) {
        guard !timers.isArmed(.news) else { return }
        let soon = now + Self.newsDelay
        timers.arm(.news, at: plainConnections > 0 ? soon : max(soon, lastNews + Self.newsInterval + strain * 4))
    }

    /// What is new goes to random neighbours, except those known to have it.
    ///
    /// A peer that cannot be reached from here is told of when it can. Otherwise peers that are gone, or never were, could
    /// go round for ever: whoever has just forgotten one would hear of it again from who has not yet.
    mutating func passOnNews(_ now: MonotonicTime) {
        // Routes that are about to be computed may know of neighbours that these do not.
        guard !routesAreStale else { return }
        timers.cancel(.news)
        lastNews = now
        var unreachable = SlotSet()
        let fresh = news.members.compactMap { slot -> TopologyOutbox.News? in
            guard let record = table.record(slot) else { return nil }
            guard slot == PeerTable.ourSlot || slot < routing.nextHops.count && routing.nextHops[slot] >= 0 else {
                unreachable.insert(slot)
                return nil
            }
            return TopologyOutbox.News(slot: slot, stamp: record.stamp, ownerTells: ownerTells(slot))
        }
        news = unreachable
        for id in randomNeighbours() {
            guard let index = connections.index(forKey: id) else { continue }
            let neighbour = connections.values[index].neighbour
            let hasNews: Bool
            if !neighbour.takesDigests {
                hasNews = connections.values[index].topology.add(fresh, announce: false)
            } else {
                let untold = fresh.filter { !($0.ownerTells && table.graph.lists($0.slot, neighbour.slot)) }
                hasNews = connections.values[index].topology.add(untold, announce: true)
            }
            if hasNews { wake(id) }
        }
    }

    /// Whether the owner of a record tells all its neighbours that take digests: we are one ourself, or our own.
    private func ownerTells(_ slot: Int) -> Bool {
        if slot == PeerTable.ourSlot { return true }
        guard let id = connectionOfSlot[slot] else { return false }
        return connections[id].map { $0.takesDigests } ?? false
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
    mutating func nextTopologyMessage(
        for index: Dictionary<ConnectionID, MeshConnection>.Index
    ) -> MeshMessage? {
        if let digest = connections.values[index].topology.nextDigest(of: table) {
            return MeshMessage(
                tag: .gossip,
                payload: GossipEnvelope.encode(
                    channel: TopologyDigest.channel, source: configuration.name, data: TopologyDigest.encode(digest)))
        }
        guard let update = connections.values[index].topology.nextUpdate(of: &table) else { return nil }
        return MeshMessage(
            tag: update.origin == nil ? .gossip : .gossipBroadcast,
            payload: GossipEnvelope.encode(
                channel: Self.topologyChannel, source: update.origin ?? configuration.name, data: update.data))
    }
}
