import Glibc
import Logging
import NetLab
import Synchronization
import Testing
import WeaveCore
import WeaveCrypto
import WeaveMesh
import WeaveNetlink
import WeaveTestKit

@testable import WeaveDatapath
@testable import WeaveNetDaemon

func testName(_ index: Int) -> PeerName { PeerName(truncating: 0x0200_0000_0000 | UInt64(index)) }

/// Two honest hosts (1 and 2): mesh and sleeve on addresses of loopback, each with a TAP device in a namespace of its
/// own; and whoever joins them.
final class OverlayScene: Sendable {
    struct Host: Sendable {
        let router: MeshRouter
        let sleeve: SleeveOverlay
        let words: WordKeeper
        let log: LogRecorder
    }

    private static let serial = Atomic<UInt16>(0)

    let hosts: [Host]
    private let namespaces: [String]
    private let network: UInt32
    private let port: UInt16
    private let password: String?
    private let runs = Mutex<[Task<Void, any Error>]>([])

    init(password: String?) async throws {
        let number = Self.serial.wrappingAdd(1, ordering: .relaxed).newValue
        let namespaces = (1...2).map { "wo\(getpid())x\(number)h\($0)" }
        let network: UInt32 = 127 << 24 | .random(in: 1...254) << 16 | .random(in: 1...254) << 8
        let port = UInt16.random(in: 10_000...30_000)
        self.namespaces = namespaces
        self.network = network
        self.port = port
        self.password = password
        var hosts: [Host] = []
        do {
            for (index, namespace) in namespaces.enumerated() {
                let log = LogRecorder()
                let device = try Self.makeDevice(namespace, number: index + 1)
                let address = IPv4Address(rawValue: network | UInt32(index + 1))
                let sleeve = try SleeveOverlay(
                    configuration: SleeveConfiguration(
                        ourself: testName(index + 1), port: port, host: address, device: .descriptor(device)),
                    logger: log.logger)
                let configuration = Self.configuration(index + 1, network, port, password, log.logger)
                let router = MeshRouter(configuration: configuration, overlay: SleeveAdapter(sleeve: sleeve))
                let words = WordKeeper()
                _ = try await router.register("words", words)
                hosts.append(Host(router: router, sleeve: sleeve, words: words, log: log))
            }
        } catch {
            for host in hosts { host.sleeve.shutdown() }
            Self.remove(namespaces)
            throw error
        }
        self.hosts = hosts
        for host in hosts { run(host.router) }
        _ = await hosts[1].router.connect(to: [target(1)])
    }

    func target(_ index: Int) -> String { "\(IPv4Address(rawValue: network | UInt32(index))):\(port)" }

    /// A router of somebody else.
    func add(_ index: Int, overlay: any MeshOverlay) async throws -> (router: MeshRouter, channel: any GossipChannel) {
        let configuration = Self.configuration(index, network, port, password, nil)
        let router = MeshRouter(configuration: configuration, overlay: overlay)
        let channel = try await router.register("words", WordKeeper())
        run(router)
        return (router, channel)
    }

    /// Whether a frame goes from host 1 to host 2 and back.
    func pings() throws -> Bool {
        try LabShell.outcome([
            "ip", "netns", "exec", namespaces[0], "ping", "-c", "1", "-W", "1", "10.41.0.2",
        ]).status == 0
    }

    /// What host 1 says of its connection to host 2, once frames flow.
    func honestConnection() async -> MeshStatus.Connection? {
        await hosts[0].router.status().connections.first { $0.peer == testName(2) && $0.state == .established }
    }

    func end() async {
        let runs = runs.withLock { $0 }
        for run in runs { run.cancel() }
        for run in runs { _ = await run.result }
        for host in hosts { host.sleeve.shutdown() }
        Self.remove(namespaces)
    }

    private func run(_ router: MeshRouter) {
        let run = Task { try await router.run() }
        runs.withLock { $0.append(run) }
    }

    private static func configuration(
        _ index: Int, _ network: UInt32, _ port: UInt16, _ password: String?, _ logger: Logger?
    ) -> MeshConfiguration {
        var configuration = MeshConfiguration(name: testName(index), nickname: "host\(index)", logger: logger)
        configuration.host = .v4(IPv4Address(rawValue: network | UInt32(index)))
        configuration.port = port
        configuration.password = password.flatMap { Password($0) }
        configuration.discovery = false
        return configuration
    }

    /// A TAP device that is up, with an address, in a new namespace.
    private static func makeDevice(_ namespace: String, number: Int) throws -> Int32 {
        try LabShell.run("ip", "netns", "add", namespace)
        let device = try NetworkNamespace(named: namespace).run {
            let opened = try TAPDevice(name: "weavetap", queues: 1, useHeader: true)
            return try #require(opened.descriptors.first.map { dup($0) })
        }
        let ip = ["ip", "-n", namespace]
        try LabShell.run(ip + ["link", "set", "weavetap", "mtu", "1376", "up"])
        try LabShell.run(ip + ["address", "add", "10.41.0.\(number)/24", "dev", "weavetap"])
        return device
    }

    private static func remove(_ namespaces: [String]) {
        for namespace in namespaces { _ = try? LabShell.run("ip", "netns", "delete", namespace) }
    }
}

/// Says over a connection what it is told to, and carries nothing.
final class HostileOverlay: MeshOverlay {
    private struct State {
        var id: ConnectionID?
        var events: (any OverlayEvents)?
        var isConfirmed = false
    }

    let features: [String: String]
    private let state = Mutex(State())

    init(features: [String: String]) { self.features = features }

    var isConfirmed: Bool { state.withLock { $0.isConfirmed } }

    func send(_ tag: UInt8, _ payload: [UInt8]) {
        let (id, events) = state.withLock { ($0.id, $0.events) }
        if let id { events?.sendControl(id, tag: tag, payload: payload) }
    }

    func prepare(_ connection: OverlayConnection, events: any OverlayEvents) async throws {
        state.withLock { $0 = State(id: connection.id, events: events) }
    }

    func confirm(_ id: ConnectionID) async {
        let events = state.withLock { state in
            state.isConfirmed = true
            return state.events
        }
        events?.established(id)
    }

    func onControl(_ id: ConnectionID, tag: UInt8, payload: [UInt8]) async {}
    func stop(_ id: ConnectionID) async {}
    func onRoutes(_ routes: MeshRoutes) async {}
    func onPeerRemoved(_ peer: PeerName) async {}
}

/// Keeps the words that are broadcast.
actor WordKeeper: GossipHandler {
    private(set) var heard: Set<String> = []

    func onUnicast(from source: PeerName, _ payload: [UInt8]) {}
    func onBroadcast(from origin: PeerName, _ payload: [UInt8]) -> (any GossipData)? {
        heard.insert(String(decoding: payload, as: UTF8.self))
        return OpaqueGossip(payload)
    }
    func onGossip(_ payload: [UInt8]) -> (any GossipData)? { nil }
    func completeState() -> (any GossipData)? { nil }
}
