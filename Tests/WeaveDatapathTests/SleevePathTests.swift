import Testing
import WeaveCore
import WeaveDatapath

@Suite("Sleeve over a path")
struct SleevePathTests {
    @Test("a clean path is established and measured within a few round trips", arguments: [false, true])
    func clean(encrypted: Bool) throws {
        var path = SleevePath(seed: 1, encrypted: encrypted, .init(latency: .milliseconds(5)))
        path.run(for: .milliseconds(400))
        for node in path.nodes {
            #expect(try #require(node.establishedAt) < .zero + .milliseconds(120))
            #expect(node.link.parameters.mtu == (encrypted ? 1414 : 1438))
            #expect(node.link.parameters.maximumPayload == 1472)
            #expect(node.link.parameters.stackFragments)
            #expect(node.logs == ["Effective MTU verified at \(encrypted ? 1414 : 1438)"])
            // Heartbeats, a fragmentation test, the discovery and a few probes: no burst on a path that is well.
            #expect(node.specialsSent < 12)
        }
        let sent = path.nodes.map(\.specialsSent)
        path.run(for: .seconds(100))
        // Every ten seconds a heartbeat and a check of the MTU, and nothing else.
        for (before, node) in zip(sent, path.nodes) { #expect(node.specialsSent - before <= 22) }
    }

    @Test("lost packets delay a link and do not stop it", arguments: 0..<25)
    func lossy(_ seed: UInt64) throws {
        var path = SleevePath(seed: seed)
        path.conditions.loss = 0.3
        path.run(for: .seconds(30))
        for node in path.nodes {
            #expect(try #require(node.establishedAt) < .zero + .seconds(10))
            #expect(node.failure == nil)
        }
        // Once the loss is over all is well: a test of 41 fragments did not get through before.
        path.conditions.loss = 0
        path.run(for: .seconds(700))
        #expect(path.parameters.map(\.mtu) == [1438, 1438])
        #expect(path.parameters.map(\.stackFragments) == [true, true])
    }

    @Test("a path that swallows large packets is measured within seconds", arguments: 0..<20)
    func blackHole(_ seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let limit = seed == 0 ? 700 : Int.random(in: 620..<1500, using: &random)
        var path = SleevePath(seed: seed, encrypted: seed % 2 == 1)
        path.conditions.silentMTU = limit
        path.conditions.carriesFragments = false
        let expected = limit - SleeveLayout.overhead(encrypted: seed % 2 == 1)
        path.run(for: .seconds(10))
        for node in path.nodes {
            #expect(node.link.parameters.mtu == expected, "limit \(limit)")
            #expect(!node.link.parameters.stackFragments)
            // 2.8.1 needs 18 s for the first of these.
            #expect(node.mtus.last.map { $0.at < .zero + .seconds(6) } == true, "limit \(limit)")
        }
    }

    @Test("a path that takes less than the floor is measured too")
    func belowFloor() {
        var path = SleevePath(seed: 3)
        path.conditions.silentMTU = 500
        path.run(for: .seconds(12))
        #expect(path.parameters.map(\.mtu) == [438, 438])
    }

    @Test("a black hole with loss never leaves an MTU above what the path takes", arguments: 0..<15)
    func lossyBlackHole(_ seed: UInt64) {
        var path = SleevePath(seed: seed)
        path.conditions.silentMTU = 1300
        path.conditions.loss = 0.05
        path.run(for: .seconds(30))
        for parameters in path.parameters {
            #expect(parameters.mtu <= 1238)
            #expect(parameters.mtu > 900)
        }
        // What loss had made too small grows again.
        path.conditions.loss = 0
        path.run(for: .seconds(1300))
        #expect(path.parameters.map(\.mtu) == [1238, 1238])
    }

    @Test("what the kernel says later lowers the MTU at once")
    func lowered() {
        var path = SleevePath(seed: 4)
        path.run(for: .seconds(2))
        path.conditions.kernelMTU = 1400
        path.sendData(1500, from: 0)
        path.run(for: .milliseconds(1))
        #expect(path.parameters[0].mtu == 1338)
        path.run(for: .seconds(1))
        #expect(path.parameters.map(\.mtu) == [1338, 1438])
        #expect(path.nodes[0].logs.last == "Effective MTU verified at 1338")
    }

    @Test("a path that begins to swallow large packets is found out", arguments: 0..<10)
    func laterBlackHole(_ seed: UInt64) {
        var path = SleevePath(seed: seed)
        path.run(for: .seconds(60))
        path.conditions.silentMTU = 1362
        path.run(for: .seconds(20))
        #expect(path.parameters.map(\.mtu) == [1300, 1300])
        path.conditions.silentMTU = 65_535
        path.run(for: .seconds(700))
        #expect(path.parameters.map(\.mtu) == [1438, 1438])
    }

    @Test("the MTU grows with the path")
    func grows() {
        var path = SleevePath(seed: 5)
        path.conditions.kernelMTU = 1300
        path.run(for: .seconds(5))
        #expect(path.parameters.map(\.mtu) == [1238, 1238])
        path.conditions.kernelMTU = 9000
        path.run(for: .seconds(610))
        #expect(path.parameters.map(\.mtu) == [8938, 8938])
        // One direction only: what no probe proves is not believed.
        path.conditions.kernelMTU = 65_535
        path.conditions.silentMTU = 9000
        path.run(for: .seconds(650))
        #expect(path.parameters.map(\.mtu) == [8938, 8938])
    }

    @Test("a path without a limit keeps the largest MTU")
    func unlimited() {
        var path = SleevePath(seed: 6)
        path.conditions.kernelMTU = 65_535
        path.run(for: .seconds(30))
        #expect(path.parameters.map(\.mtu) == [65_535, 65_535])
        #expect(path.parameters.map(\.maximumPayload) == [65_507, 65_507])
    }

    @Test("a peer whose address changes is followed with its next heartbeat")
    func roaming() {
        var path = SleevePath(seed: 7)
        path.run(for: .seconds(3))
        let old = path.nodes[0].address
        let rebound = Endpoint(.v4(IPv4Address(rawValue: 99)), port: 40_000)
        path.nodes[0].address = rebound
        path.run(for: .seconds(11))
        #expect(path.parameters[1].remoteAddress == rebound)
        #expect(path.nodes[1].logs.last == "Peer UDP address changed to \(rebound)")
        path.nodes[0].address = old
        path.run(for: .seconds(11))
        #expect(path.parameters[1].remoteAddress == old)
        path.run(for: .seconds(120))
        #expect(path.nodes.allSatisfy { $0.failure == nil && $0.link.isEstablished })
    }

    @Test("silence for a minute ends a link, before or after it was established", arguments: [0, 30])
    func silence(_ seconds: Int) {
        var path = SleevePath(seed: 8)
        path.conditions.loss = seconds == 0 ? 1 : 0
        path.run(for: .seconds(seconds))
        path.conditions.loss = 1
        path.run(for: .seconds(49))
        #expect(path.nodes.allSatisfy { $0.failure == nil })
        path.run(for: .seconds(12))
        #expect(path.nodes.map(\.failure) == [String?](repeating: "timed out waiting for UDP heartbeat", count: 2))
        #expect(path.nodes.allSatisfy { $0.link.hasEnded && $0.link.nextDeadline == nil })
    }

    @Test("the same seed gives the same history")
    func deterministic() {
        func history(_ seed: UInt64) -> [String] {
            var path = SleevePath(seed: seed)
            path.conditions.loss = 0.2
            path.conditions.silentMTU = 1111
            path.run(for: .seconds(40))
            return path.nodes.map { "\($0.specialsSent) \($0.mtus) \($0.logs)" }
        }
        #expect(history(9) == history(9))
        #expect(history(9) != history(10))
    }

    @Test("answers are limited, strangers are ignored, and a stopped link says nothing")
    func hostile() throws {
        var link = SleeveLink(uid: 77, outbound: false, remoteAddress: nil, encrypted: false)
        let stranger = try #require(Endpoint("203.0.113.5:9"))
        _ = link.onConfirm(.zero)
        #expect(link.onSpecial(.heartbeat(uid: 78), from: stranger, .zero).isEmpty)
        #expect(link.remoteAddress == nil)
        // A peer cannot have heard us before we knew where to send.
        _ = link.onControl(.connectionEstablished, .zero)
        #expect(!link.isEstablished)
        // Nor does an answer to what was not asked change anything.
        #expect(link.onControl(.pathMTUVerified(0), .zero).isEmpty)
        #expect(link.onControl(.pathMTUVerified(1234), .zero).isEmpty)
        var answers = 0
        for _ in 0..<5000 { answers += link.onSpecial(.mtuProbe(length: 500), from: stranger, .zero).count }
        #expect(answers == SleeveLink.maximumAnswersPerSecond)
        #expect(!link.onSpecial(.mtuProbe(length: 500), from: stranger, .zero + .seconds(1)).isEmpty)
        let transient = SendFailure(code: 1, text: "write: operation not permitted")
        let final = SendFailure(code: 9, text: "write: bad file descriptor")
        #expect(link.onSendError(transient, .zero) == [.log(.warning, transient.text)])
        #expect(link.onSendError(transient, .zero).isEmpty)
        #expect(link.onSendError(final, .zero) == [.failed(reason: final.text)])
        #expect(link.hasEnded)
        #expect(link.onSpecial(.fragmentationTest, from: stranger, .zero + .seconds(9)).isEmpty)
        #expect(link.onTimer(.zero + .seconds(900)).isEmpty)
        #expect(link.onStop().isEmpty)
    }
}
