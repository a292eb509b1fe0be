import Foundation
import NIOCore
import NIOPosix
import Testing
import WeaveCore
import WeaveCrypto
import WeaveTestKit

@testable import WeaveMesh

/// Somebody at the other end of a connection who writes what he likes.
private final class Intruder: ChannelInboundHandler, Sendable {
    typealias InboundIn = ByteBuffer

    let received = Locked(0)
    let isClosed = Locked(false)
    /// A reset instead of an orderly end: the last words of the other side are lost with it.
    let failure = Locked<String?>(nil)

    static func connect(
        from local: String, to remote: String, port: UInt16
    ) async throws -> (intruder: Intruder, channel: any Channel) {
        let intruder = Intruder()
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .bind(to: SocketAddress(ipAddress: local, port: 0))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(intruder) }
            }
            .connect(to: SocketAddress(ipAddress: remote, port: Int(port))).get()
        return (intruder, channel)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let count = unwrapInboundIn(data).readableBytes
        received.change { $0 += count }
    }

    func channelInactive(context: ChannelHandlerContext) { isClosed.change { $0 = true } }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        failure.change { $0 = "\(error)" }
        context.close(promise: nil)
    }
}

/// Bytes that a router must not suffer from, and what it says about them.
struct HostileBytes: Sendable, CustomTestStringConvertible {
    var name: String
    var password: String?
    var bytes: [UInt8]
    /// What the router's log says; nil when the connection stays.
    var reason: String?

    var testDescription: String { name }

    private static let header = Array("weave".utf8) + [1, 2]
    private static let definition: [UInt8] = [
        0x0e, 0xff, 0x81, 0x04, 0x01, 0x02, 0xff, 0x82, 0x00, 0x01, 0x0c, 0x01, 0x0c, 0x00, 0x00,
    ]

    static let beforeIntroduction: [HostileBytes] = [
        HostileBytes(
            name: "features that claim 2^26 entries",
            bytes: header + [0] + frame(definition + [8, 0xff, 0x82, 0, 0xfc, 4, 0, 0, 0]),
            reason: "length exceeds input size"),
        HostileBytes(
            name: "ten megabytes of features",
            bytes: header + [0, 0, 0xa0, 0, 0] + [UInt8](repeating: 1, count: 80_000),
            reason: "incoming message exceeds maximum size: 10485760 > 65536"),
        HostileBytes(
            name: "a frame of four gigabytes", bytes: header + [0, 0xff, 0xff, 0xff, 0xff],
            reason: "incoming message exceeds maximum size: 4294967295"),
        HostileBytes(
            name: "a message of a gigabyte in version 1", bytes: Array("weave".utf8) + [1, 1, 0xfc, 0x40, 0, 0, 0],
            reason: "gob: message of 1073741824 bytes"),
        HostileBytes(
            name: "a public key of low order", password: "secret",
            bytes: header + [1] + [UInt8](repeating: 0, count: 32), reason: "of low order"),
        HostileBytes(name: "a flag that is none", bytes: header + [9], reason: "Bad encryption flag 9"),
        HostileBytes(
            name: "another protocol", bytes: Array("GET / HTTP/1.0\r\n\r\n".utf8), reason: "header not recognised"),
    ]

    static let afterIntroduction: [HostileBytes] = [
        HostileBytes(
            name: "a topology update of 2^26 connections", bytes: message(4, gossip("topology", update(), from: 99)),
            reason: "length exceeds input size"),
        HostileBytes(
            name: "a channel name of 2^40 bytes",
            bytes: message(4, [9, 12, 0, 0xfa, 1, 0, 0, 0, 0, 0]), reason: "gob: bad string slice length"),
        HostileBytes(
            name: "a channel that grows when it is passed on",
            bytes: message(
                6, [106, 12, 0, 103] + [UInt8](repeating: 0xff, count: 103) + [3, 6, 0, 99, 4, 10, 0, 1, 7]),
            reason: "gossip channel name of 103 bytes"),
        HostileBytes(
            name: "a frame of four gigabytes", bytes: [0xff, 0xff, 0xff, 0xff], reason: "incoming message exceeds"),
        HostileBytes(
            name: "overlay control without a body", bytes: message(7, []) + message(7, [1]) + message(1, []),
            reason: nil),
        HostileBytes(name: "unknown tags", bytes: (8...200).flatMap { message($0, [1, 2, 3]) }, reason: nil),
        HostileBytes(
            name: "our own record with the highest version",
            bytes: message(
                4,
                gossip(
                    "topology",
                    encodeUpdate([SampleRecord(name: testName(1).rawValue, uid: 5, version: .max)]), from: 99)),
            reason: nil),
        HostileBytes(
            name: "ten thousand peers that do not exist",
            bytes: (0..<10).flatMap { round in
                let records = (0..<1000).map { index in
                    SampleRecord(
                        name: 0x5000_0000 + UInt64(round * 1000 + index), shortID: index,
                        links: [(testName(99).rawValue, true)])
                }
                let link = SampleRecord(
                    name: testName(99).rawValue, uid: 77, version: UInt64(round + 2),
                    links: records.map { ($0.name, true) })
                return message(4, gossip("topology", encodeUpdate([link] + records), from: 99))
            }, reason: nil),
        HostileBytes(
            name: "a thousand channels that nobody knows",
            bytes: (0..<1000).flatMap { message(4, gossip("c\($0)", [UInt8](repeating: 1, count: 1000), from: 99)) },
            reason: nil),
    ]

    static func frame(_ body: [UInt8]) -> [UInt8] {
        var frame: [UInt8] = []
        frame.appendFrameLength(body.count)
        return frame + body
    }

    private static func message(_ tag: Int, _ payload: [UInt8]) -> [UInt8] { frame([UInt8(tag)] + payload) }

    /// A good update whose last list has a count and nothing behind it.
    private static func update() -> [UInt8] {
        let good = encodeUpdate([SampleRecord(name: 0x20)])
        return Array(good.dropLast(5)) + [8, 0xff, 134, 0, 0xfc, 4, 0, 0, 0]
    }
}

@Suite("Routers among the hostile", .timeLimit(.minutes(2)))
struct RouterHostileTests {
    /// How often each attack comes. What it might leave behind would add up.
    private static let repetitions = 20
    /// What the process may grow by meanwhile: less than one of the attacks once cost.
    private static let growth = 64 << 20

    /// The memory of this process that is in use, in bytes.
    private static func residentBytes() throws -> Int {
        let text = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
        let pages = try #require(text.split(separator: " ").dropFirst().first.flatMap { Int($0) })
        return pages * 4096
    }

    /// Runs attacks on a router that has an honest neighbour, whose connection must stay the same one.
    private func withAttacked(
        _ attack: HostileBytes, _ body: (TestMesh, MeshRouter, LogRecorder) async throws -> Void
    ) async throws {
        try await withTestMesh { mesh in
            let log = LogRecorder()
            var configuration = mesh.configuration(1, password: attack.password)
            configuration.logger = log.logger
            configuration.routerLimits.strangerLines = .max
            let router = try await mesh.start(1, configuration)
            let honest = try await mesh.start(2, mesh.configuration(2, password: attack.password))
            _ = await honest.connect(to: [mesh.target(1)])
            try await eventually("the honest peer is connected") { await router.isConnectedTo == [testName(2)] }
            let uid = await router.honestUID
            let before = try Self.residentBytes()
            try await body(mesh, router, log)
            #expect(try Self.residentBytes() - before < Self.growth)
            #expect(await router.honestUID == uid)
            #expect(await honest.isConnectedTo == [testName(1)])
        }
    }

    @Test(
        "before the introduction: closed in order, with a reason, and at no cost",
        arguments: HostileBytes.beforeIntroduction)
    func stranger(_ attack: HostileBytes) async throws {
        try await withAttacked(attack) { mesh, router, log in
            for _ in 0..<Self.repetitions {
                let (intruder, channel) = try await Intruder.connect(
                    from: mesh.address(9), to: mesh.address(1), port: mesh.port)
                try? await channel.writeAndFlush(ByteBuffer(bytes: attack.bytes))
                try await eventually("the connection is closed") { intruder.isClosed.value }
                #expect(intruder.failure.value == nil)
                // Our side of the introduction came before the end.
                #expect(intruder.received.value >= HandshakeHeader.byteCount)
            }
            let reason = try #require(attack.reason)
            try await eventually("the reasons are in the log") {
                log.lines.count { $0.contains(reason) } >= Self.repetitions
            }
            #expect(await router.status().connections.count == 1)
        }
    }

    @Test("after the introduction: closed with a reason, or passed over", arguments: HostileBytes.afterIntroduction)
    func neighbour(_ attack: HostileBytes) async throws {
        try await withAttacked(attack) { mesh, router, log in
            for round in 0..<(attack.reason == nil ? 2 : Self.repetitions) {
                let (puppet, channel) = try await Puppet.connect(
                    from: mesh.address(9), to: mesh.address(1), port: mesh.port, reads: true)
                try await puppet.introduce(channel)
                try await eventually("the intruder is a peer") { await router.isConnectedTo.contains(testName(99)) }
                try? await channel.writeAndFlush(ByteBuffer(bytes: attack.bytes))
                if let reason = attack.reason {
                    try await eventually("the connection is closed") { puppet.isClosed.value }
                    try await eventually("the reason is in the log") {
                        log.lines.count { $0.contains(reason) } > round
                    }
                } else {
                    // A new channel behind it shows that everything before was processed; it is said again while the log
                    // has had its share of this second.
                    var attempt = 0
                    try await eventually("all of it is read") {
                        let mark = HostileBytes.frame([4] + gossip("mark\(round) \(attempt)", [1], from: 99))
                        try await channel.writeAndFlush(ByteBuffer(bytes: mark))
                        attempt += 1
                        try await Task.sleep(for: .milliseconds(100))
                        return log.lines.contains { $0.contains("mark\(round) ") }
                    }
                    #expect(!puppet.isClosed.value)
                    let peers = await router.status().peers
                    #expect(peers.count <= PeerTable.maximumPeers)
                    let own = try #require(peers.first { $0.name == testName(1) })
                    #expect(own.version < PeerTable.absurdVersion)
                    try await channel.close()
                }
                try await eventually("it is gone") { await !router.isConnectedTo.contains(testName(99)) }
            }
        }
    }

    @Test("a byte at a time does not hold the door open")
    func trickle() async throws {
        try await withTestMesh { mesh in
            var configuration = mesh.configuration(1)
            configuration.limits.headerTimeout = .milliseconds(300)
            configuration.limits.handshakeTimeout = .milliseconds(600)
            let router = try await mesh.start(1, configuration)
            let (intruder, channel) = try await Intruder.connect(
                from: mesh.address(9), to: mesh.address(1), port: mesh.port)
            let slow = Array("weave".utf8) + [1, 2, 0, 0, 0, 1, 0] + [UInt8](repeating: 1, count: 200)
            var written = 0
            for byte in slow where !intruder.isClosed.value {
                written += 1
                try? await channel.writeAndFlush(ByteBuffer(bytes: [byte]))
                try await Task.sleep(for: .milliseconds(20))
            }
            #expect(intruder.isClosed.value)
            #expect(written < slow.count)
            #expect(await router.handshakeCounts(nil).total == 0)
        }
    }
}

extension MeshRouter {
    /// The number of the connection to the honest neighbour.
    fileprivate var honestUID: UInt64? {
        links.values.first { $0.introduction?.name == testName(2) }?.introduction?.connectionUID
    }
}
