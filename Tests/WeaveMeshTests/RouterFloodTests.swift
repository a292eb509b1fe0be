import Foundation
import NIOCore
import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveMesh

/// Peers that say or take too much, too little, or pretend to be others, over real TCP, with honest peers looking on.
@Suite("Routers in a flood", .serialized, .timeLimit(.minutes(2)))
struct RouterFloodTests {
    /// What a peer may pour in as fast as it is taken.
    enum Flood: String, CaseIterable, Sendable {
        case knownGossip, knownBroadcasts, unknownGossip, unknownBroadcasts, manyChannels, relayedUnicasts
        case lostUnicasts, overlayControl, blankMessages, unknownTags, sameRecord, newVersions

        /// The messages of one round, tags included; `round` makes them differ.
        func messages(_ round: Int) -> [[UInt8]] {
            let attacker = AttackScene.attackerName
            let load = [UInt8](repeating: UInt8(truncatingIfNeeded: round), count: 64 << 10)
            func unicast(to name: PeerName) -> [UInt8] {
                GossipEnvelope.encode(channel: AttackScene.channel, source: attacker, destination: name, data: load)
            }
            func records(_ version: UInt64) -> [UInt8] {
                let links = [testName(1)] + (1000..<1040).map { testName($0) }
                var records = [
                    SampleRecord(
                        name: attacker.rawValue, uid: 77, version: version, links: links.map { ($0.rawValue, true) })
                ]
                for name in links.dropFirst() {
                    records.append(
                        SampleRecord(
                            name: name.rawValue, uid: 5, version: version, links: links.map { ($0.rawValue, true) }))
                }
                return gossip("topology", encodeUpdate(records), from: attacker.rawValue)
            }
            switch self {
            case .knownGossip: return [[4] + gossip(AttackScene.channel, load, from: attacker.rawValue)]
            case .knownBroadcasts: return [[6] + gossip(AttackScene.channel, load, from: attacker.rawValue)]
            case .unknownGossip: return [[4] + gossip("other", load, from: attacker.rawValue)]
            case .unknownBroadcasts: return [[6] + gossip("other", load, from: testName(2 + round % 2).rawValue)]
            case .manyChannels:
                return (0..<20).map { [4] + gossip("c\(round) \($0)", Array(load.prefix(3000)), from: 99) }
            case .relayedUnicasts: return [[5] + unicast(to: testName(3))]
            case .lostUnicasts: return [[5] + unicast(to: testName(70))]
            case .overlayControl: return [[7] + load, [1], [2, 0], [3]]
            case .blankMessages: return (0..<2000).map { _ in [] }
            case .unknownTags: return [[UInt8(8 + round % 200)] + load]
            case .sameRecord: return [[4] + records(9)]
            case .newVersions: return [[4] + records(UInt64(10 + round))]
            }
        }
    }

    @Test("a peer that talks without end costs no memory, no other connection, and no other's word")
    func flood() async throws {
        try await AttackScene.play { scene in
            let attacker = try await scene.attacker()
            for flood in Flood.allCases {
                let lines = scene.log.lines.count
                let begin = ContinuousClock.now
                let flooding = Task {
                    var sent = 0
                    for round in 0..<400 {
                        var bytes: [UInt8] = []
                        for message in flood.messages(round) { bytes += HostileBytes.frame(message) }
                        try await attacker.write(bytes)
                        sent += bytes.count
                    }
                    return sent
                }
                var slowest = Duration.zero
                for word in 0..<5 {
                    let begin = ContinuousClock.now
                    try await scene.talk("\(flood) \(word)")
                    slowest = max(slowest, ContinuousClock.now - begin)
                }
                let sent = try await flooding.value
                try await scene.isHeard(attacker, "end of \(flood)")
                let time = ContinuousClock.now - begin
                print("attack: \(flood): \(sent >> 10) KiB in \(time); slowest round of words \(slowest)")
                // Those of messages, and what connections and topology add.
                let limit = ComplaintBudget.linesPerSecond * Int(time.components.seconds + 2) + 100
                #expect(scene.log.lines.count - lines < limit, "\(flood) floods the log")
            }
            try await scene.isForgotten(attacker)
        }
    }

    @Test("questions and announcements by the million are answered once, and remembered by no more than there can be")
    func digests() async throws {
        try await AttackScene.play { scene in
            let attacker = try await scene.attacker(MeshCore.announcedFeatures)
            let invented = (1000..<200_000).map { testName($0) }
            let names = [testName(1), testName(2), testName(3)] + invented
            let parts = stride(from: 0, to: names.count, by: TopologyDigest.maximumEntries)
                .map { Array(names[$0..<min(names.count, $0 + TopologyDigest.maximumEntries)]) }
            let known = await scene.router.statistics().sent.gossip.bytes
            for part in parts + parts + parts {
                let question = TopologyDigest.encode(.question(part))
                try await attacker.send(4, gossip(TopologyDigest.channel, question, from: 99))
            }
            try await scene.isHeard(attacker, "questions")
            #expect(await scene.router.statistics().sent.gossip.bytes - known < 100_000)
            for part in parts + parts {
                let entries = part.filter { $0.rawValue >= testName(1000).rawValue }
                    .map { TopologyDigest.Entry(name: $0, uid: 1, version: 1, hasShortID: false, fingerprint: 0) }
                let announcement = TopologyDigest.encode(.announcement(entries))
                try await attacker.send(4, gossip(TopologyDigest.channel, announcement, from: 99))
            }
            try await scene.isHeard(attacker, "announcements")
            #expect(await scene.router.statistics().recordsAsked <= PeerTable.maximumPeers + 10)
            try await attacker.send(4, gossip(TopologyDigest.channel, [9, 9], from: 99))
            try await scene.isTurnedOut(attacker, "topology digest of unknown kind 9")
            try await scene.isForgotten(attacker)

            let another = try await scene.attacker(MeshCore.announcedFeatures)
            let whole = TopologyDigest.encode(.question(names))
            try await another.send(4, gossip(TopologyDigest.channel, whole, from: 99))
            try await scene.isTurnedOut(another, "topology digest of more than")
            try await scene.isForgotten(another)
        }
    }

    @Test("messages that begin and do not end are held as far as they came, and not for ever")
    func unfinished() async throws {
        try await AttackScene.play {
            $0.limits.readTimeout = .seconds(2)
            $0.limits.heartbeatInterval = .seconds(1)
        } _: { scene in
            var attackers: [Attacker] = []
            for index in 0..<50 {
                let features = goodFeatures(name: testName(100 + index).description, uid: "\(1000 + index)")
                attackers.append(try await scene.stranger(features: features))
            }
            try await eventually("all are peers") { await scene.router.isConnectedTo.count == 51 }
            // Ten mebibytes are announced by each.
            for attacker in attackers {
                try await attacker.write([0, 0xa0, 0, 0] + [UInt8](repeating: 4, count: 1000))
            }
            try await scene.talk("meanwhile")
            for attacker in attackers { try await scene.isTurnedOut(attacker, ": i/o timeout") }
            #expect(await scene.router.statistics().closes[.timeout] == 50)
            try await scene.isForgotten(attackers[0])
        }
    }

    /// Names and numbers of an introduction, and what the log says to them.
    static let impostors: [(features: [String: String], reason: String)] = [
        (["Name": "00:00:00:00:00:00"], "remote peer has no name"),
        (["Name": "zz"], "invalid peer name format: \"zz\""),
        (["Name": "01:02:03:04:05:06:07"], "invalid peer name format"),
        (["Name": ""], "invalid peer name format: \"\""),
        (["PeerNameFlavour": "hash"], "Peer name flavour mismatch (ours: 'mac', theirs: 'hash')"),
        (["ShortID": "4096"], "strconv.ParseUint: parsing \"4096\": value out of range"),
        (["ShortID": "-1"], "strconv.ParseUint: parsing \"-1\": invalid syntax"),
        (["UID": "18446744073709551616"], "strconv.ParseUint: parsing \"18446744073709551616\": value out of range"),
        (["Trusted": "maybe"], "strconv.ParseBool: parsing \"maybe\": invalid syntax"),
        (["NickName": String(repeating: "n", count: 1025)], "nickname of 1025 bytes; at most 1024"),
        (["NickName": String(repeating: "n", count: 70_000)], "incoming message exceeds maximum size"),
    ]

    @Test("introductions that cannot be are refused, each with its reason")
    func impostors() async throws {
        try await AttackScene.play { scene in
            for (features, reason) in Self.impostors {
                let name = features["Name"] ?? AttackScene.attackerName.description
                let stranger = try await scene.stranger(features: goodFeatures(name: name, replacing: features))
                try await scene.isTurnedOut(stranger, reason)
            }
            let ours = testName(1).description
            let uid = await scene.router.ownUID
            let twin = try await scene.stranger(features: goodFeatures(name: ours, uid: "\(uid)"))
            try await scene.isTurnedOut(twin, "cannot connect to ourself")
            let namesake = try await scene.stranger(features: goodFeatures(name: ours, uid: "4"))
            try await scene.isTurnedOut(namesake, "peer names collision")
            #expect(await scene.router.isConnectedTo == [testName(2)])
            #expect(await scene.router.statistics().closes[.identity] == 3)
        }
    }

    @Test("whoever takes a neighbour's name and the higher number is the one who goes")
    func doubleOfNeighbour() async throws {
        try await AttackScene.play { scene in
            let name = testName(2).description
            // He lets the router speak first, so as to make the highest number of all out of its half.
            let double = try await Attacker.connect(
                from: scene.mesh.address(9), to: scene.mesh.address(1), port: scene.mesh.port,
                features: goodFeatures(name: name, uid: "4"), isSilent: true)
            try await double.write(Array("weave".utf8) + [1, 2, 0])
            try await eventually("the router has introduced itself") { double.isIntroduced }
            let half = try #require(double.remoteFeatures["ConnID"].flatMap { UInt64($0) })
            let opening = try plainOpening(goodFeatures(name: name, uid: "4", connectionID: "\(~half)"))
            try await double.write(Array(opening.dropFirst(8)))
            try await scene.isTurnedOut(double, "connection ready; using protocol version 2")
            #expect(await scene.router.statistics().closes[.duplicate] == 1)
        }
    }

    @Test("a peer that stops reading costs its queue, and then its connection")
    func notReading() async throws {
        try await AttackScene.play {
            $0.limits.writeTimeout = .seconds(2)
        } _: { scene in
            let attacker = try await scene.attacker()
            try await attacker.stopReading()
            // Far more than may wait for one connection, all of it different.
            for round in 0..<600 {
                await scene.channels[0].broadcast(
                    OpaqueGossip([UInt8](repeating: UInt8(truncatingIfNeeded: round), count: 100_000)))
                if round % 50 == 0 { try await Task.sleep(for: .milliseconds(20)) }
            }
            try await scene.talk("meanwhile")
            try await eventually("it is given up", within: .seconds(20)) {
                await !scene.router.isConnectedTo.contains(AttackScene.attackerName)
            }
            #expect(scene.log.lines.contains { $0.contains("write tcp ") && $0.hasSuffix(": i/o timeout") })
            let statistics = await scene.router.statistics()
            #expect(statistics.closes[.timeout] == 1)
            #expect(statistics.droppedMessages > 0)
            try await scene.isForgotten(attacker)
        }
    }

    @Test("peers that somebody invents are dialled a few hundred at a time, and no more", arguments: [0, 20])
    func dialStorm(limit: Int) async throws {
        try await AttackScene.play {
            $0.discovery = true
            $0.connectionLimit = limit
        } _: { scene in
            let attacker = try await scene.attacker()
            let ghosts = (0..<3000).map { testName(1000 + $0) }
            // Nobody answers there.
            let whole = encodeUpdate(
                [own(links: ghosts)]
                    + ghosts.enumerated().map { index, ghost in
                        SampleRecord(
                            name: ghost.rawValue, uid: 5, version: 1,
                            links: [(ghosts[(index + 1) % ghosts.count].rawValue, true)],
                            address: "127.9.\(index / 250).\(index % 250 + 1):9")
                    })
            try await attacker.send(4, gossip("topology", whole, from: 99))
            var most = 0
            for _ in 0..<100 {
                most = max(most, await scene.router.dialsUnderWay)
                try await Task.sleep(for: .milliseconds(5))
            }
            try await scene.talk("in the storm")
            #expect(most <= (limit == 0 ? ConnectionMaker.maximumAttempts : limit))
            let dialled = await scene.router.statistics().connectionsDialled
            print("attack: dial storm with limit \(limit): \(most) at a time, \(dialled) in all")
            #expect(dialled > 0)
            try await scene.isForgotten(attacker)
        }
    }

    private func own(links: [PeerName]) -> SampleRecord {
        SampleRecord(
            name: AttackScene.attackerName.rawValue, uid: 77, version: 20,
            links: ([testName(1)] + links).map { ($0.rawValue, true) }, address: "127.0.0.1:1")
    }
}
