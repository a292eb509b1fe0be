import Foundation
import NIOCore
import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveMesh

/// What would spread from one bad neighbour to others: handshakes, places, messages that others refuse, circles.
@Suite("Routers contain what is bad", .serialized, .timeLimit(.minutes(2)))
struct RouterContainmentTests {
    private let attacker = AttackScene.attackerName.rawValue

    /// The attacker's own record, which makes the peers behind him reachable, and himself a way for broadcasts.
    private func own(_ name: PeerName, version: UInt64, links: [PeerName]) -> SampleRecord {
        SampleRecord(name: name.rawValue, uid: 77, version: version, links: links.map { ($0.rawValue, true) })
    }

    /// A stranger who says only what is written.
    private func mute(_ scene: AttackScene, from address: Int = 9) async throws -> Attacker {
        try await Attacker.connect(
            from: scene.mesh.address(address), to: scene.mesh.address(1), port: scene.mesh.port,
            features: goodFeatures(), isSilent: true)
    }

    @Test("a thousand handshakes that do not go on cost no memory and no place that somebody else needs")
    func handshakes() async throws {
        try await AttackScene.play {
            $0.connectionLimit = 0
        } _: { scene in
            let begin = try AttackScene.residentBytes()
            let header = Array("weave".utf8) + [1, 2]
            var silent: [Attacker] = []
            for index in 0..<1000 {
                let stranger = try await mute(scene)
                // Some say nothing, some a header, some all but the end of a large introduction.
                if index % 3 > 0 { try? await stranger.write(header) }
                if index % 3 > 1 {
                    try? await stranger.write([0, 0, 0, 0xff, 0] + [UInt8](repeating: 1, count: 60_000))
                }
                silent.append(stranger)
                if index % 100 == 99 {
                    let counts = await scene.router.handshakeCounts(IPAddress(scene.mesh.address(9)))
                    #expect(counts.total <= RouterLimits().handshakes)
                    #expect(try AttackScene.residentBytes() - begin < AttackScene.growth)
                    // Another behind the same address, and one who comes from elsewhere.
                    for (place, number) in [(9, index), (8, index + 1)] {
                        let features = goodFeatures(
                            name: testName(1000 + number).description, uid: "\(1000 + number)", connectionID: "9")
                        let honest = try await Attacker.connect(
                            from: scene.mesh.address(place), to: scene.mesh.address(1), port: scene.mesh.port,
                            features: features)
                        try await eventually("\(number) gets in", within: .seconds(5)) {
                            await scene.router.isConnectedTo.contains(testName(1000 + number))
                        }
                        await honest.close()
                    }
                }
            }
            try await eventually("the others are gone") {
                await scene.router.statistics().closes[.refused] ?? 0 >= 1000 - RouterLimits().handshakes
            }
            #expect(scene.log.lines.contains { $0.contains("too many handshakes at one time") })
            for stranger in silent { await stranger.close() }
            try await eventually("no handshake is left") { await scene.router.handshakeCounts(nil).total == 0 }
        }
    }

    @Test("two hundred peers behind one address who come at one moment get in at the first attempt, while others dally")
    func manyBehindOneAddress() async throws {
        try await AttackScene.play {
            $0.connectionLimit = 0
        } _: { scene in
            var silent: [Attacker] = []
            for _ in 0..<250 { silent.append(try await mute(scene)) }
            var openings: [(Attacker, [UInt8])] = []
            for index in 0..<200 {
                let features = goodFeatures(
                    name: testName(1000 + index).description, uid: "\(1000 + index)", connectionID: "\(index + 5)")
                openings.append((try await mute(scene), try plainOpening(features)))
            }
            try await eventually("all have come") {
                await scene.router.statistics().connectionsAccepted >= 451
            }
            // Far away: one piece of an introduction arrives after the other, and those of all in turn.
            for part in [0..<7, 7..<8, 8..<20, 20..<1000] {
                for (peer, bytes) in openings { try await peer.write(Array(bytes[part.clamped(to: bytes.indices)])) }
                try await Task.sleep(for: .milliseconds(200))
            }
            try await eventually("all are in", within: .seconds(10)) {
                await scene.router.isConnectedTo.count == 201
            }
            #expect(await scene.router.statistics().closes[.refused] ?? 0 == 0)
            for (peer, _) in openings { #expect(!peer.isClosed) }
            // Who only waits has too many places, and gives them up to the next who comes.
            try await Task.sleep(for: RouterLimits().handshakePatience)
            silent.append(try await mute(scene))
            try await eventually("the idle are fewer") {
                await scene.router.handshakeCounts(nil).total <= RouterLimits().handshakesPerAddress
            }
            for peer in silent + openings.map(\.0) { await peer.close() }
        }
    }

    @Test("names without end do not take the place of a neighbour where connections are limited")
    func limit() async throws {
        try await AttackScene.play {
            $0.connectionLimit = 2
        } _: { scene in
            let attacker = try await scene.attacker()
            for index in 0..<40 {
                let features = goodFeatures(name: testName(1000 + index).description, uid: "\(1000 + index)")
                let stranger = try await scene.stranger(features: features)
                try await scene.isTurnedOut(stranger, "Connection limit reached (2)")
            }
            #expect(await scene.router.statistics().closes[.limit] == 40)
            #expect(await scene.router.isConnectedTo == [testName(2), AttackScene.attackerName])
            await attacker.close()
        }
    }

    @Test("what others refuse ends no connection of whoever passed it on", arguments: [false, true])
    func relayedPoison(unicast: Bool) async throws {
        try await AttackScene.play(poison: "poison", poisoned: unicast ? 3 : 2) { scene in
            let attacker = try await scene.attacker()
            let update = encodeUpdate([own(AttackScene.attackerName, version: 20, links: [testName(1)])])
            try await attacker.send(4, gossip("topology", update, from: self.attacker))
            let victim = unicast ? scene.far : scene.honest
            for round in 1...20 {
                if unicast {
                    let payload = GossipEnvelope.encode(
                        channel: AttackScene.channel, source: AttackScene.attackerName, destination: testName(3),
                        data: Array("poison".utf8))
                    try await attacker.send(5, payload)
                } else {
                    try await attacker.send(6, gossip(AttackScene.channel, Array("poison".utf8), from: self.attacker))
                }
                try await eventually("it was refused \(round) times") {
                    await victim.statistics().relayedErrors == round
                }
            }
            try await scene.isHeard(attacker, "still here")
            for router in [scene.router, scene.honest, scene.far] {
                #expect(await router.statistics().closes.isEmpty)
            }
            await attacker.close()
        }
    }

    @Test("a broadcast that is said again over another way goes no further")
    func repeatedBroadcast() async throws {
        try await AttackScene.play { scene in
            let attacker = try await scene.attacker()
            let update = encodeUpdate([own(AttackScene.attackerName, version: 20, links: [testName(1)])])
            try await attacker.send(4, gossip("topology", update, from: self.attacker))
            try await scene.isHeard(attacker, "own record")
            await scene.channels[1].broadcast(OpaqueGossip([UInt8](repeating: 7, count: 200)))
            try await eventually("the attacker has it") {
                attacker.messages.contains { $0.first == 6 && $0.count > 200 }
            }
            try await eventually("all have it") {
                let here = await scene.handlers[0].others
                let there = await scene.handlers[2].others
                return here == 1 && there == 1
            }
            let message = try #require(attacker.messages.first { $0.first == 6 && $0.count > 200 })
            for _ in 0..<1000 { try await attacker.send(6, Array(message.dropFirst())) }
            try await scene.isHeard(attacker, "again")
            try await scene.talk("meanwhile")
            #expect(await scene.router.statistics().loopedBroadcasts == 1000)
            #expect(await scene.handlers[0].others == 1001)
            #expect(await scene.handlers[1].others == 0)
            #expect(await scene.handlers[2].others == 1)
            await attacker.close()
        }
    }

    @Test("two who hand a message to each other do not make it go in circles through us")
    func circle() async throws {
        try await AttackScene.play { scene in
            let one = try await scene.attacker()
            let other = try await Attacker.connect(
                from: scene.mesh.address(8), to: scene.mesh.address(3), port: scene.mesh.port,
                features: goodFeatures(name: testName(98).description, uid: "78", connectionID: "6"))
            try await eventually("both are known") { await scene.router.peer(testName(98)) != nil }
            // To somebody behind the other: it comes out there, and goes in here again, eightfold.
            let ghost = testName(50)
            let update = encodeUpdate([
                SampleRecord(
                    name: testName(98).rawValue, uid: 78, version: 20,
                    links: [(testName(3).rawValue, true), (ghost.rawValue, true)]),
                own(ghost, version: 1, links: [testName(98)]),
            ])
            try await other.send(4, gossip("topology", update, from: testName(98).rawValue))
            try await eventually("the ghost is known") { await scene.router.peer(ghost) != nil }
            try await eventually("there is a way to it") { await scene.router.routes().unicast[ghost] != nil }
            let message = GossipEnvelope.encode(
                channel: AttackScene.channel, source: AttackScene.attackerName, destination: ghost, data: [1, 2, 3])
            try await one.send(5, message)
            let begin = ContinuousClock.now
            var returned = 0
            while ContinuousClock.now - begin < .seconds(2), returned < 20_000 {
                let arrived = other.messages.count { $0.first == 5 }
                for _ in 0..<(arrived - returned) * 8 { try await one.send(5, message) }
                returned = arrived
                try await Task.sleep(for: .milliseconds(1))
            }
            print("attack: \(returned) turns of one message in 2 s")
            #expect(returned > 60, "it goes no circle at all")
            #expect(returned < 64 * 4, "\(returned) turns")
            #expect(await scene.router.statistics().unroutableUnicasts > 100)
            await other.close()
            try await scene.isForgotten(one)
        }
    }

    @Test("what a neighbour says about a peer behind himself is not sent back to him")
    func backToSender() async throws {
        try await AttackScene.play { scene in
            let attacker = try await scene.attacker()
            let ghost = testName(50)
            let update = encodeUpdate([
                own(AttackScene.attackerName, version: 20, links: [testName(1), ghost]),
                own(ghost, version: 1, links: [AttackScene.attackerName]),
            ])
            try await attacker.send(4, gossip("topology", update, from: self.attacker))
            try await eventually("there is a way to it") { await scene.router.routes().unicast[ghost] != nil }
            let message = GossipEnvelope.encode(
                channel: AttackScene.channel, source: AttackScene.attackerName, destination: ghost, data: [1, 2, 3])
            for _ in 0..<1000 { try await attacker.send(5, message) }
            try await scene.isHeard(attacker, "to a ghost")
            #expect(await scene.router.statistics().unroutableUnicasts == 1000)
            #expect(!attacker.messages.contains { $0.first == 5 })
            await attacker.close()
        }
    }

    @Test("a peer that offers only an older protocol than we ask for is refused")
    func downgrade() async throws {
        try await AttackScene.play {
            $0.minimumProtocolVersion = 2
        } _: { scene in
            for _ in 0..<20 {
                let old = try await mute(scene)
                try await old.write(Array("weave".utf8) + [1, 1])
                try await scene.isTurnedOut(old, "remote version range [1,1] is incompatible with ours [2,2]")
            }
            #expect(await scene.router.statistics().closes[.refused] == 20)
        }
    }

    @Test("a neighbour has the nickname of his introduction, whatever goes round about him")
    func nickname() async throws {
        try await AttackScene.play { scene in
            let attacker = try await scene.attacker(["NickName": "newer"])
            var old = own(AttackScene.attackerName, version: 4000, links: [testName(1)])
            old.nickname = "older"
            try await attacker.send(4, gossip("topology", encodeUpdate([old]), from: self.attacker))
            try await eventually("the others have the record") {
                await scene.far.peer(AttackScene.attackerName)?.version ?? 0 >= 4000
            }
            #expect(await scene.far.peer(AttackScene.attackerName)?.nickname == "older")
            #expect(await scene.router.peer(AttackScene.attackerName)?.nickname == "newer")
            let connections = await scene.router.status().connections
            #expect(connections.first { $0.peer == AttackScene.attackerName }?.nickname == "newer")
            await attacker.close()
        }
    }

    @Test("somebody far away under our name makes us count on, and not the mesh talk without end")
    func namesake() async throws {
        try await AttackScene.play { scene in
            let attacker = try await scene.attacker()
            let before = await scene.honest.statistics().received.total.messages
            let begin = ContinuousClock.now
            for round in 0..<2000 {
                let twin = SampleRecord(
                    name: testName(1).rawValue, uid: 4, version: UInt64(1000 + round * 10),
                    links: [(testName(70).rawValue, true)])
                let update = encodeUpdate([
                    own(AttackScene.attackerName, version: UInt64(20 + round), links: [testName(1)]), twin,
                ])
                try await attacker.send(4, gossip("topology", update, from: self.attacker))
            }
            try await scene.isHeard(attacker, "twins")
            let seconds = Int((ContinuousClock.now - begin).components.seconds) + 1
            #expect(await scene.router.statistics().ownRecordConflicts > 0)
            #expect(scene.log.lines.count < 300 + ComplaintBudget.linesPerSecond * seconds)
            let uid = await scene.router.ownUID
            for router in [scene.router, scene.honest, scene.far] {
                try await eventually("everybody believes us", within: .seconds(20)) {
                    guard let peer = await router.peer(testName(1)) else { return false }
                    return peer.uid == uid && peer.version > 20_000
                }
            }
            let heard = await scene.honest.statistics().received.total.messages - before
            print("attack: \(heard) messages about 2000 twins in \(seconds) s")
            try await scene.isForgotten(attacker)
        }
    }
}
