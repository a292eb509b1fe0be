import Testing
import WeaveCore
import WeaveCrypto
import WeaveTestKit

@testable import WeaveMesh

/// Writes down what it is told and does as the test says.
private final class FakeOverlay: MeshOverlay {
    struct Refusal: Error, CustomStringConvertible { let description: String }

    let calls = Locked<[String]>([])
    let connections = Locked<[OverlayConnection]>([])
    let events = Locked<(any OverlayEvents)?>(nil)
    private let refusal: String?
    private let early: OverlayAttributes?

    /// - Parameter early: said while a connection is prepared, and nothing after it.
    init(refusal: String? = nil, early: OverlayAttributes? = nil) {
        self.refusal = refusal
        self.early = early
    }

    var features: [String: String] { ["Overlays": "sleeve"] }

    func prepare(_ connection: OverlayConnection, events: any OverlayEvents) async throws {
        calls.change { $0.append("prepare") }
        if let refusal { throw Refusal(description: refusal) }
        connections.change { $0.append(connection) }
        self.events.change { $0 = events }
        if let early { events.attributes(connection.id, early) }
    }

    func confirm(_ id: ConnectionID) async {
        calls.change { $0.append("confirm") }
        guard early == nil else { return }
        for number in 0..<50 { events.value?.sendControl(id, tag: 7, payload: [0, 1, UInt8(number)]) }
    }

    func onControl(_ id: ConnectionID, tag: UInt8, payload: [UInt8]) async {
        calls.change { $0.append("control \(tag) \(payload)") }
        if payload == [0, 1, 49] {
            events.value?.attributes(id, OverlayAttributes(name: "sleeve", mtu: 1400, encrypted: true))
            events.value?.established(id)
        }
    }

    func stop(_ id: ConnectionID) async { calls.change { $0.append("stop") } }

    func onRoutes(_ routes: MeshRoutes) async {}

    func onPeerRemoved(_ peer: PeerName) async { calls.change { $0.append("removed \(peer)") } }
}

@Suite("Routers with an overlay", .timeLimit(.minutes(1)))
struct RouterOverlayTests {
    private func start(
        _ mesh: TestMesh, _ index: Int, _ overlay: FakeOverlay, trusted: [String] = [], password: String? = "secret"
    ) async throws -> (MeshRouter, Task<Void, any Error>) {
        var configuration = mesh.configuration(index, password: password)
        configuration.trustedSubnets = trusted.compactMap { IPv4CIDR($0) }
        let router = MeshRouter(configuration: configuration, overlay: overlay)
        let run = Task { try await router.run() }
        try await eventually("listening") { await router.isListening }
        return (router, run)
    }

    @Test("an overlay is prepared, confirmed, told its messages in order, and stopped; it establishes the connection")
    func lifeCycle() async throws {
        try await withTestMesh { mesh in
            let overlays = [FakeOverlay(), FakeOverlay()]
            let (first, firstRun) = try await start(mesh, 1, overlays[0])
            let (second, secondRun) = try await start(mesh, 2, overlays[1])
            _ = await second.connect(to: [mesh.target(1)])
            try await eventually("established by the overlays") {
                let one = await first.isConnectedTo
                let two = await second.isConnectedTo
                return one == [testName(2)] && two == [testName(1)]
            }
            let status = await second.status().connections.first
            #expect(status?.overlay == OverlayAttributes(name: "sleeve", mtu: 1400, encrypted: true))
            let left = try #require(overlays[0].connections.value.first)
            let right = try #require(overlays[1].connections.value.first)
            #expect(left.uid == right.uid)
            #expect(left.sessionKey == right.sessionKey)
            #expect(left.sessionKey != nil)
            #expect([left.outbound, right.outbound] == [false, true])
            #expect(left.remoteFeatures["Overlays"] == "sleeve")
            #expect(left.remoteNickname == "host2")
            secondRun.cancel()
            _ = await secondRun.result
            try await eventually("stopped") {
                overlays[0].calls.value.contains("stop")
                    && overlays[0].calls.value.contains("removed \(testName(2))")
            }
            firstRun.cancel()
            _ = await firstRun.result
            let controls = (0..<50).map { "control 7 [0, 1, \($0)]" }
            for overlay in overlays {
                let calls = overlay.calls.value.filter { !$0.hasPrefix("removed") }
                #expect(calls == ["prepare", "confirm"] + controls + ["stop"])
            }
        }
    }

    @Test("frames go unsealed only when both ends trust each other's address", arguments: [0, 1, 2])
    func trust(ends: Int) async throws {
        try await withTestMesh { mesh in
            let overlays = [FakeOverlay(), FakeOverlay()]
            let (_, firstRun) = try await start(mesh, 1, overlays[0], trusted: ends > 0 ? ["127.0.0.0/8"] : [])
            let (second, secondRun) = try await start(mesh, 2, overlays[1], trusted: ends > 1 ? ["127.0.0.0/8"] : [])
            _ = await second.connect(to: [mesh.target(1)])
            try await eventually("connected") { overlays.allSatisfy { !$0.connections.value.isEmpty } }
            for overlay in overlays {
                #expect((overlay.connections.value.first?.sessionKey == nil) == (ends == 2))
            }
            for run in [firstRun, secondRun] {
                run.cancel()
                _ = await run.result
            }
        }
    }

    @Test("an overlay that refuses a connection ends it with its words")
    func refusal() async throws {
        try await withTestMesh { mesh in
            let (_, firstRun) = try await start(mesh, 1, FakeOverlay())
            let (second, secondRun) = try await start(mesh, 2, FakeOverlay(refusal: "no overlays in common with peer"))
            _ = await second.connect(to: [mesh.target(1)])
            try await eventually("the reason is shown") {
                await second.lastError(of: mesh.target(1)) == "no overlays in common with peer"
            }
            for run in [firstRun, secondRun] {
                run.cancel()
                _ = await run.result
            }
        }
    }

    @Test("what an overlay says while it prepares is shown, although nothing follows")
    func earlyAttributes() async throws {
        try await withTestMesh { mesh in
            let early = OverlayAttributes(name: "sleeve", mtu: 65535, encrypted: false)
            let (first, firstRun) = try await start(mesh, 1, FakeOverlay(early: early))
            let (second, secondRun) = try await start(mesh, 2, FakeOverlay(early: early))
            _ = await second.connect(to: [mesh.target(1)])
            for router in [first, second] {
                try await eventually("shown") {
                    await router.status().connections.first { $0.state == .pending }?.overlay == early
                }
            }
            for run in [firstRun, secondRun] {
                run.cancel()
                _ = await run.result
            }
        }
    }

    @Test("an overlay that gives up ends the connection with its reason")
    func failure() async throws {
        try await withTestMesh { mesh in
            let overlay = FakeOverlay()
            let (_, firstRun) = try await start(mesh, 1, FakeOverlay())
            let (second, secondRun) = try await start(mesh, 2, overlay)
            _ = await second.connect(to: [mesh.target(1)])
            try await eventually("connected") { await second.isConnectedTo == [testName(1)] }
            let id = try #require(overlay.connections.value.first?.id)
            overlay.events.value?.failed(id, reason: "no working forwarders to \(testName(1))(host1)")
            try await eventually("the reason is shown") {
                await second.status().terminationCount > 0
            }
            try await eventually("the overlay is told") { overlay.calls.value.contains("stop") }
            for run in [firstRun, secondRun] {
                run.cancel()
                _ = await run.result
            }
        }
    }
}
