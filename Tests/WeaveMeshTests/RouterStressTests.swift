import Foundation
import NIOCore
import NIOPosix
import Testing
import WeaveCore
import WeaveCrypto
import WeaveTestKit

@testable import WeaveMesh

/// A remote that does as it is told: reads and writes raw bytes.
final class Puppet: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer

    /// What arrived, as a machine sees it; confined to the event loop.
    private var machine: ConnectionMachine
    private var outcome = Outcome()
    let received = Locked<(messages: [[UInt8]], bytes: Int)>(([], 0))
    let isClosed = Locked(false)

    private init(name: Int) {
        machine = ConnectionMachine(
            configuration: ConnectionConfiguration(features: goodFeatures(name: testName(name).description)),
            outbound: true, path: "", connectionIDHalf: 5, keyPair: nil, now: .zero)
    }

    /// Connects from `local`. Without `reads`, nothing is read until told.
    static func connect(
        from local: String, to remote: String, port: UInt16, name: Int = 99, reads: Bool
    ) async throws -> (Puppet, any Channel) {
        let puppet = Puppet(name: name)
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.autoRead, value: reads)
            .bind(to: SocketAddress(ipAddress: local, port: 0))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(puppet) }
            }
            .connect(to: SocketAddress(ipAddress: remote, port: Int(port))).get()
        return (puppet, channel)
    }

    /// Says what a peer without a password says first.
    func introduce(_ channel: any Channel, name: Int = 99) async throws {
        let opening = try plainOpening(goodFeatures(name: testName(name).description))
        try await channel.writeAndFlush(ByteBuffer(bytes: opening))
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = unwrapInboundIn(data)
        outcome.take(machine.onBytes(buffer.readableBytesView, now: .zero))
        if outcome.introduction != nil { outcome.take(machine.onAccepted(now: .zero)) }
        let messages = outcome.messages
        outcome.messages = []
        received.change {
            $0.messages += messages
            $0.bytes += buffer.readableBytes
        }
    }

    func channelInactive(context: ChannelHandlerContext) { isClosed.change { $0 = true } }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}

/// Replicated data of some size: the highest number wins.
struct Ballast: ReplicatedData {
    var number: UInt64 = 0
    var size = 0

    init() {}

    init(decoding bytes: [UInt8]) throws {
        var reader = ByteReader(bytes)
        number = reader.readUInt64() ?? 0
        size = reader.remaining
    }

    func encode() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendInteger(number, byteCount: 8)
        return bytes + [UInt8](repeating: 0xaa, count: size)
    }

    mutating func merge(_ other: Ballast) -> Ballast? {
        guard other.number > number else { return nil }
        self = other
        return other
    }
}

@Suite("Routers under load", .timeLimit(.minutes(2)))
struct RouterStressTests {
    @Test("10,000 updates for a neighbour that does not read become a few messages, the last of them the newest")
    func coalescing() async throws {
        try await withTestMesh { mesh in
            let router = await mesh.add(1)
            let ballast = try await router.replicate("ballast", initial: Ballast())
            try await mesh.run(1)
            let (puppet, channel) = try await Puppet.connect(
                from: mesh.address(9), to: mesh.address(1), port: mesh.port, reads: false)
            try await puppet.introduce(channel)
            try await eventually("the puppet is a peer") { await router.isConnectedTo == [testName(99)] }
            var longest = 0
            for number in 1...10_000 {
                await ballast.update {
                    $0.number = UInt64(number)
                    $0.size = 50_000
                }
                longest = max(longest, await router.unwritten)
            }
            // One message more than the limit may be under way, no matter how many updates there were.
            #expect(longest <= RouterLimits().unwrittenBytes + 60_000)
            #expect(await router.hasNoLinks == false)
            try await channel.setOption(.autoRead, value: true).get()
            let newest = [UInt8]([0, 0, 0, 0, 0, 0, 0x27, 0x10])
            try await eventually("the newest state arrives") {
                puppet.received.value.messages.last { $0.count > 50_000 }?.dropLast(50_000).suffix(8).elementsEqual(
                    newest)
                    ?? false
            }
            // What was on its way when the socket filled up, and one message with the rest.
            #expect(puppet.received.value.bytes < 20 << 20)
            try await channel.close()
        }
    }

    @Test("a neighbour that heartbeats but does not read is dropped in time")
    func stalledReader() async throws {
        try await withTestMesh { mesh in
            let log = LogRecorder()
            var configuration = mesh.configuration(1)
            configuration.limits.writeTimeout = .milliseconds(800)
            configuration.logger = log.logger
            let router = await mesh.add(1, configuration)
            let ballast = try await router.replicate("ballast", initial: Ballast())
            try await mesh.run(1)
            let (puppet, channel) = try await Puppet.connect(
                from: mesh.address(9), to: mesh.address(1), port: mesh.port, reads: false)
            try await puppet.introduce(channel)
            try await eventually("the puppet is a peer") { await router.isConnectedTo == [testName(99)] }
            let begin = ContinuousClock.now
            var number: UInt64 = 0
            while await !router.hasNoLinks {
                number += 1
                let next = number
                await ballast.update {
                    $0.number = next
                    $0.size = 500_000
                }
                try? await channel.writeAndFlush(ByteBuffer(bytes: [0, 0, 0, 1, 0]))
                try await Task.sleep(for: .milliseconds(5))
                guard ContinuousClock.now - begin < .seconds(20) else { break }
            }
            #expect(await router.hasNoLinks)
            #expect(ContinuousClock.now - begin > .milliseconds(800))
            #expect(
                log.lines.contains {
                    $0.contains("shutting down due to error: write tcp ") && $0.hasSuffix(": i/o timeout")
                })
            try? await channel.close()
        }
    }

    @Test("silent strangers are few at any time, and do not keep honest peers out")
    func flood() async throws {
        try await withTestMesh { mesh in
            var configuration = mesh.configuration(1)
            configuration.routerLimits.handshakes = 20
            configuration.routerLimits.handshakesPerAddress = 8
            configuration.routerLimits.handshakePatience = .zero
            let router = try await mesh.start(1, configuration)
            var puppets: [(Puppet, any Channel)] = []
            for index in 0..<120 {
                // Most from one address, the others from four more.
                let local = mesh.address(index % 2 == 0 ? 100 : 101 + index % 8 / 2)
                let reads = index % 3 != 0
                puppets.append(
                    try await Puppet.connect(from: local, to: mesh.address(1), port: mesh.port, reads: reads))
                if index % 5 == 0 { try await puppets[index].1.writeAndFlush(ByteBuffer(string: "wea")) }
                let counts = await router.handshakeCounts(IPAddress(mesh.address(100)))
                #expect(counts.total <= 20)
                #expect(counts.address <= 8)
            }
            let honest = try await mesh.start(2)
            _ = await honest.connect(to: [mesh.target(1)])
            try await eventually("the honest peer gets in") { await honest.isConnectedTo == [testName(1)] }
            try await eventually("the dropped ones are closed") {
                // Those that do not read cannot notice.
                puppets.enumerated().count { !$1.0.isClosed.value && $0 % 3 != 0 } <= 20
            }
            for (_, channel) in puppets { try? await channel.close() }
        }
    }

    @Test("a slow handler stops the reading of its connection and nothing else")
    func slowHandler() async throws {
        try await withTestMesh { mesh in
            var configuration = mesh.configuration(1)
            configuration.routerLimits.waitingMessages = 10
            configuration.limits.readTimeout = .seconds(1)
            let router = await mesh.add(1, configuration)
            let handler = RecordingHandler(delay: .milliseconds(2))
            _ = try await router.register("slow", handler)
            try await mesh.run(1)
            let second = await mesh.add(2)
            let sender = try await second.register("slow", RecordingHandler())
            try await mesh.run(2)
            _ = await second.connect(to: [mesh.target(1)])
            try await eventually("connected") { await second.knows(2) }
            var longest = 0
            for number in 0..<600 {
                try await sender.unicast(
                    to: testName(1), [UInt8(number & 255), UInt8(number >> 8)] + Array(repeating: 7, count: 2000))
                longest = max(longest, await router.waiting)
                #expect(await router.status().peers.count == 2)
            }
            try await eventually("all are handled") { await handler.unicasts.count == 600 }
            let numbers = await handler.unicasts.map { Int($0.1[0]) | Int($0.1[1]) << 8 }
            #expect(numbers == Array(0..<600))
            // What one read brought may come on top of the limit.
            #expect(longest < 200)
            #expect(await router.isConnectedTo == [testName(2)])
        }
    }

    @Test("after run returns nothing is left open", arguments: [nil, "secret"])
    func nothingLeft(password: String?) async throws {
        try await withTestMesh { mesh in
            var routers: [MeshRouter] = []
            for index in 1...4 {
                routers.append(try await mesh.start(index, mesh.configuration(index, password: password)))
            }
            for router in routers.dropFirst() { _ = await router.connect(to: [mesh.target(1), mesh.target(9)]) }
            try await eventually("connected") { await routers[0].isConnectedTo.count == 3 }
            await mesh.stopAll()
            for router in routers {
                #expect(await router.hasNoLinks)
                #expect(await router.backgroundTasks.isEmpty)
                #expect(await router.lingering.isEmpty)
                #expect(await !router.isListening)
            }
        }
    }
}

extension MeshRouter {
    var hasNoLinks: Bool { links.isEmpty }
    var unwritten: Int { links.values.map(\.unwritten).max() ?? 0 }
    var waiting: Int { links.values.map(\.waitingMessages).max() ?? 0 }
    func handshakeCounts(_ address: IPAddress?) -> (total: Int, address: Int) {
        (handshakes.count, address.map { handshakes.count(of: $0) } ?? 0)
    }
}
