public import WeaveCore

extension MeshCore {
    /// Why a connection cannot be kept.
    private struct Refusal {
        var reason: String
        var close = MeshCloseReason.identity
        var never = false
        var isSelf = false
    }

    /// Whether a connection with this introduction can be kept as things stand; nil, or the reason why not. Ask before
    /// preparing the overlay; `onConnectionReady` decides.
    public func refusal(of introduction: RemoteIntroduction, id: ConnectionID, remote: Endpoint) -> String? {
        if let refusal = identityRefusal(introduction, id, remote) { return refusal.reason }
        if let old = connection(to: introduction.name) {
            return old.introduction.connectionUID <= introduction.connectionUID ? duplicate(introduction) : nil
        }
        guard isFull, spareConnection(for: introduction.name) == nil else { return nil }
        return ConnectionMaker.limitReached(configuration.connectionLimit)
    }

    private var ourLabel: String { "\(configuration.name)(\(configuration.nickname))" }

    private var isFull: Bool {
        configuration.connectionLimit > 0 && connections.count >= configuration.connectionLimit
    }

    private func connection(to name: PeerName) -> MeshNeighbour? {
        table.slot(of: name).flatMap { connectionOfSlot[$0] }.flatMap { connections[$0]?.neighbour }
    }

    private func duplicate(_ introduction: RemoteIntroduction) -> String {
        "Multiple connections to \(introduction.name)(\(introduction.nickname)) added to \(ourLabel)"
    }

    private func identityRefusal(
        _ introduction: RemoteIntroduction, _ id: ConnectionID, _ remote: Endpoint
    ) -> Refusal? {
        let name = introduction.name
        if name == configuration.name {
            guard introduction.uid != configuration.uid else {
                return Refusal(reason: "cannot connect to ourself", never: true, isSelf: true)
            }
            return Refusal(
                reason: "local \"\(ourLabel)\" and remote \"\(name)(\(introduction.nickname))\" peer names collision",
                never: true)
        }
        guard name != .unknown else { return Refusal(reason: "remote peer has no name") }
        guard table.slot(of: name) != nil || maker.acceptsAnyName(id) else {
            return Refusal(reason: "Found unknown remote name: \(name) at \(remote)")
        }
        return nil
    }

    /// A handshake is over and the overlay prepared. The answer contains `accepted` or `close` for `id`.
    public mutating func onConnectionReady(
        _ id: ConnectionID, _ introduction: RemoteIntroduction, local: Endpoint, remote: Endpoint, outbound: Bool,
        now: MonotonicTime
    ) -> [MeshDirective] {
        guard connections[id] == nil else { return [] }
        if let refusal = identityRefusal(introduction, id, remote) {
            refuse(id, refusal, now)
            return flush()
        }
        maker.onFound(id, introduction.name)
        if let old = connection(to: introduction.name) {
            let oldUID = old.introduction.connectionUID
            if introduction.connectionUID <= oldUID { end(old.id, .duplicate, reason: duplicate(introduction), now) }
            if introduction.connectionUID >= oldUID {
                refuse(id, Refusal(reason: duplicate(introduction), close: .duplicate), now)
                return flush()
            }
        }
        if isFull { makeRoom(for: introduction.name, now) }
        guard !isFull else {
            let reason = ConnectionMaker.limitReached(configuration.connectionLimit)
            refuse(id, Refusal(reason: reason, close: .limit), now)
            return flush()
        }
        add(id, introduction, local: local, remote: remote, outbound: outbound, now)
        return flush()
    }

    private mutating func refuse(_ id: ConnectionID, _ refusal: Refusal, _ now: MonotonicTime) {
        maker.onTerminated(
            id, reason: refusal.reason, never: refusal.never, isSelf: refusal.isSelf, now: now, using: &generator)
        statistics.noteClose(refusal.close)
        out.append(.close(id, reason: refusal.reason))
        checkSoon(now)
    }

    private mutating func add(
        _ id: ConnectionID, _ introduction: RemoteIntroduction, local: Endpoint, remote: Endpoint, outbound: Bool,
        _ now: MonotonicTime
    ) {
        let (slot, _, effect) = table.neighbour(introduction)
        let isRestarted = table.record(slot)?.uid != introduction.uid
        let isNew = routing.snapshot.routes[introduction.name] == nil
        apply(effect, now)
        table.connect(
            slot, PeerTable.OwnLink(address: remote.description, outbound: outbound, established: false))
        var kept = introduction
        // Whoever wanted them has read them.
        kept.features = [:]
        let connection = MeshNeighbour(
            id: id, slot: slot, introduction: kept, local: local, remote: remote, outbound: outbound,
            takesDigests: TopologyDigest.isTaken(by: introduction.features))
        let kind = isRestarted ? " (restarted peer)" : isNew ? " (new peer)" : ""
        log(.info, "\(connection.label): connection added\(kind)")
        connections[id] = MeshConnection(neighbour: connection)
        connectionOfSlot[slot] = id
        if !connection.takesDigests { plainConnections += 1 }
        maker.onConnected(
            id, ConnectionMaker.Link(endpoint: remote, outbound: outbound, peer: introduction.name))
        statistics.connectionsKept += 1
        out.append(.accepted(id))
        if isNew || isRestarted {
            greet(connection, now)
            awaitingStates.append(id)
            timers.armIfIdle(.states, at: now + Self.statesDelay)
        }
        update.insert(slot)
        changedOurself(now)
        checkSoon(now)
    }

    /// No TCP connection came about.
    public mutating func onDialFailed(_ id: ConnectionID, reason: String, now: MonotonicTime) -> [MeshDirective] {
        maker.onDialFailed(id, reason: reason, now: now, using: &generator)
        checkSoon(now)
        return flush()
    }

    /// A TCP connection, dialled or accepted, ended before `onConnectionReady`.
    public mutating func onHandshakeFailed(_ id: ConnectionID, reason: String, now: MonotonicTime) -> [MeshDirective] {
        maker.onTerminated(id, reason: reason, now: now, using: &generator)
        checkSoon(now)
        return flush()
    }

    /// A connection that was accepted has ended. Nothing happens when the core has ended it.
    public mutating func onConnectionClosed(_ id: ConnectionID, reason: String, now: MonotonicTime) -> [MeshDirective] {
        remove(id, reason: reason, now)
        return flush()
    }

    /// Ends a connection from here.
    mutating func end(
        _ id: ConnectionID, _ close: MeshCloseReason = .message, reason: String, _ now: MonotonicTime
    ) {
        guard connections[id] != nil else { return }
        statistics.noteClose(close)
        out.append(.close(id, reason: reason))
        remove(id, reason: reason, now)
    }

    private mutating func remove(_ id: ConnectionID, reason: String, _ now: MonotonicTime) {
        guard let connection = connections.removeValue(forKey: id)?.neighbour else { return }
        log(.info, "\(connection.label): connection shutting down due to error: \(reason)")
        connectionOfSlot[connection.slot] = nil
        if !connection.takesDigests { plainConnections -= 1 }
        newcomers.forget(id)
        table.disconnect(connection.slot)
        log(.info, "\(connection.label): connection deleted")
        maker.onTerminated(id, reason: reason, now: now, using: &generator)
        awaitingStates.removeAll { $0 == id }
        collect(now)
        changedOurself(now)
        askAgain(now, lost: id)
        checkSoon(now)
    }

    /// Our own record changed: routes and others must know.
    mutating func changedOurself(_ now: MonotonicTime) {
        timers.armIfIdle(.routes, at: now + Self.routeDelay)
        armUpdate(now)
    }

    /// Others are told a second after the first change, as 2.8.1 does. Where all compare before they ask, they may as well
    /// be told when nothing has changed for a while, but not twice in a second. And a peer that is behind with its work
    /// has not seen yet what changes next: it waits a little longer, so that a storm which takes long because there is
    /// much to do does not make more of it.
    private var updateDue: MonotonicTime {
        guard plainConnections == 0 else { return firstChange + Self.updateDelay }
        let latest = firstChange + min(Self.updateDelay + strain * 16, Self.longestUpdateDelay)
        return max(min(latest, lastChange + Self.quietDelay + strain * 2), lastUpdate + Self.updateDelay)
    }

    mutating func armUpdate(_ now: MonotonicTime) {
        if !timers.isArmed(.update) { firstChange = now }
        lastChange = now
        timers.arm(.update, at: updateDue)
    }

    mutating func onUpdateDue(_ now: MonotonicTime) {
        if updateDue > now { timers.arm(.update, at: updateDue) } else { announceOurself(now) }
    }

    // MARK: Overlay

    /// Frames flow on the overlay of this connection.
    public mutating func onOverlayEstablished(_ id: ConnectionID, now: MonotonicTime) -> [MeshDirective] {
        guard let state = connections[id] else {
            return [.close(id, reason: "Cannot set unknown connection active")]
        }
        guard !state.isEstablished else { return [] }
        let connection = state.neighbour
        connections[id]?.isEstablished = true
        log(.info, "\(connection.label): connection fully established")
        table.establish(connection.slot)
        changedOurself(now)
        return flush()
    }

    /// The overlay of this connection has given up.
    public mutating func onOverlayFailed(_ id: ConnectionID, reason: String, now: MonotonicTime) -> [MeshDirective] {
        end(id, .overlay, reason: reason, now)
        return flush()
    }

    /// What the status shall show of the overlay of this connection.
    public mutating func onOverlayAttributes(_ id: ConnectionID, _ attributes: OverlayAttributes) {
        connections[id]?.overlay = attributes
    }

    /// The overlay wants a control message sent.
    public mutating func sendOverlayControl(
        _ id: ConnectionID, tag: MessageTag, payload: [UInt8]
    ) -> [MeshDirective] {
        _ = queue(MeshMessage(tag: tag, payload: payload), on: id)
        return flush()
    }

    // MARK: Peers that go, and short ids

    /// Looks for unreachable peers in a while, and takes for such only those of which nothing is heard meanwhile.
    mutating func armCollection(_ now: MonotonicTime) {
        guard !timers.isArmed(.collect) else { return }
        collectionLimit = table.stamp
        timers.arm(.collect, at: now + Self.collectDelay)
    }

    /// The while is over.
    mutating func onCollectionDue(_ now: MonotonicTime) {
        collect(now, unchangedSince: collectionLimit)
        if table.holdsUnreachable { armCollection(now) }
    }

    /// Forgets the peers that cannot be reached any more.
    mutating func collect(_ now: MonotonicTime, unchangedSince limit: UInt64 = .max) {
        timers.cancel(.collect)
        statistics.collections += 1
        let (removed, effect) = table.collect(unchangedSince: limit)
        guard !removed.isEmpty else { return }
        for record in removed {
            log(.info, "Removed unreachable peer \(record.label)")
            out.append(.peerRemoved(record.name))
        }
        apply(effect, now)
        reassignShortID(now)
        timers.armIfIdle(.routes, at: now + Self.routeDelay)
    }

    mutating func apply(_ effect: ShortIDTable.Effect, _ now: MonotonicTime) {
        if effect.invalidated { out.append(.shortIDsInvalidated) }
        if effect.mustReassignOwn { reassignShortID(now) }
    }

    /// Takes another short id if ours belongs to somebody else.
    mutating func reassignShortID(_ now: MonotonicTime) {
        guard table.reassignOwnShortID(using: &generator) else { return }
        out.append(.shortIDsInvalidated)
        armUpdate(now)
    }
}
