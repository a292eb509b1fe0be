import Foundation
import NIOCore
import NIOPosix
import Testing
import WeaveCore
import WeaveCrypto
import WeaveTestKit

@testable import WeaveMesh

/// A peer that introduces itself as well as anybody, and then says what it likes.
final class Attacker: ChannelInboundHandler, Sendable {
    typealias InboundIn = ByteBuffer

    private struct State {
        var machine: ConnectionMachine
        var outcome = Outcome()
        var isIntroduced = false
        var remoteFeatures: [String: String] = [:]
        var isClosed = false
        var failure: String?
        /// Messages that arrived, tags included.
        var messages: [[UInt8]] = []
    }

    private let state: Locked<State>
    /// Says nothing but what it is told to.
    private let isSilent: Bool
    private let socket = Locked<(any Channel)?>(nil)

    private init(features: [Feature], password: String?, isSilent: Bool) {
        self.isSilent = isSilent
        let half = features.first { $0.key == Feature.connectionID }.flatMap { UInt64($0.value) } ?? 0
        state = Locked(
            State(
                machine: ConnectionMachine(
                    configuration: ConnectionConfiguration(
                        password: password.flatMap { Password($0) }, features: features),
                    outbound: true, path: "", connectionIDHalf: half, keyPair: KeyPair(), now: .zero)))
    }

    static func connect(
        from local: String, to remote: String, port: UInt16, features: [Feature], password: String? = nil,
        isSilent: Bool = false
    ) async throws -> Attacker {
        let attacker = Attacker(features: features, password: password, isSilent: isSilent)
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .bind(to: SocketAddress(ipAddress: local, port: 0))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(attacker) }
            }
            .connect(to: SocketAddress(ipAddress: remote, port: Int(port))).get()
        attacker.socket.change { $0 = channel }
        return attacker
    }

    /// Whether the other side has said who it is.
    var isIntroduced: Bool { state.value.isIntroduced }
    var isClosed: Bool { state.value.isClosed }
    /// What the socket told, such as a reset, with which the last words of the other side are lost.
    var failure: String? { state.value.failure }
    var messages: [[UInt8]] { state.value.messages }
    var remoteFeatures: [String: String] { state.value.remoteFeatures }

    /// A message as bytes, sealed when there is a password.
    func frame(_ tag: UInt8, _ payload: [UInt8]) throws -> [UInt8] {
        try state.change { state in try state.machine.encode([tag] + payload) }
    }

    func send(_ tag: UInt8, _ payload: [UInt8]) async throws { try await write(try frame(tag, payload)) }

    /// Writes bytes as they are; returns when the system has taken them.
    func write(_ bytes: [UInt8]) async throws {
        try await socket.value?.writeAndFlush(ByteBuffer(bytes: bytes)).get()
    }

    /// Leaves what comes in the system's buffers.
    func stopReading() async throws { try await socket.value?.setOption(.autoRead, value: false).get() }

    func close() async { try? await socket.value?.close().get() }

    func channelActive(context: ChannelHandlerContext) {
        write(state.change { $0.machine.start() }, context)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = unwrapInboundIn(data).readableBytesView
        let directives = state.change { state in
            var directives = state.machine.onBytes(bytes, now: .zero)
            for case .introduced(let introduction) in directives {
                state.isIntroduced = true
                state.remoteFeatures = introduction.features
                directives += state.machine.onAccepted(now: .zero)
            }
            state.outcome.take(directives)
            state.messages += state.outcome.messages
            state.outcome.messages = []
            return directives
        }
        write(directives, context)
    }

    private func write(_ directives: [ConnectionDirective], _ context: ChannelHandlerContext) {
        for case .write(let bytes) in directives where !isSilent {
            context.writeAndFlush(NIOAny(ByteBuffer(bytes: bytes)), promise: nil)
        }
    }

    func channelInactive(context: ChannelHandlerContext) { state.change { $0.isClosed = true } }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        state.change { $0.failure = "\(error)" }
        context.close(promise: nil)
    }
}

/// Keeps short words, and counts what is longer.
actor WordHandler: GossipHandler {
    private(set) var words: Set<String> = []
    private(set) var others = 0
    /// Refused with an error.
    private let poison: String?

    init(poison: String? = nil) { self.poison = poison }

    private func take(_ payload: [UInt8]) throws {
        guard payload.count < 100 else {
            others += 1
            return
        }
        let word = String(decoding: payload, as: UTF8.self)
        if word == poison { throw ReplicatedDataError("poisonous") }
        words.insert(word)
    }

    func onUnicast(from source: PeerName, _ payload: [UInt8]) throws { try take(payload) }

    func onBroadcast(from origin: PeerName, _ payload: [UInt8]) throws -> (any GossipData)? {
        try take(payload)
        return OpaqueGossip(payload)
    }

    func onGossip(_ payload: [UInt8]) throws -> (any GossipData)? {
        try take(payload)
        return nil
    }

    func completeState() -> (any GossipData)? { nil }
}

/// A router under attack (1) and its honest neighbour (2), who has another behind it (3).
struct AttackScene: Sendable {
    /// What the process may grow by during an attack: far less than any of them sends or claims to.
    static let growth = 64 << 20
    static let channel = "words"
    static let attackerName = testName(99)

    let mesh: TestMesh
    let router: MeshRouter
    let honest: MeshRouter
    let far: MeshRouter
    let log: LogRecorder
    let password: String?
    let channels: [any GossipChannel]
    let handlers: [WordHandler]

    /// Sets the scene, lets `attack` happen, and then looks whether all is well: memory, the honest connection, gossip
    /// both ways, and who is known.
    ///
    /// - Parameters:
    ///   - poison: a word that a handler refuses.
    ///   - poisoned: which router's.
    static func play(
        password: String? = nil, poison: String? = nil, poisoned: Int = 1,
        _ adjust: (inout MeshConfiguration) -> Void = { _ in }, _ attack: (AttackScene) async throws -> Void
    ) async throws {
        try await withTestMesh { mesh in
            let log = LogRecorder()
            var routers: [MeshRouter] = []
            var channels: [any GossipChannel] = []
            let handlers = (1...3).map { WordHandler(poison: $0 == poisoned ? poison : nil) }
            for index in 1...3 {
                var configuration = mesh.configuration(index, password: password)
                configuration.discovery = false
                configuration.routerLimits.strangerLines = .max
                var adjusted = configuration
                adjust(&adjusted)
                // The others are as usual, but do not keep silent longer than the first one suffers.
                configuration.limits.heartbeatInterval = adjusted.limits.heartbeatInterval
                if index == 1 {
                    configuration = adjusted
                    configuration.logger = log.logger
                }
                routers.append(await mesh.add(index, configuration))
                channels.append(try await routers[index - 1].register(channel, handlers[index - 1]))
                try await mesh.run(index)
            }
            let scene = AttackScene(
                mesh: mesh, router: routers[0], honest: routers[1], far: routers[2], log: log, password: password,
                channels: channels, handlers: handlers)
            _ = await scene.honest.connect(to: [mesh.target(1)])
            _ = await scene.far.connect(to: [mesh.target(2)])
            for router in routers { try await eventually("all know all") { await router.knows(3) } }
            let uid = try #require(await scene.router.connectionUID(to: testName(2)))
            try await scene.talk("before")
            let before = try residentBytes()
            try await attack(scene)
            try await scene.talk("after")
            let grown = try residentBytes() - before
            #expect(grown < growth, "grown by \(grown >> 20) MiB")
            print("attack: grown by \(grown >> 20) MiB")
            #expect(await scene.router.connectionUID(to: testName(2)) == uid, "the honest connection is another one")
            #expect(await scene.honest.connectionUID(to: testName(1)) == uid)
        }
    }

    /// The memory of this process that is in use, in bytes.
    static func residentBytes() throws -> Int {
        let text = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
        let pages = try #require(text.split(separator: " ").dropFirst().first.flatMap { Int($0) })
        return pages * 4096
    }

    /// Broadcasts go from every honest peer to every other within seconds.
    func talk(_ word: String) async throws {
        for (index, channel) in channels.enumerated() {
            await channel.broadcast(OpaqueGossip(Array("\(word) \(index + 1)".utf8)))
        }
        for (index, handler) in handlers.enumerated() {
            for other in 1...3 where other != index + 1 {
                try await eventually("\(index + 1) hears \(other) \(word)", within: .seconds(10)) {
                    await handler.words.contains("\(word) \(other)")
                }
            }
        }
    }

    /// Somebody who has introduced himself and was accepted.
    func attacker(_ features: [String: String] = [:], isKnown: Bool = true) async throws -> Attacker {
        let attacker = try await stranger(
            features: goodFeatures(name: Self.attackerName.description, replacing: features))
        try await eventually("the attacker is a peer") { await router.isConnectedTo.contains(Self.attackerName) }
        guard isKnown else { return attacker }
        // Until others know of him, they take those he tells of for unreachable.
        try await eventually("the attacker is known") { await far.peer(Self.attackerName) != nil }
        return attacker
    }

    /// Somebody who introduces himself in any way.
    func stranger(features: [Feature]) async throws -> Attacker {
        try await Attacker.connect(
            from: mesh.address(9), to: mesh.address(1), port: mesh.port, features: features, password: password)
    }

    /// Waits for the connection to be closed in order: nothing the router said last is lost to a reset.
    func isTurnedOut(_ attacker: Attacker, _ reason: String) async throws {
        try await eventually("the attacker is turned out: \(reason)", within: .seconds(20)) { attacker.isClosed }
        #expect(attacker.failure == nil, "\(reason)")
        try await eventually("the log says why: \(reason)", within: .seconds(5)) {
            log.lines.contains { $0.contains(reason) }
        }
    }

    /// Says something behind what was sent, and waits until the router has heard it, and so all before.
    func isHeard(_ attacker: Attacker, _ word: String) async throws {
        try await attacker.send(4, gossip(Self.channel, Array(word.utf8), from: Self.attackerName.rawValue))
        try await eventually("\(word) is heard") { await handlers[0].words.contains(word) }
        #expect(!attacker.isClosed)
    }

    /// The attacker goes, and with him all that he invented.
    func isForgotten(_ attacker: Attacker) async throws {
        await attacker.close()
        for router in [router, honest, far] {
            try await eventually("only honest peers are left", within: .seconds(20)) {
                await Set(router.status().peers.map(\.name)) == [testName(1), testName(2), testName(3)]
            }
        }
    }
}

extension MeshRouter {
    /// The number of the connection to a peer that both ends know it by.
    func connectionUID(to peer: PeerName) -> UInt64? {
        links.values.first { $0.introduction?.name == peer && $0.phase == .accepted }?.introduction?.connectionUID
    }

    /// A peer as this one knows it.
    func peer(_ name: PeerName) -> MeshStatus.Peer? { status().peers.first { $0.name == name } }

    var ownUID: UInt64 { core.configuration.uid }
    var dialsUnderWay: Int { dialling.count }
}
