import WeaveCore

@testable import WeaveMesh

private let ourself = PeerName(truncating: 0x10)

/// Payloads of gossip messages: envelopes alone, and as neighbours send them to a router.
func fuzzGossip(_ input: FuzzInput) {
    var input = input
    let options = input.byte()
    let tags: [MessageTag] = [.gossip, .gossipUnicast, .gossipBroadcast]
    if options & 1 == 0 { return checkEnvelope(input.rest, tags[Int(options >> 1) % 3]) }
    var core = MeshCore(
        configuration: MeshCoreConfiguration(name: ourself, nickname: "us", uid: 1000), seed: 1, now: .zero)
    guard (try? core.registerChannel("data")) != nil else { return require(false, "a channel is registered") }
    var now = MonotonicTime.zero
    let neighbours = (0..<3 as Range<UInt64>).map { index in
        let id = core.makeConnectionID()
        let introduction = RemoteIntroduction(
            name: PeerName(truncating: 0x20 + index), nickname: "n", uid: 7, connectionUID: 100 + index,
            features: index == 2 ? [:] : MeshCore.announcedFeatures)
        let remote = Endpoint(.v4(IPv4Address(rawValue: 0x0a00_0002 + UInt32(index))), port: 4000)
        let local = Endpoint(.v4(IPv4Address(rawValue: 0x0a00_0001)), port: 6783)
        var directives = core.onConnectionReady(
            id, introduction, local: local, remote: remote, outbound: false, now: now)
        directives += core.onOverlayEstablished(id, now: now)
        require(!directives.contains { if case .close = $0 { true } else { false } }, "a neighbour is taken")
        return id
    }
    while !input.isEmpty {
        let choice = input.byte()
        let payload = input.piece()
        _ = core.onMessage(neighbours[Int(choice >> 4) % 3], tag: choice & 7, payload: payload, now: now)
        if choice & 8 != 0 {
            now = now + .milliseconds(700)
            _ = core.onTimer(now: now)
        }
        for id in neighbours { drain(&core, id, now) }
    }
    require(core.table.own.name == ourself && core.table.own.uid == 1000, "nobody takes our place")
    require(core.table.count <= PeerTable.maximumPeers, "peers are bounded")
}

/// Takes what waits for a neighbour, which must be able to read it.
private func drain(_ core: inout MeshCore, _ id: ConnectionID, _ now: MonotonicTime) {
    while let message = core.nextMessage(for: id, now: now) {
        guard [.gossip, .gossipUnicast, .gossipBroadcast].contains(message.tag) else { continue }
        let reader = PeerName(truncating: 0x2f)
        require(
            (try? GossipEnvelope.read(message.payload, tag: message.tag, ourself: reader)) != nil,
            "a neighbour can read what we send")
    }
}

private func checkEnvelope(_ payload: [UInt8], _ tag: MessageTag) {
    let envelope = bounded(payload.count, "envelope") {
        try? GossipEnvelope.read(payload, tag: tag, ourself: ourself)
    }
    guard let envelope, let range = envelope.data else { return }
    let data = Array(payload[range])
    let written =
        envelope.destination.map {
            GossipEnvelope.encode(channel: envelope.channel, source: envelope.source, destination: $0, data: data)
        } ?? GossipEnvelope.encode(channel: envelope.channel, source: envelope.source, data: data)
    guard let again = try? GossipEnvelope.read(written, tag: tag, ourself: ourself), let place = again.data else {
        return require(false, "what was read can be written and read")
    }
    require(
        again.channel == envelope.channel && again.source == envelope.source
            && again.destination == envelope.destination && Array(written[place]) == data, "the same envelope again")
}
