import CoreMetrics
import Foundation
import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveMesh

/// Keeps what is counted, as a metrics system would.
private final class CountingFactory: MetricsFactory {
    /// One metric: counters add up, gauges keep what came last.
    final class Handler: CounterHandler, RecorderHandler {
        private let total = Locked<(value: Int64, calls: Int)>((0, 0))
        private let isCounter: Bool

        init(isCounter: Bool) { self.isCounter = isCounter }

        var value: Int64 { total.value.value }
        var calls: Int { total.value.calls }

        func increment(by amount: Int64) {
            total.change {
                $0.value += amount
                $0.calls += 1
            }
        }

        func reset() { total.change { $0.value = 0 } }

        func record(_ value: Int64) {
            total.change {
                $0.value = value
                $0.calls += 1
            }
        }

        func record(_ value: Double) { record(Int64(value)) }
    }

    private let handlers = Locked<[String: Handler]>([:])

    /// The metric of this name and labels.
    func metric(_ name: String, _ labels: [String: String] = [:]) -> Handler? {
        handlers.value[Self.key(name, labels.map { ($0.key, $0.value) })]
    }

    var names: Set<String> { Set(handlers.value.keys.map { String($0.prefix { $0 != "{" }) }) }

    private static func key(_ label: String, _ dimensions: [(String, String)]) -> String {
        label + "{" + dimensions.sorted { $0.0 < $1.0 }.map { "\($0.0)=\($0.1)" }.joined(separator: ",") + "}"
    }

    private func handler(_ label: String, _ dimensions: [(String, String)], isCounter: Bool) -> Handler {
        handlers.change { handlers in
            let key = Self.key(label, dimensions)
            let handler = handlers[key] ?? Handler(isCounter: isCounter)
            handlers[key] = handler
            return handler
        }
    }

    func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        handler(label, dimensions, isCounter: true)
    }

    func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        handler(label, dimensions, isCounter: false)
    }

    func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        NOOPMetricsHandler.instance
    }

    func destroyCounter(_ handler: any CounterHandler) {}
    func destroyRecorder(_ handler: any RecorderHandler) {}
    func destroyTimer(_ handler: any TimerHandler) {}
}

@Suite("Metrics of a router", .timeLimit(.minutes(1)))
struct RouterMetricsTests {
    private func labels(_ labels: [String: String] = [:], of index: Int = 1) -> [String: String] {
        labels.merging(["peer": testName(index).description]) { $1 }
    }

    @Test("a metrics system sees connections, messages, merges, routes, drops and closes as they add up")
    func counters() async throws {
        try await withTestMesh { mesh in
            let factory = CountingFactory()
            var configuration = mesh.configuration(1)
            configuration.metrics = factory
            configuration.metricsInterval = .milliseconds(50)
            let router = await mesh.add(1, configuration)
            let words = try await router.register("words", WordHandler())
            try await mesh.run(1)
            let second = await mesh.add(2)
            let handler = WordHandler()
            let answers = try await second.register("words", handler)
            try await mesh.run(2)
            _ = await second.connect(to: [mesh.target(1)])
            for one in [router, second] { try await eventually("connected") { await one.knows(2) } }
            for number in 0..<10 { try await answers.unicast(to: testName(1), Array("to one \(number)".utf8)) }
            await words.broadcast(OpaqueGossip(Array("to all".utf8)))
            try await eventually("heard") { await handler.words.contains("to all") }
            func value(_ name: String, _ labels: [String: String] = [:]) -> Int64 {
                factory.metric("weave_mesh_\(name)", self.labels(labels))?.value ?? -1
            }
            try await eventually("told") {
                value("messages_total", ["direction": "received", "kind": "unicast"]) == 10
                    && value("messages_total", ["direction": "sent", "kind": "broadcast"]) == 1
            }
            try await eventually("gauges are told") { value("connections", ["state": "established"]) == 1 }
            #expect(value("peers") == 2)
            #expect(value("handshakes") == 0)
            #expect(value("connections_total", ["event": "accepted"]) == 1)
            #expect(value("connections_total", ["event": "kept"]) == 1)
            let payload = value("message_bytes_total", ["direction": "received", "kind": "unicast"])
            #expect(payload > 100)
            #expect(value("socket_bytes_total", ["direction": "received"]) > payload)
            let told = await router.statistics()
            #expect(told.socketBytesSent > told.sent.total.bytes)
            #expect(value("deliveries_total") == 10)
            #expect(value("merges_total", ["kind": "topology_record"]) >= 1)
            #expect(value("route_calculations_total") >= 1)
            #expect(value("closes_total", ["reason": "ended"]) <= 0)
            await #expect(throws: GossipError.self) { try await words.unicast(to: testName(9), [1]) }
            await mesh.stop(2)
            try await eventually("the end is told") { value("closes_total", ["reason": "ended"]) == 1 }
            try await eventually("gauges follow") { value("connections", ["state": "established"]) == 0 }
            await mesh.stop(1)
            // What happened last was told before the router was gone, and everything told is what was counted.
            for series in await router.statistics().series {
                let labels = labels(Dictionary(uniqueKeysWithValues: series.labels.map { ($0.name, $0.value) }))
                #expect(factory.metric(series.name, labels)?.value == Int64(series.value), "\(series)")
            }
        }
    }

    @Test("a quiet interval tells counters nothing")
    func quiet() async throws {
        try await withTestMesh { mesh in
            let factory = CountingFactory()
            var configuration = mesh.configuration(1)
            configuration.metrics = factory
            configuration.metricsInterval = .milliseconds(10)
            _ = try await mesh.start(1, configuration)
            let peers = try #require(factory.metric("weave_mesh_peers", labels()))
            try await eventually("several intervals are over") { peers.calls > 5 }
            let messages = factory.metric("weave_mesh_deliveries_total", labels())
            #expect(messages?.calls == 0)
        }
    }

    @Test("names and labels are those of Prometheus, and the same before and after")
    func names() {
        var statistics = MeshStatistics()
        let before = statistics.series
        statistics.noteClose(.timeout)
        statistics.received.note(.gossip, bytes: 7)
        statistics.received.note(nil, bytes: 1)
        statistics.droppedMessages = 3
        let after = statistics.series
        #expect(before.map(\.name) == after.map(\.name))
        #expect(before.map(\.labels) == after.map(\.labels))
        // A close, a message and its 7 bytes, another and its byte, and three drops.
        let sum = after.reduce(0) { $0 + $1.value }
        #expect(sum == 14)
        for series in after {
            #expect(series.name.wholeMatch(of: /weave_mesh_[a-z_]+_total/) != nil, "\(series.name)")
            #expect(series.help.hasSuffix("."))
            for label in series.labels { #expect(label.value.wholeMatch(of: /[a-z_]+/) != nil, "\(label)") }
        }
        // Families are whole, and no two of a family are the same.
        let families = after.map(\.name)
        #expect(Set(families).count == zip(families, families.dropFirst()).count { $0 != $1 } + 1)
        #expect(Set(after.map { "\($0.name) \($0.labels)" }).count == after.count)
    }
}
