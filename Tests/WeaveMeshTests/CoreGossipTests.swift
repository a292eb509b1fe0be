import Testing
import WeaveCore

@testable import WeaveMesh

/// Data that keeps the highest number, as a stand-in for state that merges.
private struct Highest: GossipData {
    var value: UInt8
    var size = 1

    func merged(with newer: any GossipData) -> any GossipData {
        guard let newer = newer as? Highest else { return newer }
        return newer.value > value ? newer : self
    }

    func encode() -> [[UInt8]] { [[UInt8](repeating: value, count: size)] }
}

@Suite("Gossip of the core")
struct CoreGossipTests {
    /// A core with neighbours whose names and numbers of peers behind them are given.
    private func core(
        neighbours: [UInt64], digests: Bool = false, channel: String? = "test"
    ) throws -> (core: MeshCore, ids: [ConnectionID]) {
        var core = MeshCore.sample(discovery: false)
        if let channel { try core.registerChannel(channel) }
        var ids: [ConnectionID] = []
        for (index, neighbour) in neighbours.enumerated() {
            ids.append(core.addInbound(introduction(neighbour, digests: digests), from: "10.0.1.\(index):4000").id)
        }
        _ = core.advance(to: moment(5))
        for id in ids { _ = core.drain(id) }
        return (core, ids)
    }

    private func sent(_ core: inout MeshCore, _ ids: [ConnectionID], _ channel: String = "test") throws -> [[[UInt8]]] {
        try ids.map { id in
            try core.drain(id).filter { try $0.envelope().channel == channel }.map { try $0.data() }
        }
    }

    @Test("merges what waits for a slow neighbour into one message")
    func coalescing() throws {
        var (core, ids) = try core(neighbours: [0x20])
        for value in 0...255 as ClosedRange<UInt8> {
            let directives = core.broadcast("test", Highest(value: value), now: moment(5))
            #expect(directives.woken == (value == 0 ? ids : []))
        }
        #expect(try sent(&core, ids) == [[[255]]])
        #expect(core.broadcast("test", Highest(value: 1), now: moment(5)).woken == ids)
    }

    @Test("sends gossip before broadcasts, and broadcasts of each origin by themselves")
    func order() throws {
        var (core, ids) = try core(neighbours: [0x20, 0x30])
        _ = core.broadcast("test", Highest(value: 1), now: moment(5))
        _ = core.gossipToNeighbours("test", Highest(value: 2), now: moment(5))
        let messages = core.drain(ids[0])
        #expect(messages.map(\.tag) == [.gossip, .gossipBroadcast])
        #expect(try messages.map { try $0.envelope().source } == [core.configuration.name, core.configuration.name])
    }

    @Test("holds back broadcasts until the routes are computed")
    func deferral() throws {
        var core = MeshCore.sample()
        let (id, _) = core.addInbound(introduction(0x20))
        _ = core.drain(id)
        #expect(core.broadcast("test", Highest(value: 1), now: .zero).woken.isEmpty)
        #expect(core.advance(to: moment(0.1)).woken == [id])
        #expect(try sent(&core, [id]) == [[[1]]])
    }

    @Test("asks for the state of channels for new neighbours, once for several")
    func newNeighbours() throws {
        var core = MeshCore.sample()
        try core.registerChannel("test")
        let first = core.addInbound(introduction(0x20)).id
        let second = core.addInbound(introduction(0x21)).id
        let requests = core.advance(to: moment(0.05)).stateRequests
        #expect(requests == [MeshStateRequest(channel: "test", destination: .connections([first, second]))])
        _ = core.onState(requests[0], Highest(value: 9), now: moment(0.05))
        #expect(try sent(&core, [first, second]) == [[[9]], [[9]]])
    }

    @Test("does not repeat an unchanged state every time, but does not keep silent either")
    func periodicStates() throws {
        var (core, ids) = try core(neighbours: [0x20])
        var rounds: [Int] = []
        for _ in 0..<9 {
            let due = try #require(core.timers.nextDeadline)
            for request in core.advance(to: due + .seconds(29)).stateRequests {
                _ = core.onState(request, Highest(value: 7), now: due)
            }
            rounds.append(try sent(&core, ids)[0].count)
        }
        #expect(rounds.reduce(0, +) == 3)
        #expect(core.statistics.suppressedStates > 0)
        let due = try #require(core.timers.nextDeadline)
        for request in core.advance(to: due + .seconds(29)).stateRequests {
            _ = core.onState(request, Highest(value: 8), now: due)
        }
        #expect(try sent(&core, ids)[0] == [[8]])
    }

    @Test("passes a unicast for somebody else on as it came, never back")
    func relaying() throws {
        var (core, ids) = try core(neighbours: [0x20, 0x30])
        let payload =
            GossipEnvelope.encode(
                channel: "test", source: PeerName(truncating: 0x20), destination: PeerName(truncating: 0x30),
                data: [1, 2, 3]) + [9, 9]
        _ = core.onMessage(ids[0], tag: 5, payload: payload, now: moment(5))
        #expect(core.drain(ids[0]).isEmpty)
        #expect(core.drain(ids[1]) == [MeshMessage(tag: .gossipUnicast, payload: payload)])
        _ = core.onMessage(ids[1], tag: 5, payload: payload, now: moment(5))
        #expect(core.drain(ids[1]).isEmpty)
        #expect(core.statistics.unroutableUnicasts == 1)
    }

    @Test("stops a unicast that goes round and round")
    func unicastLoop() throws {
        var (core, ids) = try core(neighbours: [0x20, 0x30])
        let payload = GossipEnvelope.encode(
            channel: "test", source: PeerName(truncating: 0x20), destination: PeerName(truncating: 0x30), data: [1])
        for _ in 0..<1000 { _ = core.onMessage(ids[0], tag: 5, payload: payload, now: moment(5)) }
        #expect(core.drain(ids[1]).count == 64)
        _ = core.onMessage(ids[0], tag: 5, payload: payload, now: moment(7))
        #expect(core.drain(ids[1]).count == 1)
    }

    @Test("does not pass on a broadcast that comes round again, nor one of its own")
    func broadcastLoop() throws {
        var (core, ids) = try core(neighbours: [0x20, 0x30])
        let update = encodeUpdate([SampleRecord(name: 0x20, version: 3, links: [(0x10, true)])])
        _ = core.onMessage(ids[0], tag: 4, payload: gossip("topology", update, from: 0x20), now: moment(4))
        _ = core.advance(to: moment(5))
        let payload = gossip("other", [1], from: 0x20)
        _ = core.onMessage(ids[0], tag: 6, payload: payload, now: moment(5))
        #expect(try sent(&core, ids, "other") == [[], [[1]]])
        _ = core.onMessage(ids[1], tag: 6, payload: payload, now: moment(5))
        _ = core.onMessage(ids[1], tag: 6, payload: gossip("other", [1], from: 0x10), now: moment(5))
        #expect(try sent(&core, ids, "other") == [[], []])
        #expect(core.statistics.loopedBroadcasts == 1)
        // The same again on the same way is not a loop.
        _ = core.onMessage(ids[0], tag: 6, payload: payload, now: moment(8))
        #expect(try sent(&core, ids, "other") == [[], [[1]]])
    }

    @Test("passes on gossip of channels it does not know, each payload once in half a minute")
    func surrogates() throws {
        var (core, ids) = try core(neighbours: [0x20, 0x30], channel: nil)
        let first = core.onMessage(ids[0], tag: 4, payload: gossip("other", [1, 2], from: 0x20), now: moment(5))
        #expect(first.logged == ["[gossip other]: created surrogate channel"])
        #expect(try sent(&core, ids, "other") == [[], [[1, 2]]])
        _ = core.onMessage(ids[1], tag: 4, payload: gossip("other", [1, 2], from: 0x30), now: moment(6))
        #expect(try sent(&core, ids, "other") == [[], []])
        _ = core.onMessage(ids[0], tag: 4, payload: gossip("other", [1, 2], from: 0x20), now: moment(36))
        #expect(try sent(&core, ids, "other") == [[], [[1, 2]]])
    }

    @Test("keeps what it remembers and queues of unknown channels within bounds")
    func surrogateBounds() throws {
        var (core, ids) = try core(neighbours: [0x20, 0x30], channel: nil)
        var generator = SeededGenerator(seed: 4)
        for index in 0..<3000 {
            var data = [UInt8](repeating: UInt8.random(in: 0...255, using: &generator), count: 40_000)
            data[0] = UInt8(truncatingIfNeeded: index)
            data[1] = UInt8(truncatingIfNeeded: index >> 8)
            _ = core.onMessage(
                ids[0], tag: 4, payload: gossip("other\(index % 200)", data, from: 0x20), now: moment(5))
        }
        #expect(core.surrogates.count == GossipLimits.surrogateChannels)
        #expect(core.statistics.droppedSurrogates > 0)
        let waiting = core.drain(ids[1]).reduce(0) { $0 + $1.payload.count }
        #expect(waiting > 1 << 20)
        #expect(waiting <= GossipLimits.opaqueBytes + 3000 * 100)
    }

    @Test("takes as many unicasts as may wait for a neighbour, and not one more")
    func unicastBound() throws {
        var (core, ids) = try core(neighbours: [0x20])
        for _ in 0..<GossipLimits.controlMessages {
            _ = try core.unicast("test", to: PeerName(truncating: 0x20), [1], now: moment(5))
        }
        #expect(throws: GossipError.self) {
            try core.unicast("test", to: PeerName(truncating: 0x20), [1], now: moment(5))
        }
        #expect(core.statistics.droppedMessages == 1)
        #expect(core.drain(ids[0]).count == GossipLimits.controlMessages)
        #expect(throws: GossipError(.noRoute, "unknown relay destination: 00:00:00:00:00:99")) {
            try core.unicast("test", to: PeerName(truncating: 0x99), [1], now: moment(5))
        }
        #expect(throws: GossipError.self) {
            try core.unicast(
                "test", to: PeerName(truncating: 0x20), [UInt8](repeating: 0, count: 10 << 20), now: moment(5))
        }
    }

    @Test("leaves out payloads that no message can hold")
    func oversized() throws {
        var (core, ids) = try core(neighbours: [0x20])
        _ = core.broadcast("test", Highest(value: 1, size: 11 << 20), now: moment(5))
        #expect(try sent(&core, ids) == [[]])
        #expect(core.statistics.droppedMessages == 1)
    }

    @Test("ends the connection for a bad message of the neighbour, not for one it passed on", arguments: [true, false])
    func handlerErrors(_ isOwn: Bool) throws {
        var (core, ids) = try core(neighbours: [0x20, 0x30])
        let source: UInt64 = isOwn ? 0x20 : 0x30
        let directives = core.onMessage(ids[0], tag: 6, payload: gossip("test", [1], from: source), now: moment(5))
        let delivery = try #require(directives.deliveries.first)
        let closed = core.onHandlerError(delivery, message: "clock skew", now: moment(5)).closed
        #expect(closed.map(\.reason) == (isOwn ? ["clock skew"] : []))
        #expect(core.statistics.relayedErrors == (isOwn ? 0 : 1))
    }

    @Test("ends the connection for an envelope that cannot be read", arguments: [4, 5, 6] as [UInt8])
    func badEnvelope(_ tag: UInt8) throws {
        var (core, ids) = try core(neighbours: [0x20])
        let directives = core.onMessage(ids[0], tag: tag, payload: [1, 2, 3], now: moment(5))
        #expect(directives.closed.map(\.id) == ids)
        #expect(core.connections.isEmpty)
        #expect(core.onMessage(ids[0], tag: tag, payload: [1, 2, 3], now: moment(5)).isEmpty)
    }

    @Test("ignores tags it does not know, and hands on those of the overlay")
    func tags() throws {
        var (core, ids) = try core(neighbours: [0x20])
        #expect(
            core.onMessage(ids[0], tag: 99, payload: [1], now: moment(5)).logged.first?.hasSuffix(
                "unknown protocol tag: 99") == true)
        for tag in [1, 2, 3, 7] as [UInt8] {
            let directives = core.onMessage(ids[0], tag: tag, payload: [], now: moment(5))
            guard case .overlayControl(ids[0], tag: tag, payload: []) = directives.first else {
                Issue.record("tag \(tag) gave \(directives)")
                continue
            }
        }
        _ = core.sendOverlayControl(ids[0], tag: .overlayControl, payload: [0, 1])
        #expect(core.drain(ids[0]) == [MeshMessage(tag: .overlayControl, payload: [0, 1])])
    }

    @Test("favours neighbours through whom many are reached", arguments: [1, 2, 3] as [UInt64])
    func neighbourChoice(_ seed: UInt64) throws {
        var core = MeshCore.sample(discovery: false, seed: seed)
        var ids: [ConnectionID] = []
        for index in 0..<20 as Range<UInt64> {
            ids.append(core.addInbound(introduction(0x100 + index), from: "10.0.1.\(index):4000").id)
        }
        let behind = (0..<40 as Range<UInt64>).map { SampleRecord(name: 0x200 + $0, links: [(0x100, true)]) }
        let bridge = SampleRecord(name: 0x100, version: 5, links: behind.map { ($0.name, true) })
        _ = core.onMessage(
            ids[0], tag: 4, payload: gossip("topology", encodeUpdate(behind + [bridge]), from: 0x100), now: .zero)
        _ = core.advance(to: moment(5))
        var counts: [ConnectionID: Int] = [:]
        for _ in 0..<200 {
            let chosen = core.randomNeighbours()
            #expect(chosen.count == 11)
            #expect(Set(chosen).count == 11)
            for id in chosen { counts[id, default: 0] += 1 }
            #expect(!core.randomNeighbours(except: ids[3]).contains(ids[3]))
        }
        #expect(counts[ids[0]] ?? 0 > 190, "seed \(seed)")
        #expect(ids.dropFirst().allSatisfy { counts[$0] ?? 0 < 160 }, "seed \(seed)")
    }

    @Test("tells a new neighbour of 2.8.1 all, and others what changed a second later")
    func topologySending() throws {
        var core = MeshCore.sample(discovery: false)
        let (first, _) = core.addInbound(introduction(0x20))
        let initial = core.drain(first)
        #expect(try initial.map { try $0.envelope().channel } == ["topology"])
        #expect(try TopologyReader.read(try #require(initial.first).data()).records.count == 2)
        _ = core.advance(to: moment(3))
        // It has them already.
        #expect(core.drain(first).isEmpty)
        let (second, _) = core.addInbound(introduction(0x21), from: "10.0.0.8:1", at: moment(3))
        #expect(try TopologyReader.read(try #require(core.drain(second).first).data()).records.count == 3)
        _ = core.advance(to: moment(3.9))
        #expect(core.drain(first).isEmpty)
        _ = core.advance(to: moment(4.1))
        let news = try TopologyReader.read(try #require(core.drain(first).first).data())
        #expect(Set(news.records.map(\.name.rawValue)) == [0x10, 0x21])
    }

    @Test("tells a neighbour of its own kind versions, and records when asked")
    func digests() throws {
        var core = MeshCore.sample(discovery: false)
        let (id, _) = core.addInbound(introduction(0x20, digests: true))
        let announced = try #require(core.drain(id).first)
        #expect(try announced.envelope().channel == TopologyDigest.channel)
        let data = try announced.data()
        guard case .announcement(let entries) = try TopologyDigest.decode(data, from: 0, to: data.count) else {
            Issue.record("no announcement")
            return
        }
        // The neighbour has told nothing about itself that could be passed on.
        #expect(entries.map(\.name.rawValue) == [0x10])
        let question = TopologyDigest.encode(.question([PeerName(truncating: 0x10), PeerName(truncating: 0x77)]))
        _ = core.onMessage(id, tag: 4, payload: gossip(TopologyDigest.channel, question, from: 0x20), now: .zero)
        let answer = core.drain(id)
        #expect(try answer.map { try $0.envelope().channel } == ["topology"])
        #expect(try TopologyReader.read(try #require(answer.first).data()).records.map(\.name.rawValue) == [0x10])
        let news = TopologyDigest.encode(
            .announcement([
                TopologyDigest.Entry(
                    name: PeerName(truncating: 0x30), uid: 1, version: 1, hasShortID: false, fingerprint: 0)
            ]))
        _ = core.onMessage(id, tag: 4, payload: gossip(TopologyDigest.channel, news, from: 0x20), now: .zero)
        let asked = try #require(core.drain(id).first).data()
        #expect(asked == TopologyDigest.encode(.question([PeerName(truncating: 0x30)])))
        _ = core.onMessage(id, tag: 4, payload: gossip(TopologyDigest.channel, news, from: 0x20), now: .zero)
        #expect(core.drain(id).isEmpty)
    }

    @Test("asks somebody else when an answer does not come, or its neighbour goes", arguments: [true, false])
    func askingAgain(_ goes: Bool) throws {
        var (core, ids) = try core(neighbours: [0x20, 0x30], digests: true)
        let news = TopologyDigest.encode(
            .announcement([
                TopologyDigest.Entry(
                    name: PeerName(truncating: 0x40), uid: 1, version: 1, hasShortID: false, fingerprint: 0)
            ]))
        for (id, name) in zip(ids, [0x20, 0x30] as [UInt64]) {
            _ = core.onMessage(id, tag: 4, payload: gossip(TopologyDigest.channel, news, from: name), now: moment(5))
        }
        #expect(core.drain(ids[0]).count == 1)
        #expect(core.drain(ids[1]).isEmpty)
        if goes {
            #expect(core.onConnectionClosed(ids[0], reason: "EOF", now: moment(5.1)).woken == [ids[1]])
        } else {
            #expect(core.advance(to: moment(7.5)).woken.contains(ids[1]))
        }
        #expect(
            try core.drain(ids[1]).contains {
                try $0.data() == TopologyDigest.encode(.question([PeerName(truncating: 0x40)]))
            })
    }

    @Test("warns when two peers use one name")
    func nameConflict() throws {
        var (core, ids) = try core(neighbours: [0x20])
        var warnings = 0
        for round in 0..<6 as Range<UInt64> {
            let update = encodeUpdate([SampleRecord(name: 0x10, uid: 77, version: 1000 * (round + 1))])
            let directives = core.onMessage(
                ids[0], tag: 4, payload: gossip("topology", update, from: 0x20), now: moment(5 + Double(round)))
            warnings += directives.logged.filter { $0.contains("seems to use our name") }.count
        }
        #expect(warnings == 1)
        #expect(core.statistics.ownRecordConflicts == 6)
        #expect(core.table.own.version == 6001)
    }

    @Test("passes topology of old releases down the broadcast tree, and takes an empty update")
    func topologyBroadcast() throws {
        var (core, ids) = try core(neighbours: [0x20, 0x30])
        #expect(
            core.onMessage(ids[0], tag: 4, payload: gossip("topology", [], from: 0x20), now: moment(5)).closed.isEmpty)
        let update = encodeUpdate([SampleRecord(name: 0x20, version: 9, links: [(0x10, false)])])
        _ = core.onMessage(ids[0], tag: 6, payload: gossip("topology", update, from: 0x20), now: moment(5))
        #expect(core.drain(ids[0]).isEmpty)
        let passed = core.drain(ids[1])
        #expect(passed.map(\.tag) == [.gossipBroadcast])
        #expect(try passed[0].envelope().source == PeerName(truncating: 0x20))
        let unicast = GossipEnvelope.encode(
            channel: "topology", source: PeerName(truncating: 0x20), destination: core.configuration.name, data: [1])
        let closed = core.onMessage(ids[0], tag: 5, payload: unicast, now: moment(5)).closed
        #expect(closed.map(\.reason) == ["unexpected topology gossip unicast: [1]"])
    }

    @Test("shows peers, routes and connections")
    func status() throws {
        var (core, ids) = try core(neighbours: [0x20])
        _ = core.onOverlayEstablished(ids[0], now: moment(5))
        core.onOverlayAttributes(ids[0], OverlayAttributes(name: "sleeve", mtu: 1438, encrypted: true))
        let update = encodeUpdate([SampleRecord(name: 0x20, nickname: "old name", version: 9, links: [(0x10, true)])])
        _ = core.onMessage(ids[0], tag: 4, payload: gossip("topology", update, from: 0x20), now: moment(5))
        let directives = core.advance(to: moment(6))
        let routes = try #require(
            directives.compactMap { if case .routesChanged(let routes) = $0 { routes } else { nil } }.last)
        #expect(routes.unicast == [PeerName(truncating: 0x20): PeerName(truncating: 0x20)])
        #expect(routes.broadcastHops(core.configuration.name) == [PeerName(truncating: 0x20)])
        let status = core.status(now: moment(6))
        #expect(status.peers.map(\.name.rawValue) == [0x10, 0x20])
        #expect(status.peers[0].connections.map(\.established) == [true])
        #expect(status.peers[1].nickname == "host32")
        #expect(status.unicastRoutes.map(\.via.rawValue) == [0, 0x20])
        #expect(status.broadcastRoutes.map(\.via) == [[PeerName(truncating: 0x20)]])
        #expect(status.connections.map(\.state) == [.established])
        #expect(status.connections[0].overlay?.mtu == 1438)
        #expect(
            core.onOverlayEstablished(ConnectionID(rawValue: 77), now: moment(6)).closed.first?.reason
                == "Cannot set unknown connection active")
    }

    @Test("notices a short id of its own that belongs to a lower name, and takes another")
    func shortIDCollision() throws {
        var core = MeshCore.sample(shortID: 5)
        let (id, _) = core.addInbound(introduction(0x08, shortID: 5))
        #expect(core.shortID != ShortID(exactly: 5))
        #expect(core.table.shortIDs.principal(of: try #require(ShortID(exactly: 5))) == PeerName(truncating: 8))
        var high = MeshCore.sample(shortID: 5)
        high.addInbound(introduction(0x20, shortID: 5))
        #expect(high.shortID == ShortID(exactly: 5))
        #expect(core.onConnectionClosed(id, reason: "EOF", now: .zero).removed.map(\.rawValue) == [8])
    }

    @Test("refuses a channel name that is taken")
    func channels() throws {
        var core = MeshCore.sample()
        try core.registerChannel("test")
        #expect(throws: GossipError(.duplicateChannel, "[gossip] duplicate channel test")) {
            try core.registerChannel("test")
        }
        #expect(throws: GossipError.self) { try core.registerChannel("topology") }
        #expect(throws: GossipError.self) { try core.registerChannel(String(repeating: "x", count: 257)) }
    }
}
