import Foundation
import Logging
import NIOCore
import NIOPosix
import Testing
import WeaveCore
import WeaveCrypto
import WeaveTestKit

@testable import WeaveMesh

/// Routers of one test, each on a loopback address of its own, and all on one port so that they can find each other.
///
/// Every test picks its network at random and has a port of its own, so tests can run side by side.
actor TestMesh {
    /// The port of the last mesh. Below the range from which the system takes ports for connections: with one of those,
    /// a router that listens on all addresses could find it in use.
    private static let lastPort = Locked(UInt16.random(in: 10_000...30_000))

    let port: UInt16
    private let network: UInt32
    private var runs: [PeerName: Task<Void, any Error>] = [:]
    private(set) var routers: [Int: MeshRouter] = [:]

    init() {
        port = Self.lastPort.change {
            $0 += 1
            return $0
        }
        network = 127 << 24 | UInt32.random(in: 1...254) << 16 | UInt32.random(in: 1...254) << 8
    }

    nonisolated func address(_ index: Int) -> String { "\(IPv4Address(rawValue: network | UInt32(index)))" }

    nonisolated func target(_ index: Int) -> String { "\(address(index)):\(port)" }

    nonisolated func configuration(_ index: Int, password: String? = nil) -> MeshConfiguration {
        var configuration = MeshConfiguration(name: testName(index), nickname: "host\(index)")
        configuration.host = IPAddress(address(index))
        configuration.port = port
        configuration.password = password.flatMap { Password($0) }
        return configuration
    }

    /// A router that does not run yet.
    func add(_ index: Int, _ configuration: MeshConfiguration? = nil) -> MeshRouter {
        let router = MeshRouter(configuration: configuration ?? self.configuration(index))
        routers[index] = router
        return router
    }

    func run(_ index: Int) async throws {
        guard let router = routers[index] else { return }
        let run = Task { try await router.run() }
        runs[testName(index)] = run
        // Until it listens, others could be refused.
        try await eventually("router \(index) listens") {
            if await router.stage == .stopped { try await run.value }
            return await router.isListening
        }
    }

    func start(_ index: Int, _ configuration: MeshConfiguration? = nil) async throws -> MeshRouter {
        let router = add(index, configuration)
        try await run(index)
        return router
    }

    /// Ends a router as a crash would: without a word to the others.
    func stop(_ index: Int) async {
        let run = runs.removeValue(forKey: testName(index))
        run?.cancel()
        _ = await run?.result
        routers[index] = nil
    }

    func stopAll() async {
        for index in routers.keys.sorted() { await stop(index) }
    }
}

func testName(_ index: Int) -> PeerName { PeerName(truncating: 0x0200_0000_0000 | UInt64(index)) }

/// Runs a test with a mesh and stops its routers whatever happens.
func withTestMesh(_ body: (TestMesh) async throws -> Void) async throws {
    let mesh = TestMesh()
    do {
        try await body(mesh)
    } catch {
        await mesh.stopAll()
        throw error
    }
    await mesh.stopAll()
}

extension MeshRouter {
    var isConnectedTo: Set<PeerName> {
        Set(status().connections.filter { $0.state == .established }.compactMap(\.peer))
    }

    func knows(_ count: Int) -> Bool { routes().knownPeers.count == count && routes().unicast.count == count - 1 }

    func lastError(of target: String) -> String? {
        status().connections.first { $0.address == target && $0.peer == nil }?.lastError
    }
}

/// Keeps what it receives.
actor RecordingHandler: GossipHandler {
    private(set) var unicasts: [(PeerName, [UInt8])] = []
    private(set) var broadcasts: [(PeerName, [UInt8])] = []
    private(set) var gossip: [[UInt8]] = []
    private let delay: Duration?
    private let failure: String?

    init(delay: Duration? = nil, failure: String? = nil) {
        self.delay = delay
        self.failure = failure
    }

    private func wait() async throws {
        if let delay { try await Task.sleep(for: delay) }
        if let failure { throw ReplicatedDataError(failure) }
    }

    func onUnicast(from source: PeerName, _ payload: [UInt8]) async throws {
        try await wait()
        unicasts.append((source, payload))
    }

    func onBroadcast(from origin: PeerName, _ payload: [UInt8]) async throws -> (any GossipData)? {
        try await wait()
        broadcasts.append((origin, payload))
        return OpaqueGossip(payload)
    }

    func onGossip(_ payload: [UInt8]) async throws -> (any GossipData)? {
        try await wait()
        gossip.append(payload)
        return nil
    }

    func completeState() async -> (any GossipData)? { nil }
}

/// A value behind a lock.
final class Locked<Value: Sendable>: @unchecked Sendable {
    private let lock = NSLock()
    private var stored: Value

    init(_ value: Value) { stored = value }

    var value: Value { lock.withLock { stored } }
    @discardableResult
    func change<Result>(_ body: (inout Value) throws -> Result) rethrows -> Result {
        try lock.withLock { try body(&stored) }
    }
}
