import Foundation
import NIOCore
import NIOPosix
import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveMesh

#if canImport(Glibc)
    import Glibc
#endif

/// Running out of descriptors happens to the whole process, so it happens in one of its own.
@Suite("Routers out of descriptors", .timeLimit(.minutes(2)))
struct RouterDescriptorTests {
    @Test("a listener that cannot accept waits and does not spin, keeps what it has, and accepts again later")
    func acceptErrors() async {
        await #expect(processExitsWith: .success) {
            try await withTestMesh { mesh in
                let log = LogRecorder()
                var configuration = mesh.configuration(1)
                configuration.logger = log.logger
                let router = await mesh.add(1, configuration)
                let words = try await router.register("words", WordHandler())
                try await mesh.run(1)
                let honest = await mesh.add(2)
                let handler = WordHandler()
                _ = try await honest.register("words", handler)
                try await mesh.run(2)
                _ = await honest.connect(to: [mesh.target(1)])
                for one in [router, honest] { try await eventually("connected") { await one.knows(2) } }
                let uid = await router.connectionUID(to: testName(2))
                let usual = try Descriptors.limit()
                // All numbers below the limit are taken but three, which strangers want as well as the router.
                try Descriptors.setLimit(Descriptors.highest() + 8)
                var fillers: [Int32] = []
                for _ in 0..<1000 {
                    let filler = dup(0)
                    guard filler >= 0 else { break }
                    fillers.append(filler)
                }
                for filler in fillers.suffix(3) { close(filler) }
                var strangers: [any Channel] = []
                for _ in 0..<8 {
                    let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                        .connectTimeout(.seconds(2))
                    guard
                        let channel = try? await bootstrap.connect(
                            to: SocketAddress(ipAddress: mesh.address(1), port: Int(mesh.port))
                        ).get()
                    else { break }
                    strangers.append(channel)
                }
                #expect(!strangers.isEmpty)
                #expect(dup(0) < 0, "there are descriptors left")
                let before = ProcessorTime.processSeconds()
                try await Task.sleep(for: .seconds(3))
                await words.broadcast(OpaqueGossip(Array("still here".utf8)))
                try await eventually("gossip goes on", within: .seconds(10)) {
                    await handler.words.contains("still here")
                }
                let used = ProcessorTime.processSeconds() - before
                #expect(used < 1, "the listener spins: \(used) s of 3")
                let failures = await router.statistics().acceptsFailed
                #expect((1...6).contains(failures), "\(failures) in 3 s")
                #expect(log.lines.count { $0.contains("accept tcp") && $0.contains("too many open files") } == failures)
                try Descriptors.setLimit(usual)
                let third = try await mesh.start(3)
                _ = await third.connect(to: [mesh.target(1)])
                try await eventually("a newcomer gets in") { await router.isConnectedTo.contains(testName(3)) }
                #expect(await router.connectionUID(to: testName(2)) == uid)
                for stranger in strangers { try? await stranger.close() }
            }
        }
    }
}
