import Foundation
import NIOCore
import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveMesh

/// The same again and again: states that are known, targets that are one peer, names that lead elsewhere, weak keys.
@Suite("Routers and repetition", .serialized, .timeLimit(.minutes(2)))
struct RouterRepetitionTests {
    /// Every point of low order as X25519 reads them: 0, 1, two of order eight, p - 1, p and p + 1, and what the ignored
    /// highest bit makes of them.
    private static let lowOrderKeys: [[UInt8]] = {
        let orderEight = [
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        ].compactMap { [UInt8](hex: $0) }
        let middle = [UInt8](repeating: 0xff, count: 30)
        var keys: [[UInt8]] = [[UInt8](repeating: 0, count: 32), [1] + [UInt8](repeating: 0, count: 31)] + orderEight
        for first in [0xec, 0xed, 0xee] as [UInt8] { keys.append([first] + middle + [0x7f]) }
        return keys + keys.map { key -> [UInt8] in key.dropLast() + [key[31] | 0x80] }
    }()

    @Test("keys that make the secret known to everybody are refused, and nothing is sealed with them")
    func lowOrderKeys() async throws {
        try #require(Self.lowOrderKeys.count == 14)
        try await AttackScene.play(password: "a password of the mesh") { scene in
            for (index, key) in Self.lowOrderKeys.enumerated() {
                let stranger = try await Attacker.connect(
                    from: scene.mesh.address(9), to: scene.mesh.address(1), port: scene.mesh.port,
                    features: goodFeatures(), isSilent: true)
                let before = await scene.router.statistics()
                try await stranger.write(Array("weave".utf8) + [1, 2, 1] + key)
                try await scene.isTurnedOut(stranger, "refusing the public key of the remote")
                #expect(!stranger.isIntroduced, "key \(index)")
                let after = await scene.router.statistics()
                let closes = [before, after].map { $0.closes.values.reduce(0, +) }
                #expect(closes[1] == closes[0] + 1, "key \(index)")
                // A header and our own key; what honest peers say meanwhile is less than an introduction.
                #expect(after.socketBytesSent - before.socketBytesSent < 200, "key \(index)")
            }
        }
    }

    @Test("states that are known go no further, however often they come")
    func knownStates() async throws {
        try await AttackScene.play { scene in
            let attacker = try await scene.attacker()
            let links = [testName(1)] + (1000..<1100).map { testName($0) }
            let record = SampleRecord(
                name: AttackScene.attackerName.rawValue, uid: 77, version: 9,
                links: links.map { ($0.rawValue, true) })
            let update = gossip("topology", encodeUpdate([record]), from: AttackScene.attackerName.rawValue)
            try await attacker.send(4, update)
            try await scene.isHeard(attacker, "first")
            try await Task.sleep(for: .seconds(2))
            let before = (await scene.router.statistics(), await scene.honest.statistics())
            for round in 0..<2000 {
                try await attacker.send(4, update)
                try await attacker.send(
                    4, gossip(AttackScene.channel, Array("first".utf8), from: AttackScene.attackerName.rawValue))
                if round % 100 == 99 { try await scene.isHeard(attacker, "round \(round)") }
            }
            let after = (await scene.router.statistics(), await scene.honest.statistics())
            #expect(after.0.received.gossip.messages - before.0.received.gossip.messages >= 4000)
            #expect(after.0.improvedRecords == before.0.improvedRecords)
            #expect(after.0.routeCalculations - before.0.routeCalculations <= 2)
            // Summaries of the half minute, if its end falls into this.
            let heard = after.1.received.gossip.messages - before.1.received.gossip.messages
            #expect(heard <= 4, "the neighbour was told \(heard) times")
            try await scene.isForgotten(attacker)
        }
    }

    @Test("a name is looked up at each attempt")
    func names() async throws {
        try await withTestMesh { mesh in
            let router = try await mesh.start(1)
            let asked = Locked(0)
            var configuration = mesh.configuration(2)
            let (wrong, right) = (mesh.target(8), mesh.target(1))
            configuration.resolver = { host, service in
                #expect(host == "somewhere.example")
                let count = asked.change {
                    $0 += 1
                    return $0
                }
                guard count > 1 else { throw NameLookup.Failure(description: "lookup \(host): no such host") }
                return [try #require(Endpoint(count > 2 ? right : wrong))]
            }
            let other = try await mesh.start(2, configuration)
            _ = await other.connect(to: ["somewhere.example:\(mesh.port)"])
            try await eventually("the third answer is right") { await router.knows(2) }
            #expect(asked.value == 3)
            // The peer goes: its name may lead elsewhere by now, and is asked for again.
            await mesh.stop(1)
            try await eventually("the name is looked up again") { asked.value > 3 }
        }
    }

    @Test("targets that turn out to be one peer are dialled until that is known, and not again")
    func duplicateTargets() async throws {
        try await withTestMesh { mesh in
            var everywhere = mesh.configuration(1)
            everywhere.host = IPAddress("0.0.0.0")
            let router = try await mesh.start(1, everywhere)
            var configuration = mesh.configuration(2)
            configuration.port = mesh.port + 1
            let other = try await mesh.start(2, configuration)
            let targets = [1, 11, 12, 13].map { mesh.target($0) }
            _ = await other.connect(to: targets)
            try await eventually("they are connected") { await router.knows(2) }
            let uid = try #require(await other.connectionUID(to: testName(1)))
            try await eventually("all targets were tried") { await other.statistics().connectionsDialled >= 4 }
            try await Task.sleep(for: .seconds(8))
            let dialled = await other.statistics().connectionsDialled
            #expect(dialled <= 2 * targets.count, "\(dialled) attempts")
            try await Task.sleep(for: .seconds(12))
            #expect(await other.statistics().connectionsDialled == dialled)
            #expect(await other.connectionUID(to: testName(1)) == uid)
            #expect(await other.isConnectedTo == [testName(1)])
            // When it is gone, all may be tried again: it may be found at any of them.
            await mesh.stop(1)
            _ = try await mesh.start(1, everywhere)
            try await eventually("they are connected again") { await other.isConnectedTo == [testName(1)] }
            #expect(await other.connectionUID(to: testName(1)) != uid)
        }
    }
}
