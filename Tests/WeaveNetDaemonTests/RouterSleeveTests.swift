import NetLab
import Testing
import WeaveCore
import WeaveMesh
import WeaveTestKit

@testable import WeaveDatapath
@testable import WeaveNetDaemon

/// What a peer can say to the sleeve over a mesh connection, said by one that means harm: real routers over loopback
/// TCP, with the sleeve as the daemon composes it. Needs root.
@Suite(.serialized, .enabled(if: LabShell.canMakeNamespaces))
struct RouterSleeveTests {
    struct Announcement: Sendable, CustomStringConvertible {
        var features: [String: String]
        var password: String?
        var description: String { "\(features.values.first ?? "nothing")\(password == nil ? "" : ", encrypted")" }
    }

    /// Sleeve without an overlay switch, the one overlay in common, and a list with an overlay that we do not have.
    static let announcements = [
        Announcement(features: [:]), Announcement(features: ["Overlays": "sleeve"], password: "hush hush"),
        Announcement(features: ["Overlays": "fastdp sleeve"]),
    ]

    /// Every tag, with bodies that are too short, for other overlays, of unknown kinds, cut off, and too long; then
    /// well-formed lies: paths that were never probed, of no bytes and of more than there can be.
    static let messages: [(tag: UInt8, payload: [UInt8])] = {
        var payloads: [[UInt8]] = [[]]
        for first in UInt8.min...UInt8.max {
            payloads.append([first])
            for second: UInt8 in [0, 1, 2, 3, 4, 255] {
                payloads += (0...3).map { [first, second] + Array(repeating: first ^ second, count: $0) }
            }
        }
        payloads += [4096, 4098, 4099, 1 << 20].map { Array(repeating: 0, count: $0) }
        payloads += [[0, 0], [255, 255], [0, 3, 0, 0], [0, 3, 255, 255]]
        return [1, 2, 3, 7].flatMap { tag in payloads.map { (tag, $0) } }
    }()

    @Test("no overlay control message hurts the sleeve, its other links or the memory", arguments: announcements)
    func control(_ announced: Announcement) async throws {
        let scene = try await OverlayScene(password: announced.password)
        do {
            try await play(scene, announced)
        } catch {
            await scene.end()
            throw error
        }
        await scene.end()
    }

    private func play(_ scene: OverlayScene, _ announced: Announcement) async throws {
        try await eventually("frames flow") { try scene.pings() }
        let connection = try #require(await scene.honestConnection())
        #expect(connection.overlay?.encrypted == (announced.password != nil))
        let overlay = HostileOverlay(features: announced.features)
        let attacker = try await scene.add(9, overlay: overlay)
        _ = await attacker.router.connect(to: [scene.target(1)])
        try await eventually("the attacker is a peer") { overlay.isConfirmed }

        let outcome = try OverlayNegotiation.choose(
            ours: SleeveOverlay.overlays, remote: OverlayNegotiation.overlays(in: announced.features))
        let unusable = Self.messages.count { tag, payload in
            let envelope = try? OverlayControlEnvelope(tag: tag, payload: payload, for: outcome)
            return envelope.flatMap { try? SleeveControl(tag: $0.tag, body: $0.body) } == nil
        }
        let before = ProcessUsage.current().residentBytes
        for (tag, payload) in Self.messages { overlay.send(tag, payload) }
        // Behind all that, on the same connection: who hears it has read all.
        await attacker.channel.broadcast(OpaqueGossip(Array("done".utf8)))
        let victim = scene.hosts[0]
        try await eventually("the victim has read all") { await victim.words.heard.contains("done") }
        try await eventually("the sleeve has seen all") {
            let statistics = victim.sleeve.statistics
            return statistics[.ignoredControls] + statistics[.lostControls] >= unusable
        }
        #expect(try scene.pings())
        let grown = ProcessUsage.current().residentBytes - before
        let statistics = victim.sleeve.statistics
        print(
            "overlay control (\(announced)): \(Self.messages.count) messages, \(statistics[.ignoredControls]) ignored,",
            "\(statistics[.lostControls]) lost; grown by \(grown >> 20) MiB")
        #expect(grown < 64 << 20)
        let complaints = victim.log.lines.filter { $0.hasPrefix("warning") && $0.contains("control message") }
        #expect(1...16 ~= complaints.count, "\(complaints.count) lines")

        // The attacker is still a peer, as ill-behaved overlays do not end a mesh; the honest connection is as it was.
        let now = try #require(await scene.honestConnection())
        #expect(now.overlay == connection.overlay)
        #expect(await victim.router.status().peers.contains { $0.name == testName(9) })
        #expect(await scene.hosts[1].words.heard.contains("done"))
    }
}
