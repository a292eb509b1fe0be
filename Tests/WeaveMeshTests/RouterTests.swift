import Foundation
import Logging
import Testing
import WeaveCore
import WeaveCrypto
import WeaveTestKit

@testable import WeaveMesh

@Suite("Routers over TCP", .timeLimit(.minutes(2)))
struct RouterTests {
    @Test("two routers connect and see each other", arguments: [nil, "a password"])
    func pair(password: String?) async throws {
        try await withTestMesh { mesh in
            let first = try await mesh.start(1, mesh.configuration(1, password: password))
            let second = try await mesh.start(2, mesh.configuration(2, password: password))
            #expect(await second.connect(to: [mesh.address(1)]).isEmpty)
            try await eventually("both are established") {
                let one = await first.isConnectedTo
                let two = await second.isConnectedTo
                return one == [testName(2)] && two == [testName(1)]
            }
            try await eventually("both have routes") {
                let one = await first.knows(2)
                return await second.knows(2) && one
            }
            let status = await second.status()
            #expect(status.targets == [mesh.address(1)])
            #expect(status.encryption == (password != nil))
            #expect(status.peers.map(\.nickname) == ["host1", "host2"])
            #expect(status.connections.map(\.address) == [mesh.target(1)])
            #expect(status.connections.map(\.outbound) == [true])
        }
    }

    @Test("three in a row: gossip, broadcasts and messages reach the ends through the middle")
    func row() async throws {
        try await withTestMesh { mesh in
            var handlers: [Int: RecordingHandler] = [:]
            var channels: [Int: any GossipChannel] = [:]
            for index in 1...3 {
                var configuration = mesh.configuration(index, password: "secret")
                configuration.discovery = false
                let router = await mesh.add(index, configuration)
                // The middle one does not know the channel: it carries it all the same.
                guard index != 2 else { continue }
                let handler = RecordingHandler()
                handlers[index] = handler
                channels[index] = try await router.register("words", handler)
            }
            for index in 1...3 { try await mesh.run(index) }
            let middle = try #require(await mesh.routers[2])
            _ = await middle.connect(to: [mesh.target(1), mesh.target(3)])
            for index in 1...3 {
                let router = try #require(await mesh.routers[index])
                try await eventually("router \(index) knows three") { await router.knows(3) }
            }
            let first = try #require(channels[1])
            let last = try #require(handlers[3])
            try await first.unicast(to: testName(3), Array("to you".utf8))
            await first.broadcast(OpaqueGossip(Array("to all".utf8)))
            await first.gossipToNeighbours(OpaqueGossip(Array("to some".utf8)))
            try await eventually("all three arrive") {
                let unicasts = await last.unicasts
                let broadcasts = await last.broadcasts
                let gossip = await last.gossip
                return unicasts.count == 1 && broadcasts.count == 1 && gossip.count == 1
            }
            #expect(await last.unicasts.first?.0 == testName(1))
            #expect(await last.unicasts.first?.1 == Array("to you".utf8))
            #expect(await last.broadcasts.first?.0 == testName(1))
            #expect(await last.broadcasts.first?.1 == Array("to all".utf8))
            #expect(await last.gossip == [Array("to some".utf8)])
            await #expect(throws: GossipError.self) { try await first.unicast(to: testName(9), [1]) }
        }
    }

    @Test("peers find each other through the one they know")
    func discovery() async throws {
        try await withTestMesh { mesh in
            for index in 1...5 { _ = try await mesh.start(index, mesh.configuration(index, password: "p")) }
            for index in 2...5 { _ = await mesh.routers[index]?.connect(to: [mesh.target(1)]) }
            for index in 1...5 {
                let router = try #require(await mesh.routers[index])
                try await eventually("router \(index) is connected to all") { await router.isConnectedTo.count == 4 }
            }
        }
    }

    @Test("different passwords: the reason is shown at the dialler, and the other logs it")
    func wrongPassword() async throws {
        try await withTestMesh { mesh in
            let log = LogRecorder()
            var configuration = mesh.configuration(1, password: "one")
            configuration.logger = log.logger
            _ = try await mesh.start(1, configuration)
            let second = try await mesh.start(2, mesh.configuration(2, password: "other"))
            _ = await second.connect(to: [mesh.target(1)])
            try await eventually("the dialler knows why") {
                await second.lastError(of: mesh.target(1)) == "Unable to decrypt TCP msg"
            }
            try await eventually("the acceptor logs why") {
                log.lines.contains {
                    $0.contains("->[\(mesh.address(2)):")
                        && $0.hasSuffix(
                            "] connection shutting down due to error during handshake: Unable to decrypt TCP msg")
                }
            }
            #expect(await second.status().connections.first?.state == .failed)
        }
    }

    @Test("a password on one side only is told as such on both", arguments: [true, false])
    func oneSidedPassword(here: Bool) async throws {
        try await withTestMesh { mesh in
            let log = LogRecorder()
            var configuration = mesh.configuration(1, password: here ? nil : "secret")
            configuration.logger = log.logger
            _ = try await mesh.start(1, configuration)
            let second = try await mesh.start(2, mesh.configuration(2, password: here ? "secret" : nil))
            _ = await second.connect(to: [mesh.target(1)])
            let texts = [
                "password specified, but peer requested an unencrypted connection",
                "no password specificed, but peer requested an encrypted connection",
            ]
            try await eventually("the dialler knows why") {
                await second.lastError(of: mesh.target(1)) == texts[here ? 0 : 1]
            }
            try await eventually("the acceptor knows why") {
                log.lines.contains { $0.hasSuffix(texts[here ? 1 : 0]) }
            }
        }
    }

    @Test("a router that dials itself says so and does not try again")
    func selfConnection() async throws {
        try await withTestMesh { mesh in
            let router = try await mesh.start(1)
            _ = await router.connect(to: [mesh.target(1)])
            try await eventually("it notices") {
                await router.lastError(of: mesh.target(1)) == "cannot connect to ourself"
            }
            #expect(await router.status().connections.first?.neverRetry == true)
        }
    }

    @Test("two peers with one name say so and do not try again")
    func nameCollision() async throws {
        try await withTestMesh { mesh in
            _ = try await mesh.start(1)
            var configuration = mesh.configuration(2)
            configuration.name = testName(1)
            let second = try await mesh.start(2, configuration)
            _ = await second.connect(to: [mesh.target(1)])
            let name = testName(1)
            try await eventually("the dialler notices") {
                await second.lastError(of: mesh.target(1))
                    == "local \"\(name)(host2)\" and remote \"\(name)(host1)\" peer names collision"
            }
            #expect(await second.status().connections.first?.neverRetry == true)
        }
    }

    @Test("nobody at home: the words of a refused connection")
    func refused() async throws {
        try await withTestMesh { mesh in
            let router = try await mesh.start(1)
            let target = mesh.target(9)
            let errors = await router.connect(to: [target, ":80", "no.such.host.invalid"])
            #expect(errors.contains { $0.message == "invalid peer name \":80\", should be host[:port]" })
            #expect(errors.contains { $0.target == "no.such.host.invalid" && $0.message.hasPrefix("lookup ") })
            try await eventually("it fails") {
                await router.lastError(of: target)
                    == "dial tcp \(mesh.address(1)):0->\(target): connect: connection refused"
            }
            await router.forget([target])
            try await eventually("it is forgotten") { await router.lastError(of: target) == nil }
        }
    }

    @Test("when both dial at the same moment, one connection survives, the same at both ends")
    func simultaneous() async throws {
        for trial in 0..<30 {
            try await withTestMesh { mesh in
                let first = try await mesh.start(1)
                let second = try await mesh.start(2)
                async let one = first.connect(to: [mesh.target(2)])
                async let other = second.connect(to: [mesh.target(1)])
                _ = await (one, other)
                // Connected means nothing yet while another dial is under way that may win.
                var uid: [UInt64] = []
                var agreements = 0
                try await eventually("trial \(trial): both keep the same one") {
                    let left = await first.settledUIDs
                    let right = await second.settledUIDs
                    agreements = left.count == 1 && left == right && left == uid ? agreements + 1 : 0
                    uid = left
                    return agreements == 10
                }
            }
        }
    }

    @Test("a peer that comes back is found again, as another incarnation")
    func restart() async throws {
        try await withTestMesh { mesh in
            let log = LogRecorder()
            var configuration = mesh.configuration(1)
            configuration.logger = log.logger
            let first = try await mesh.start(1, configuration)
            let second = try await mesh.start(2)
            _ = await second.connect(to: [mesh.target(1)])
            try await eventually("connected") { await first.isConnectedTo == [testName(2)] }
            await mesh.stop(2)
            try await eventually("gone") { await first.isConnectedTo.isEmpty }
            let again = try await mesh.start(2)
            _ = await again.connect(to: [mesh.target(1)])
            try await eventually("back") {
                let one = await first.isConnectedTo
                let two = await again.isConnectedTo
                return one == [testName(2)] && two == [testName(1)]
            }
            try await eventually("routes are back") { await first.knows(2) }
            let uid = await again.status().peers.first { $0.name == testName(2) }?.uid
            try await eventually("the new incarnation is known") {
                await first.status().peers.first { $0.name == testName(2) }?.uid == uid
            }
        }
    }

    @Test("a counter that three peers raise has the same value everywhere")
    func replicas() async throws {
        try await withTestMesh { mesh in
            var counters: [Replica<GrowOnlyCounter>] = []
            for index in 1...3 {
                let router = await mesh.add(index)
                counters.append(try await router.replicate("likes", initial: GrowOnlyCounter()))
                try await mesh.run(index)
            }
            for index in 2...3 { _ = await mesh.routers[index]?.connect(to: [mesh.target(1)]) }
            for (index, counter) in counters.enumerated() {
                let name = testName(index + 1)
                for _ in 0..<10 { await counter.update { $0.increment(by: UInt64(index + 1), at: name) } }
            }
            for counter in counters {
                try await eventually("60 everywhere") { await counter.value.value == 60 }
            }
        }
    }

    @Test("a handler that refuses a message of its neighbour ends the connection, with its words as the reason")
    func handlerError() async throws {
        try await withTestMesh { mesh in
            let first = await mesh.add(1)
            let sender = try await first.register("data", RecordingHandler())
            let second = await mesh.add(2)
            _ = try await second.register("data", RecordingHandler(failure: "that is not right"))
            try await mesh.run(1)
            try await mesh.run(2)
            _ = await second.connect(to: [mesh.target(1)])
            try await eventually("connected") { await first.knows(2) }
            await sender.gossipToNeighbours(OpaqueGossip([1, 2, 3]))
            try await eventually("the reason is shown") {
                await second.lastError(of: mesh.target(1)) == "that is not right"
            }
        }
    }

    @Test("a channel has one handler")
    func duplicateChannel() async throws {
        try await withTestMesh { mesh in
            let router = await mesh.add(1)
            _ = try await router.register("one", RecordingHandler())
            await #expect(throws: GossipError.self) { try await router.register("one", RecordingHandler()) }
        }
    }

    @Test("an address that is taken is told, and the router is over")
    func addressTaken() async throws {
        try await withTestMesh { mesh in
            _ = try await mesh.start(1)
            let second = MeshRouter(configuration: mesh.configuration(1))
            await #expect {
                try await second.run()
            } throws: {
                ($0 as? MeshError)?.message == "listen tcp \(mesh.target(1)): bind: address already in use"
            }
            await #expect(throws: MeshError.self) { try await second.run() }
        }
    }

    @Test("without an address of its own a router listens on both families, and IPv6 literals can be dialled")
    func bothFamilies() async throws {
        try await withTestMesh { mesh in
            var configuration = mesh.configuration(1)
            configuration.host = nil
            let first = try await mesh.start(1, configuration)
            // The first one has this port on all addresses.
            var other = mesh.configuration(2)
            other.port += 1
            other.discovery = false
            let second = try await mesh.start(2, other)
            var third = mesh.configuration(3)
            third.port += 1
            _ = await second.connect(to: ["127.0.0.1:\(mesh.port)"])
            try await eventually("over IPv4") { await first.isConnectedTo.contains(testName(2)) }
            #expect(await first.status().connections.allSatisfy { !$0.address.contains("ffff") })
            guard FileManager.default.fileExists(atPath: "/proc/net/if_inet6"),
                (try? String(contentsOfFile: "/proc/net/if_inet6", encoding: .utf8).contains(" lo")) == true
            else { return print("skipped the IPv6 half: no ::1 on this machine") }
            let router = try await mesh.start(3, third)
            _ = await router.connect(to: ["[::1]:\(mesh.port)"])
            try await eventually("over IPv6") { await first.isConnectedTo.contains(testName(3)) }
        }
    }
}

extension MeshRouter {
    /// The numbers of the connections that are kept; none while any is still being made.
    var settledUIDs: [UInt64] {
        guard dialling.isEmpty, links.values.allSatisfy({ $0.phase == .accepted }) else { return [] }
        return links.values.compactMap { $0.introduction?.connectionUID }
    }
}
