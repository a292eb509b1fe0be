public import WeaveCore

extension MeshCore {
    // MARK: From our own channels

    /// Sends to one peer.
    ///
    /// - Throws: when no route leads there, the message is too large, or too much waits for the neighbour already.
    public mutating func unicast(
        _ channel: String, to destination: PeerName, _ payload: [UInt8], now: MonotonicTime
    ) throws(GossipError) -> [MeshDirective] {
        guard payload.count <= GossipParcel.maximumPayloadBytes - 64 - channel.utf8.count else {
            throw GossipError(.payloadTooLarge, "outgoing message exceeds maximum size: \(payload.count) > 10485760")
        }
        let (hop, found) = connection(towards: destination, now)
        guard let hop else { throw GossipError(.noRoute, "unknown relay destination: \(destination)") }
        guard let found else {
            throw GossipError(.noRoute, "unable to find connection to relay peer \(hop)")
        }
        let message = GossipEnvelope.encode(
            channel: channel, source: configuration.name, destination: destination, data: payload)
        guard queue(MeshMessage(tag: .gossipUnicast, payload: message), on: found) else {
            throw GossipError(.closed, "too much waits to be sent to relay peer \(hop)")
        }
        return flush()
    }

    /// Sends to every peer.
    public mutating func broadcast(
        _ channel: String, _ data: any GossipData, now: MonotonicTime
    ) -> [MeshDirective] {
        let parcel = GossipParcel(channel: channel, source: configuration.name, data: data)
        pass(DeferredGossip(parcel: parcel, tag: .gossipBroadcast), now)
        return flush()
    }

    /// Sends to a few random neighbours.
    public mutating func gossipToNeighbours(
        _ channel: String, _ data: any GossipData, now: MonotonicTime
    ) -> [MeshDirective] {
        let parcel = GossipParcel(channel: channel, source: configuration.name, data: data)
        pass(DeferredGossip(parcel: parcel, tag: .gossip), now)
        return flush()
    }

    // MARK: To our handlers and back

    /// What a handler returned; nil for nothing to pass on.
    public mutating func onHandlerResult(
        _ delivery: MeshDelivery, _ data: (any GossipData)?, now: MonotonicTime
    ) -> [MeshDirective] {
        guard let data, delivery.mayPassOn else { return [] }
        switch delivery.kind {
        case .unicast: break
        case .broadcast:
            let parcel = GossipParcel(channel: delivery.channel, source: delivery.source, data: data)
            pass(DeferredGossip(parcel: parcel, tag: .gossipBroadcast, except: delivery.connection), now)
        case .gossip:
            let parcel = GossipParcel(channel: delivery.channel, source: configuration.name, data: data)
            pass(DeferredGossip(parcel: parcel, tag: .gossip, except: delivery.connection), now)
        }
        return flush()
    }

    /// A handler threw. If the neighbour made the message itself the connection ends; a message that it only passed on
    /// is no fault of its.
    public mutating func onHandlerError(
        _ delivery: MeshDelivery, message: String, now: MonotonicTime
    ) -> [MeshDirective] {
        blame(delivery.connection, for: delivery.source, "[gossip \(delivery.channel)]: \(message)", message, now)
        return flush()
    }

    /// Ends a connection for a bad message of the neighbour's own making; logs one that it passed on.
    mutating func blame(
        _ id: ConnectionID, for source: PeerName, _ logged: String, _ reason: String, _ now: MonotonicTime
    ) {
        guard let connection = connections[id]?.neighbour else { return }
        if connection.name == source {
            end(id, reason: reason, now)
        } else {
            statistics.relayedErrors += 1
            complain(.warning, "\(logged) (from \(source), passed on by \(connection.name))", now)
        }
    }

    /// The complete state of a channel.
    public mutating func onState(
        _ request: MeshStateRequest, _ data: (any GossipData)?, now: MonotonicTime
    ) -> [MeshDirective] {
        guard let data else { return [] }
        switch request.destination {
        case .neighbours:
            let parcel = GossipParcel(
                channel: request.channel, source: configuration.name, data: data, isPeriodicState: true)
            pass(DeferredGossip(parcel: parcel, tag: .gossip), now)
        case .connections(let ids):
            let parcel = GossipParcel(channel: request.channel, source: configuration.name, data: data)
            for id in ids { enqueue(parcel, .gossip, on: id) }
        }
        return flush()
    }

    /// Asks for the states that new connections shall get.
    mutating func requestStates() {
        let ids = awaitingStates
        awaitingStates = []
        guard !ids.isEmpty else { return }
        for channel in channels.sorted() {
            out.append(.requestState(MeshStateRequest(channel: channel, destination: .connections(ids))))
        }
    }

    /// The periodic exchange of complete states.
    mutating func exchange(_ now: MonotonicTime) {
        timers.arm(.exchange, at: now + Self.exchangeInterval)
        exchangeTopology()
        for channel in channels.sorted() {
            out.append(.requestState(MeshStateRequest(channel: channel, destination: .neighbours)))
        }
    }

    // MARK: From connections

    /// A message of any tag arrived.
    public mutating func onMessage(
        _ id: ConnectionID, tag: UInt8, payload: [UInt8], now: MonotonicTime
    ) -> [MeshDirective] {
        guard let connection = connections[id]?.neighbour else { return [] }
        statistics.received.note(MessageTag(rawValue: tag), bytes: payload.count)
        guard let known = MessageTag(rawValue: tag) else {
            return [.log(.info, "\(connection.label): ignoring unknown protocol tag: \(tag)")]
        }
        switch known {
        case .heartbeat: return []
        case .reserved1, .reserved2, .reserved3, .overlayControl:
            return [.overlayControl(id, tag: tag, payload: payload)]
        case .gossip, .gossipUnicast, .gossipBroadcast:
            do {
                let envelope = try GossipEnvelope.read(payload, tag: known, ourself: configuration.name)
                dispatch(envelope, known, payload, connection, now)
            } catch {
                end(id, reason: error.message, now)
            }
        }
        return flush()
    }

    private mutating func dispatch(
        _ envelope: GossipEnvelope, _ tag: MessageTag, _ payload: [UInt8], _ connection: MeshNeighbour,
        _ now: MonotonicTime
    ) {
        if tag == .gossipUnicast, let destination = envelope.destination, destination != configuration.name {
            if !isSurrogate(envelope.channel) || use(envelope.channel, now) {
                relay(payload, envelope, to: destination, from: connection, now)
            }
            return
        }
        guard let data = envelope.data else { return }
        if envelope.channel == Self.topologyChannel {
            onTopology(payload, data, envelope, tag, connection, now)
        } else if envelope.channel == TopologyDigest.channel, connection.takesDigests {
            onDigest(payload, data, tag, connection, now)
        } else if channels.contains(envelope.channel) {
            let kind: MeshDelivery.Kind =
                switch tag {
                case .gossipUnicast: .unicast
                case .gossipBroadcast: .broadcast
                default: .gossip
                }
            let mayPassOn = kind != .broadcast || mayPassOn(payload[data], envelope, connection.id, now)
            // Tag 4 is made anew at each hop: whatever name stands in it, the neighbour answers for it.
            let source = kind == .gossip ? connection.name : envelope.source
            out.append(
                .deliver(
                    MeshDelivery(
                        channel: envelope.channel, kind: kind, source: source, payload: Array(payload[data]),
                        connection: connection.id, neighbour: connection.name, mayPassOn: mayPassOn)))
        } else if use(envelope.channel, now) {
            onSurrogate(payload, data, envelope, tag, connection, now)
        }
    }

    /// Whether a broadcast is one that has not been here before.
    private mutating func mayPassOn(
        _ data: ArraySlice<UInt8>, _ envelope: GossipEnvelope, _ id: ConnectionID, _ now: MonotonicTime
    ) -> Bool {
        let mayPass = loops.passBroadcast(
            data, channel: envelope.channel, origin: envelope.source, hop: id, now: now)
        if !mayPass { statistics.loopedBroadcasts += 1 }
        return mayPass
    }

    private mutating func relay(
        _ payload: [UInt8], _ envelope: GossipEnvelope, to destination: PeerName, from arrival: MeshNeighbour,
        _ now: MonotonicTime
    ) {
        let (hop, found) = connection(towards: destination, now)
        guard let hop else {
            statistics.unroutableUnicasts += 1
            return complain(.info, "[gossip \(envelope.channel)]: unknown relay destination: \(destination)", now)
        }
        guard let found, found != arrival.id, loops.passUnicast(payload, hop: arrival.id, now: now) else {
            statistics.unroutableUnicasts += 1
            return complain(
                .info, "[gossip \(envelope.channel)]: unable to find connection to relay peer \(hop)", now)
        }
        _ = queue(MeshMessage(tag: .gossipUnicast, payload: payload), on: found)
    }

    // MARK: Channels without a handler

    private func isSurrogate(_ channel: String) -> Bool {
        channel != Self.topologyChannel && channel != TopologyDigest.channel && !channels.contains(channel)
    }

    /// Notes that a channel without a handler is in use; always true.
    private mutating func use(_ channel: String, _ now: MonotonicTime) -> Bool {
        let (isNew, forgotten) = surrogates.use(channel, now: now)
        if isNew { complain(.info, "[gossip \(channel)]: created surrogate channel", now) }
        guard let forgotten else { return true }
        for id in connections.keys where connections[id]?.outbox.forget(forgotten) == true {
            statistics.droppedSurrogates += 1
        }
        return true
    }

    private mutating func onSurrogate(
        _ payload: [UInt8], _ data: Range<Int>, _ envelope: GossipEnvelope, _ tag: MessageTag,
        _ connection: MeshNeighbour, _ now: MonotonicTime
    ) {
        switch tag {
        case .gossip:
            guard surrogates.isNews(payload[data], on: envelope.channel, now: now) else { return }
            let parcel = GossipParcel(
                channel: envelope.channel, source: configuration.name, data: OpaqueGossip(Array(payload[data])))
            pass(DeferredGossip(parcel: parcel, tag: .gossip, except: connection.id), now)
        case .gossipBroadcast:
            guard mayPassOn(payload[data], envelope, connection.id, now) else { return }
            let parcel = GossipParcel(
                channel: envelope.channel, source: envelope.source, data: OpaqueGossip(Array(payload[data])))
            pass(DeferredGossip(parcel: parcel, tag: .gossipBroadcast, except: connection.id), now)
        default: break
        }
    }

    // MARK: To connections

    /// Sends now, or when the routes have caught up with the topology.
    private mutating func pass(_ gossip: DeferredGossip, _ now: MonotonicTime) {
        // Our own broadcast that comes back has been everywhere.
        if gossip.tag == .gossipBroadcast, gossip.except != nil, gossip.parcel.source == configuration.name { return }
        guard routesAreStale else { return send(gossip) }
        deferred.append(gossip)
        if deferred.count >= GossipLimits.deferredBroadcasts { recalculate(now) }
    }

    mutating func send(_ gossip: DeferredGossip) {
        let ids =
            gossip.tag == .gossipBroadcast
            ? broadcastConnections(from: gossip.parcel.source) : randomNeighbours(except: gossip.except)
        for id in ids where id != gossip.except { enqueue(gossip.parcel, gossip.tag, on: id) }
    }

    private mutating func enqueue(_ parcel: GossipParcel, _ tag: MessageTag, on id: ConnectionID) {
        guard connections[id] != nil else { return }
        let fits =
            tag == .gossipBroadcast
            ? connections[id]?.outbox.addBroadcast(parcel) : connections[id]?.outbox.addGossip(parcel)
        if fits != true {
            if channels.contains(parcel.channel) {
                statistics.droppedMessages += 1
            } else {
                statistics.droppedSurrogates += 1
            }
        }
        wake(id)
    }

    /// Queues a message that does not merge; whether there was room.
    mutating func queue(_ message: MeshMessage, on id: ConnectionID) -> Bool {
        guard connections[id]?.outbox.append(message) == true else {
            statistics.droppedMessages += 1
            return false
        }
        wake(id)
        return true
    }

    /// Tells the shell that a connection has something to send.
    mutating func wake(_ id: ConnectionID) {
        guard let isAwake = connections[id]?.outbox.isAwake, !isAwake else { return }
        connections[id]?.outbox.isAwake = true
        out.append(.wake(id))
    }

    /// The next message to send; nil when there is none at present. Ask whenever the socket has room.
    public mutating func nextMessage(for id: ConnectionID, now: MonotonicTime) -> MeshMessage? {
        let message = takeMessage(for: id)
        if let message { statistics.sent.note(message.tag, bytes: message.payload.count) }
        return message
    }

    private mutating func takeMessage(for id: ConnectionID) -> MeshMessage? {
        guard let index = connections.index(forKey: id) else { return nil }
        if let message = connections.values[index].outbox.nextControl() { return message }
        if let message = nextTopologyMessage(for: index) { return message }
        if let message = connections.values[index].outbox.nextGossip(&statistics) { return message }
        connections.values[index].outbox.isAwake = false
        return nil
    }
}
