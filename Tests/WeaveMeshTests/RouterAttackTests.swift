import Foundation
import NIOCore
import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveMesh

/// Each way of the specification in which a peer can hurt others, over real TCP, with honest peers looking on.
@Suite("Routers under attack", .serialized, .timeLimit(.minutes(2)))
struct RouterAttackTests {
    private let attacker = AttackScene.attackerName.rawValue

    /// Bytes with their number before them.
    private func counted(_ body: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        out.appendWireUnsigned(UInt64(body.count))
        return out + body
    }

    /// A record by hand, to follow one that `encodeUpdate` wrote: its name may have any length, its short id any value.
    private func record(
        _ name: [UInt8], version: UInt64 = 9, shortID: UInt64? = nil, connections: [[UInt8]] = []
    ) -> [UInt8] {
        var summary: [UInt8] = [0xff, 130, 1] + counted(name) + [2, 7, 1]
        summary.appendWireUnsigned(version)
        if let shortID {
            summary.append(1)
            summary.appendWireUnsigned(shortID)
            summary += [1, 1]
        }
        var list: [UInt8] = [0xff, 134, 0]
        list.appendWireUnsigned(UInt64(connections.count))
        for connection in connections { list += [1] + counted(connection) + [2, 1, 1, 1, 0] }
        return counted(summary + [0]) + counted(list)
    }

    /// The attacker's own record, by which those he invents are reachable.
    private func own(version: UInt64, links: [UInt64]) -> SampleRecord {
        SampleRecord(
            name: attacker, uid: 77, version: version,
            links: ([testName(1).rawValue] + links).map { ($0, true) }, address: "127.0.0.1:1")
    }

    @Test("names that are not six bytes, or are nobody's, are left out; the rest of the update is taken")
    func names() async throws {
        try await AttackScene.play { scene in
            let attacker = try await scene.attacker()
            let ghost = testName(50)
            let odd: [[UInt8]] = [[], [1], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6, 7], [0, 0, 0, 0, 0, 0]]
            let names = odd + [[UInt8](repeating: 7, count: 8), [UInt8](repeating: 7, count: 3000)]
            var update = encodeUpdate([own(version: 20, links: [ghost.rawValue])])
            for name in names { update += record(name, connections: [testName(1).bytes, name]) }
            update += record(ghost.bytes, connections: names + [AttackScene.attackerName.bytes])
            try await attacker.send(4, gossip("topology", update, from: self.attacker))
            try await scene.isHeard(attacker, "names")
            let peers = await scene.router.status().peers.map(\.name)
            #expect(Set(peers) == Set([1, 2, 3, 50, 99].map { testName($0) }))
            #expect(await scene.router.peer(ghost)?.connections.map(\.name) == [AttackScene.attackerName])
            // Each as a record, as a connection of that record, and as a connection of the ghost.
            #expect(await scene.router.statistics().refusedRecords == names.count * 3)
            try await scene.isForgotten(attacker)
        }
    }

    @Test("short ids beyond twelve bits are none, and those beyond sixteen end the connection")
    func shortIDs() async throws {
        try await AttackScene.play { scene in
            let attacker = try await scene.attacker()
            let claims: [UInt64] = [4095, 4096, 65535]
            let ghosts = claims.indices.map { testName(50 + $0) }
            var update = encodeUpdate([own(version: 20, links: ghosts.map(\.rawValue))])
            for (ghost, claim) in zip(ghosts, claims) { update += record(ghost.bytes, shortID: claim) }
            try await attacker.send(4, gossip("topology", update, from: self.attacker))
            try await scene.isHeard(attacker, "short ids")
            var shown: [UInt16?] = []
            for ghost in ghosts { shown.append(await scene.router.peer(ghost)?.shortID?.rawValue) }
            #expect(shown == [4095, nil, nil])
            // What goes on to others has no such numbers any more: they take it, and stay.
            try await eventually("the others know") { await scene.far.peer(ghosts[2]) != nil }
            let tooLarge = encodeUpdate([own(version: 21, links: [])]) + record(ghosts[0].bytes, shortID: 65536)
            try await attacker.send(4, gossip("topology", tooLarge, from: self.attacker))
            try await scene.isTurnedOut(attacker, "value for \"ShortID\" out of range")
            try await scene.isForgotten(attacker)
        }
    }

    @Test("versions that nobody counts to are not believed of anybody, told or announced", arguments: [false, true])
    func absurdVersions(digests: Bool) async throws {
        try await AttackScene.play { scene in
            let attacker = try await scene.attacker(digests ? MeshCore.announcedFeatures : [:])
            let known = await scene.router.peer(testName(2))
            let versions: [UInt64] = [.max, .max - 1, 1 << 63, PeerTable.absurdVersion]
            for (round, version) in versions.enumerated() {
                for victim in [1, 2, 3] {
                    let name = testName(victim)
                    if digests {
                        let entry = TopologyDigest.Entry(
                            name: name, uid: .max, version: version, hasShortID: false, fingerprint: 0)
                        let data = TopologyDigest.encode(.announcement([entry]))
                        try await attacker.send(4, gossip(TopologyDigest.channel, data, from: self.attacker))
                    }
                    let record = SampleRecord(name: name.rawValue, uid: .max, version: version)
                    let update = encodeUpdate([own(version: UInt64(20 + round), links: []), record])
                    try await attacker.send(4, gossip("topology", update, from: self.attacker))
                }
            }
            try await scene.isHeard(attacker, "versions")
            #expect(await scene.router.statistics().forgedRecords >= 8)
            let after = await scene.router.peer(testName(2))
            #expect(after?.uid == known?.uid)
            #expect(after?.connections.map(\.name) == [testName(1), testName(3)])
            for router in [scene.router, scene.honest, scene.far] {
                for peer in await router.status().peers { #expect(peer.version < 1000, "\(peer.name)") }
            }
            try await scene.isForgotten(attacker)
        }
    }

    /// What an owner has to say about itself comes after what others said in its name.
    @Test(
        "forged records of honest peers are outdone by their owners",
        arguments: zip([1, 2, 3, 2], [true, true, true, false]))
    func forgedRecords(victim: Int, sameUID: Bool) async throws {
        try await AttackScene.play { scene in
            let attacker = try await scene.attacker()
            let name = testName(victim)
            let owner = [scene.router, scene.honest, scene.far][victim - 1]
            let uid = await owner.ownUID
            // It is alone in the world, says the attacker.
            let forged = SampleRecord(name: name.rawValue, uid: sameUID ? uid : 4, version: 5000)
            let update = encodeUpdate([own(version: 20, links: []), forged])
            try await attacker.send(4, gossip("topology", update, from: self.attacker))
            try await scene.isHeard(attacker, "forged")
            for router in [scene.router, scene.honest, scene.far] {
                try await eventually("the truth about \(victim) is back", within: .seconds(20)) {
                    guard let peer = await router.peer(name) else { return false }
                    return peer.version > 5000 && peer.uid == uid
                        && peer.connections.contains { $0.name == testName(victim == 2 ? 1 : 2) }
                }
                try await eventually("routes are back") { await router.routes().unicast.count >= 2 }
            }
            try await scene.isForgotten(attacker)
        }
    }

    @Test("a name in the envelope that is not the sender's does not save him from what his message is")
    func forgedSender() async throws {
        try await AttackScene.play(poison: "poison") { scene in
            let attacker = try await scene.attacker()
            let payload = gossip(AttackScene.channel, Array("poison".utf8), from: testName(2).rawValue)
            try await attacker.send(4, payload)
            try await scene.isTurnedOut(attacker, "poisonous")
            #expect(await scene.router.statistics().relayedErrors == 0)
            try await scene.isForgotten(attacker)
        }
    }

    @Test("with a password: what is sealed is no more trusted, and what is not sealed well ends the connection")
    func sealed() async throws {
        try await AttackScene.play(password: "secret") { scene in
            let truncated = Array(encodeUpdate([SampleRecord(name: 0x20)]).dropLast(5))
            let hugeCount = truncated + [8, 0xff, 134, 0, 0xfc, 4, 0, 0, 0]
            let attacks: [(reason: String, bytes: (Attacker) throws -> [UInt8])] = [
                ("length exceeds input size", { try $0.frame(4, gossip("topology", hugeCount, from: 99)) }),
                (
                    "gob: bad string slice length",
                    { try $0.frame(4, [9, 12, 0, 0xfa, 1, 0, 0, 0, 0, 0]) }
                ),
                ("incoming message exceeds maximum size: 10485761 > 10485760", { _ in [0, 0xa0, 0, 1] }),
                (
                    "Unable to decrypt TCP msg",
                    { attacker in
                        let frame = try attacker.frame(0, [])
                        return frame + frame
                    }
                ),
                ("Unable to decrypt TCP msg", { _ in [0, 0, 0, 3, 1, 2, 3] }),
                ("Unable to decrypt TCP msg", { _ in [0, 0, 0, 0] }),
                (
                    "Unable to decrypt TCP msg",
                    { attacker in
                        var frame = try attacker.frame(4, gossip(AttackScene.channel, [1], from: 99))
                        frame[frame.count - 1] ^= 1
                        return frame
                    }
                ),
            ]
            for (reason, bytes) in attacks {
                let attacker = try await scene.attacker(isKnown: false)
                try? await attacker.write(try bytes(attacker))
                try await scene.isTurnedOut(attacker, reason)
                try await scene.isForgotten(attacker)
            }
        }
    }
}
