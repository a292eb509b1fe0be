internal import CoreMetrics
internal import Logging
internal import NIOCore
internal import WeaveCore

/// Hands the counters of a router to a metrics system, now and then: what happens in between costs no more than the
/// integers it counts in. Confined to the router.
struct MeshMetrics {
    private let counters: [Counter]
    private var exported: [Int]
    private let connections: [(state: MeshStatus.ConnectionState, gauge: Gauge)]
    private let peers: Gauge
    private let handshakes: Gauge

    /// - Parameter peer: stands at every metric, as one process may hold several routers.
    init(factory: any MetricsFactory, peer: PeerName) {
        let own = [("peer", peer.description)]
        let series = MeshStatistics().series
        counters = series.map { series in
            Counter(label: series.name, dimensions: series.labels.map { ($0.name, $0.value) } + own, factory: factory)
        }
        exported = Array(repeating: 0, count: series.count)
        let states: [MeshStatus.ConnectionState] = [.established, .pending]
        connections = states.map { state in
            let dimensions = [("state", state.rawValue)] + own
            return (state, Gauge(label: "weave_mesh_connections", dimensions: dimensions, factory: factory))
        }
        peers = Gauge(label: "weave_mesh_peers", dimensions: own, factory: factory)
        handshakes = Gauge(label: "weave_mesh_handshakes", dimensions: own, factory: factory)
    }

    /// Tells what came since the last time, and how things stand.
    ///
    /// - Parameters:
    ///   - established, pending: connections in either state.
    ///   - peers: known ones, ourself included.
    ///   - handshakes: connections made to us that have not introduced themselves.
    mutating func export(
        _ statistics: MeshStatistics, established: Int, pending: Int, peers: Int, handshakes: Int
    ) {
        for (index, series) in statistics.series.enumerated() where series.value > exported[index] {
            counters[index].increment(by: series.value - exported[index])
            exported[index] = series.value
        }
        for (state, gauge) in connections { gauge.record(state == .established ? established : pending) }
        self.peers.record(peers)
        self.handshakes.record(handshakes)
    }
}

extension MeshRouter {
    /// Begins to tell the metrics system of this router, if there is one.
    func beginMetrics() {
        let factory = configuration.metrics ?? MetricsSystem.factory
        guard !(factory is NOOPMetricsHandler) else { return }
        metrics = MeshMetrics(factory: factory, peer: configuration.name)
        let interval = TimeAmount.nanoseconds(configuration.metricsInterval.wholeNanoseconds)
        metricsTask = loop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { [weak self] _ in
            self?.assumeIsolated { $0.exportMetrics() }
        }
    }

    /// Tells the last of it.
    func endMetrics() {
        metricsTask?.cancel()
        metricsTask = nil
        exportMetrics()
    }

    /// A connection could not be accepted; the listener rests for a moment.
    func onAcceptFailed(_ cause: String) {
        core.statistics.acceptsFailed += 1
        configuration.logger.warning("accept tcp \(configuration.name): \(cause); trying again in a second")
    }

    private func exportMetrics() {
        let established = core.establishedCount
        metrics?.export(
            core.statistics, established: established, pending: core.connectionCount - established,
            peers: core.peerCount, handshakes: handshakes.count)
    }
}

extension MeshCore {
    var connectionCount: Int { connections.count }
    var establishedCount: Int { connections.values.count { $0.isEstablished } }
}
