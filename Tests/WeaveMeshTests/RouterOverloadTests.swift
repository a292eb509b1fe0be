import Foundation
import NIOCore
import NIOPosix
import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveMesh

/// A neighbour that keeps to the protocol and notes when each message came.
private final class Timekeeper: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer

    struct Arrival: Sendable {
        var time: ContinuousClock.Instant
        var tag: UInt8?
    }

    /// Messages, the introduction not among them.
    let arrivals = Locked<[Arrival]>([])
    let isClosed = Locked(false)
    /// Between two reads of 64 KiB.
    private let pause: TimeAmount?
    private var pending = ByteBuffer()
    private var isIntroduced = false

    private init(pause: TimeAmount?) { self.pause = pause }

    static func connect(
        from local: String, to remote: String, port: UInt16, name: PeerName, pause: TimeAmount?
    ) async throws -> (Timekeeper, any Channel) {
        let keeper = Timekeeper(pause: pause)
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.autoRead, value: pause == nil)
            .channelOption(.maxMessagesPerRead, value: 1)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 64 << 10))
            .bind(to: SocketAddress(ipAddress: local, port: 0))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(keeper) }
            }
            .connect(to: SocketAddress(ipAddress: remote, port: Int(port))).get()
        try await channel.writeAndFlush(
            ByteBuffer(bytes: try plainOpening(goodFeatures(name: name.description, uid: "22", connectionID: "9"))))
        return (keeper, channel)
    }

    func channelActive(context: ChannelHandlerContext) { if pause != nil { context.read() } }

    func channelReadComplete(context: ChannelHandlerContext) {
        guard let pause else { return }
        let channel = context.channel
        context.eventLoop.scheduleTask(in: pause) { channel.read() }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        pending.writeBuffer(&bytes)
        if !isIntroduced {
            guard pending.readableBytes > 12,
                let length = pending.getInteger(at: pending.readerIndex + 8, as: UInt32.self),
                pending.readableBytes >= 12 + Int(length)
            else { return }
            pending.moveReaderIndex(forwardBy: 12 + Int(length))
            isIntroduced = true
        }
        let now = ContinuousClock.now
        while let length = pending.getInteger(at: pending.readerIndex, as: UInt32.self),
            pending.readableBytes >= 4 + Int(length)
        {
            pending.moveReaderIndex(forwardBy: 4)
            let tag = pending.readSlice(length: Int(length))?.readableBytesView.first
            arrivals.change { $0.append(Arrival(time: now, tag: tag)) }
        }
        pending.discardReadBytes()
    }

    func channelInactive(context: ChannelHandlerContext) { isClosed.change { $0 = true } }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    /// The longest time without a message between two moments.
    func longestSilence(from begin: ContinuousClock.Instant, to end: ContinuousClock.Instant) -> Duration {
        var last = begin
        var longest = Duration.zero
        for arrival in arrivals.value where arrival.time >= begin && arrival.time <= end {
            longest = max(longest, arrival.time - last)
            last = arrival.time
        }
        return max(longest, end - last)
    }

    func heartbeats(from begin: ContinuousClock.Instant, to end: ContinuousClock.Instant) -> Int {
        arrivals.value.count { $0.tag == 0 && $0.time >= begin && $0.time <= end }
    }
}

/// Takes its time, and keeps nothing.
private struct SlowHandler: GossipHandler {
    func onUnicast(from source: PeerName, _ payload: [UInt8]) async throws {}

    func onBroadcast(from origin: PeerName, _ payload: [UInt8]) async throws -> (any GossipData)? { nil }

    func onGossip(_ payload: [UInt8]) async throws -> (any GossipData)? {
        try await Task.sleep(for: .milliseconds(3))
        return nil
    }

    func completeState() async -> (any GossipData)? { nil }
}

/// One neighbour asks for all that a router can do. The other hears from it as if nothing were.
@Suite("Routers under load of one neighbour", .serialized, .timeLimit(.minutes(2)))
struct RouterOverloadTests {
    enum Load: String, CaseIterable, Sendable {
        case topology, slowHandler, broadcasts, unknownGossip, unknownBroadcasts, manyChannels

        /// Whether what comes is for others too, more than these can read.
        var isPassedOn: Bool { self != .topology && self != .slowHandler }

        func frames(_ round: Int) -> [UInt8] {
            var bytes: [UInt8] = []
            for message in messages(round) { bytes += HostileBytes.frame(message) }
            return bytes
        }

        private func messages(_ round: Int) -> [[UInt8]] {
            let attacker = AttackScene.attackerName
            var load = [UInt8](repeating: UInt8(truncatingIfNeeded: round), count: 64 << 10)
            // No two are the same, or they would merge.
            load.replaceSubrange(0..<4, with: (0..<4).map { UInt8(truncatingIfNeeded: round >> ($0 * 8)) })
            switch self {
            case .topology:
                // 1.9 MB, all of it news.
                let names = (1000..<2500).map { testName($0) }
                let links = names.prefix(60).map { ($0.rawValue, true) }
                let version = UInt64(round + 10)
                let own = SampleRecord(
                    name: attacker.rawValue, uid: 77, version: version,
                    links: ([testName(1)] + names).map { ($0.rawValue, true) })
                let records = names.map { SampleRecord(name: $0.rawValue, uid: 5, version: version, links: links) }
                return [[4] + gossip("topology", encodeUpdate([own] + records), from: attacker.rawValue)]
            case .slowHandler: return [[4] + gossip("slow", load, from: attacker.rawValue)]
            case .broadcasts: return [[6] + gossip(AttackScene.channel, load, from: attacker.rawValue)]
            case .unknownGossip: return [[4] + gossip("other", load, from: attacker.rawValue)]
            case .unknownBroadcasts: return [[6] + gossip("other", load, from: attacker.rawValue)]
            case .manyChannels:
                return (0..<20).map {
                    [4] + gossip("c\(round) \($0)", Array(load.prefix(8000)), from: attacker.rawValue)
                }
            }
        }
    }

    private static let interval = Duration.milliseconds(100)
    private static let time = Duration.seconds(2)
    /// With the usual interval of 30 s it is 60 s that a peer takes for death: what matters is how much later than usual
    /// a message comes. The machine of the test does other things too.
    private static let silence = interval + .milliseconds(900)

    @Test("heartbeats go on, gossip is what is dropped, and it is counted", arguments: Load.allCases)
    func isolation(_ load: Load) async throws {
        try await withTestMesh { mesh in
            var configuration = mesh.configuration(1)
            configuration.discovery = false
            configuration.limits.heartbeatInterval = Self.interval
            let router = await mesh.add(1, configuration)
            _ = try await router.register(AttackScene.channel, WordHandler())
            _ = try await router.register("slow", SlowHandler())
            try await mesh.run(1)
            let (honest, channel) = try await Timekeeper.connect(
                from: mesh.address(8), to: mesh.address(1), port: mesh.port, name: testName(2),
                pause: load.isPassedOn ? .milliseconds(5) : nil)
            let attacker = try await Attacker.connect(
                from: mesh.address(9), to: mesh.address(1), port: mesh.port,
                features: goodFeatures(name: AttackScene.attackerName.description))
            try await eventually("both are peers") { await router.isConnectedTo.count == 2 }
            // They are in the routes of broadcasts by their own word.
            for (name, uid) in [(testName(2), UInt64(22)), (AttackScene.attackerName, 77)] {
                let record = SampleRecord(
                    name: name.rawValue, uid: uid, version: 5, links: [(testName(1).rawValue, true)])
                let update = gossip("topology", encodeUpdate([record]), from: name.rawValue)
                if uid == 77 {
                    try await attacker.send(4, update)
                } else {
                    try await channel.writeAndFlush(ByteBuffer(bytes: HostileBytes.frame([4] + update)))
                }
            }
            try await eventually("heartbeats come") { honest.arrivals.value.contains { $0.tag == 0 } }
            let uid = await router.connectionUID(to: testName(2))

            // Made beforehand where it takes time to make them.
            let prepared = (0..<(load == .topology ? 12 : 0)).map { load.frames($0) }
            let memory = try AttackScene.residentBytes()
            let begin = ContinuousClock.now
            let end = begin + Self.time
            let flooding = Task {
                var round = 0
                while ContinuousClock.now < end, prepared.isEmpty || round < prepared.count {
                    try await attacker.write(prepared.isEmpty ? load.frames(round) : prepared[round])
                    round += 1
                }
            }
            try await Task.sleep(until: end, clock: .continuous)
            let grown = try AttackScene.residentBytes() - memory
            let silence = honest.longestSilence(from: begin, to: end)
            let heartbeats = honest.heartbeats(from: begin, to: end)
            let statistics = await router.statistics()
            print(
                "overload: \(load): silence \(silence), \(heartbeats) heartbeats in \(Self.time), "
                    + "\(statistics.socketBytesReceived >> 10) KiB read, \(statistics.droppedMessages) messages and "
                    + "\(statistics.droppedSurrogates) of unknown channels dropped, grown by \(grown >> 20) MiB")
            #expect(silence < Self.silence)
            // A handler that is behind has a limit of waiting bytes, not of bytes that ever waited.
            #expect(grown < (load == .slowHandler ? AttackScene.growth / 4 : AttackScene.growth))
            switch load {
            case .topology: #expect(statistics.improvedRecords > 3000)
            case .slowHandler: #expect(statistics.deliveries > 50)
            case .broadcasts: #expect(statistics.droppedMessages > 0)
            case .unknownGossip, .unknownBroadcasts, .manyChannels: #expect(statistics.droppedSurrogates > 0)
            }
            // Where there is nothing else to say, all of them.
            if load == .slowHandler { #expect(heartbeats >= 13) }
            flooding.cancel()
            await attacker.close()
            _ = await flooding.result
            // First it reads what waited for it.
            try await eventually("heartbeats come as before", within: .seconds(20)) {
                let now = ContinuousClock.now
                return honest.heartbeats(from: now - .seconds(1), to: now) >= 5
            }
            #expect(await router.connectionUID(to: testName(2)) == uid)
            #expect(!honest.isClosed.value)
            try await channel.close()
        }
    }
}
