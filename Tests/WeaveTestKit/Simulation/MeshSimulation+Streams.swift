import WeaveCore
import WeaveMesh

/// Streams (TCP): ordered, delayed by loss, stalled by partitions, ended by resets and silence; and the datagrams
/// (UDP) by which the two ends of a connection find each other before it counts as established.
extension MeshSimulation {
    mutating func dial(_ host: Int, _ connection: ConnectionID, _ endpoint: Endpoint) {
        let incarnation = hosts[host].incarnation
        let target = (endpoint.address.v4?.rawValue).map { Int($0 & 0xff_ffff) - 1 } ?? -1
        let delay = network.streamDelay(&generator)
        guard hosts.indices.contains(target), endpoint.port == 6783 else {
            events.add(
                .dialFails(
                    host: host, incarnation: incarnation, connection,
                    reason: "dial tcp :0->\(endpoint): connect: connection refused"), at: now + delay)
            return
        }
        if partition.separates(host, target) {
            events.add(
                .dialFails(
                    host: host, incarnation: incarnation, connection, reason: "dial tcp :0->\(endpoint): i/o timeout"),
                at: now + Self.connectTimeout)
            return
        }
        events.add(
            .dialArrives(Dial(from: host, incarnation: incarnation, connection: connection, to: target)),
            at: now + delay)
    }

    mutating func onDialArrives(_ dial: Dial) {
        guard hosts[dial.from].incarnation == dial.incarnation, hosts[dial.from].core != nil else { return }
        guard hosts[dial.to].core != nil, !partition.separates(dial.from, dial.to) else {
            events.add(
                .dialFails(
                    host: dial.from, incarnation: dial.incarnation, dial.connection,
                    reason: "connect: connection refused"), at: now + network.streamDelay(&generator))
            return
        }
        guard let accepted = hosts[dial.to].core?.makeConnectionID() else { return }
        nextStream += 1
        streams[nextStream] = Stream(
            sides: [
                Side(host: dial.from, incarnation: dial.incarnation, connection: dial.connection),
                Side(host: dial.to, incarnation: hosts[dial.to].incarnation, connection: accepted),
            ], uid: generator.next(), port: UInt16.random(in: 32768...60999, using: &generator))
        for end in 0...1 {
            let side = SideID(stream: nextStream, end: end)
            if let it = streams[nextStream]?.sides[end] { hosts[it.host].sides[it.connection] = side }
            // Two ways for the handshake.
            let delay = network.streamDelay(&generator) + network.streamDelay(&generator)
            events.add(.ready(side), at: now + delay)
        }
    }

    /// The handshake is over at one end.
    mutating func onReady(_ id: SideID) {
        guard let stream = streams[id.stream], !stream.sides[id.end].hasEnded else { return }
        let (side, other) = (stream.sides[id.end], stream.sides[1 - id.end])
        guard !other.hasEnded, let remote = hosts[other.host].core, hosts[other.host].incarnation == other.incarnation
        else { return end(id, reason: "read: connection reset by peer") }
        let introduction = RemoteIntroduction(
            name: remote.configuration.name, nickname: remote.configuration.nickname, uid: remote.configuration.uid,
            connectionUID: stream.uid, shortID: remote.shortID,
            features: isPlain(side.host) || isPlain(other.host) ? [:] : MeshCore.announcedFeatures)
        let dialler = IPAddress.v4(Self.address(of: stream.sides[0].host))
        let acceptor = Endpoint(.v4(Self.address(of: stream.sides[1].host)), port: 6783)
        let ephemeral = Endpoint(dialler, port: stream.port)
        let outbound = id.end == 0
        call(side.host, side.incarnation) { core, now in
            core.onConnectionReady(
                side.connection, introduction, local: outbound ? ephemeral : acceptor,
                remote: outbound ? acceptor : ephemeral, outbound: outbound, now: now)
        }
    }

    private func isPlain(_ host: Int) -> Bool { options.plainPeers.contains(host) }

    mutating func onAccepted(_ host: Int, _ connection: ConnectionID) {
        guard let id = hosts[host].sides[connection], var stream = streams[id.stream] else { return }
        stream.sides[id.end].isAccepted = true
        let waiting = stream.sides[id.end].waiting
        stream.sides[id.end].waiting = []
        streams[id.stream] = stream
        for message in waiting { arrive(id, message) }
        events.add(.pump(id), at: now)
        events.add(.heartbeat(id), at: now)
    }

    /// Sends what the core has, as far as the window allows.
    mutating func pump(_ id: SideID) {
        guard let stream = streams[id.stream] else { return }
        let side = stream.sides[id.end]
        guard !side.hasEnded, side.isAccepted, hosts[side.host].incarnation == side.incarnation else { return }
        while let inFlight = streams[id.stream]?.sides[id.end].inFlight, inFlight < Self.window,
            let message = hosts[side.host].core?.nextMessage(for: side.connection, now: now)
        {
            streams[id.stream]?.sides[id.end].inFlight += 1
            transmit(message, from: id)
        }
    }

    mutating func transmit(_ message: MeshMessage, from id: SideID) {
        guard var stream = streams[id.stream] else { return }
        if partition.separates(stream.sides[0].host, stream.sides[1].host) {
            if stream.stalled.isEmpty { events.add(.silence(stream: id.stream), at: now + Self.silenceLimit) }
            stream.stalled.append((id.other, message))
        } else {
            let arrival = max(now + network.streamDelay(&generator), stream.sides[id.end].lastArrival)
            stream.sides[id.end].lastArrival = arrival
            events.add(.arrive(to: id.other, message), at: arrival)
        }
        streams[id.stream] = stream
    }

    mutating func arrive(_ id: SideID, _ message: MeshMessage) {
        guard let stream = streams[id.stream], !stream.sides[id.end].hasEnded else { return }
        let side = stream.sides[id.end]
        if partition.separates(stream.sides[0].host, stream.sides[1].host) {
            if stream.stalled.isEmpty { events.add(.silence(stream: id.stream), at: now + Self.silenceLimit) }
            streams[id.stream]?.stalled.append((id, message))
            return
        }
        guard side.isAccepted else {
            streams[id.stream]?.sides[id.end].waiting.append(message)
            return
        }
        messages += 1
        bytes += message.payload.count
        streams[id.stream]?.sides[1 - id.end].inFlight -= 1
        call(side.host, side.incarnation) { core, now in
            core.onMessage(side.connection, tag: message.tag.rawValue, payload: message.payload, now: now)
        }
        pump(id.other)
    }

    /// The core ends a connection: the other end hears of it later.
    mutating func close(_ host: Int, _ connection: ConnectionID, _ reason: String) {
        guard let id = hosts[host].sides.removeValue(forKey: connection), let stream = streams[id.stream] else {
            return
        }
        streams[id.stream]?.sides[id.end].hasEnded = true
        if !stream.sides[1 - id.end].hasEnded {
            let isolated = partition.separates(stream.sides[0].host, stream.sides[1].host)
            let delay = isolated ? Self.silenceLimit : network.streamDelay(&generator)
            events.add(.ended(id.other, reason: "read: connection reset by peer"), at: now + delay)
        } else {
            streams[id.stream] = nil
        }
    }

    /// One end learns that the stream has ended.
    mutating func end(_ id: SideID, reason: String) {
        guard let stream = streams[id.stream], !stream.sides[id.end].hasEnded else { return }
        let side = stream.sides[id.end]
        streams[id.stream]?.sides[id.end].hasEnded = true
        hosts[side.host].sides[side.connection] = nil
        if stream.sides[1 - id.end].hasEnded {
            streams[id.stream] = nil
        } else {
            events.add(.ended(id.other, reason: reason), at: now + network.streamDelay(&generator))
        }
        call(side.host, side.incarnation) { core, now in
            side.isAccepted
                ? core.onConnectionClosed(side.connection, reason: reason, now: now)
                : core.onHandshakeFailed(side.connection, reason: reason, now: now)
        }
    }

    /// Nothing has passed since the stream began to stall.
    mutating func onSilence(_ id: Int) {
        guard let stream = streams[id], !stream.stalled.isEmpty else { return }
        for end in 0...1 { self.end(SideID(stream: id, end: end), reason: "i/o timeout") }
    }

    /// What stalled goes on its way again.
    mutating func releaseStalled() {
        for (id, stream) in streams.sorted(by: { $0.key < $1.key }) where !stream.stalled.isEmpty {
            guard !partition.separates(stream.sides[0].host, stream.sides[1].host) else { continue }
            streams[id]?.stalled = []
            for (to, message) in stream.stalled { transmit(message, from: to.other) }
        }
    }

    // MARK: - Datagrams

    mutating func sendHeartbeat(_ id: SideID) {
        guard let stream = streams[id.stream], !stream.sides[id.end].hasEnded, !stream.sides[id.end].isEstablished
        else { return }
        if !partition.separates(stream.sides[0].host, stream.sides[1].host) {
            for delay in network.datagramDelays(&generator) { events.add(.datagram(to: id.other), at: now + delay) }
        }
        events.add(.heartbeat(id), at: now + Self.heartbeatInterval)
    }

    /// A datagram arrived: tell the sender over the stream, as the sleeve does.
    mutating func onDatagram(_ id: SideID) {
        guard let side = streams[id.stream]?.sides[id.end], !side.hasEnded, side.isAccepted else { return }
        call(side.host, side.incarnation) { core, _ in
            core.sendOverlayControl(side.connection, tag: .overlayControl, payload: [0, 1])
        }
    }

    mutating func establish(_ id: SideID) {
        guard let side = streams[id.stream]?.sides[id.end], !side.isEstablished else { return }
        streams[id.stream]?.sides[id.end].isEstablished = true
        call(side.host, side.incarnation) { core, now in core.onOverlayEstablished(side.connection, now: now) }
    }
}
