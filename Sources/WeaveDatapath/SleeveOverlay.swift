import CLinux
import Glibc
public import Logging
import Synchronization
public import WeaveCore

/// The sleeve: carries Ethernet frames between a local TAP device and the peers of a mesh, in UDP datagrams.
///
/// It owns one or more packet threads, which move frames in batches, and one control thread, which keeps the links:
/// heartbeats, path MTUs, the choice of overlay. Made for embedding: it knows nothing of the mesh but what it is told
/// here. For each connection: `prepare`, then `confirm` once the connection is kept, then control messages in order,
/// then `stop`. No call blocks; answers come through the `SleeveEvents` given to `prepare`.
public final class SleeveOverlay: Sendable {
    /// The overlays to announce to other peers, in order of preference.
    public static let overlays = ["sleeve"]

    /// Why an overlay could not be set up.
    public struct SetupError: Error, Sendable, CustomStringConvertible {
        /// The error number, 0 when there is none.
        public let code: Int32
        public let description: String
    }

    private let control: SleeveControlInbox
    private let resources: SleeveResources
    private let fabric: PacketFabric
    private let counts: [SharedCounts]
    private let wakeups: [Wakeup]
    private let threads: [PlainThread]

    /// The UDP port: that of the configuration, or the one that was chosen for 0.
    public var port: UInt16 { resources.sockets.port }

    /// Opens the device and the sockets in the network namespace of the calling thread, and starts the threads.
    public init(configuration: SleeveConfiguration, logger: Logger) throws(SetupError) {
        let resources = try SleeveResources(configuration)
        let inbox = SleeveControlInbox()
        let events = PacketEventQueue(wakeup: inbox.wakeup)
        let fabric = PacketFabric(ourself: configuration.ourself, events: events)
        self.resources = resources
        self.fabric = fabric
        control = inbox
        let threadCount = resources.sockets.pairs.count
        counts = (0...threadCount).map { _ in SharedCounts() }
        wakeups = (0..<threadCount).map { _ in Wakeup() }
        resources.logSetup(logger, configuration)
        var started: [PlainThread] = []
        for index in 0..<threadCount {
            let setup = resources.setup(
                index, configuration: configuration, wakeup: wakeups[index], counts: counts[index])
            let thread = PlainThread(name: "sleeve-\(index)") { [resources] in
                guard let poller = PacketPoller(), let receiver = PacketReceiver(merged: setup.sockets.receivesMerged)
                else { return logger.error("Packet thread \(index): no memory or descriptors left") }
                var loop = PacketLoop(setup: setup, fabric: fabric, poller: poller, receiver: receiver)
                loop.run()
                withExtendedLifetime(resources) {}
            }
            if let thread { started.append(thread) }
        }
        let controlCounts = counts[threadCount]
        let thread = PlainThread(name: "sleeve-control") { [resources] in
            var loop = SleeveControlLoop(
                inbox: inbox, fabric: fabric, resources: resources, counts: controlCounts, logger: logger)
            loop.run()
        }
        if let thread { started.append(thread) }
        threads = started
        guard started.count == threadCount + 1 else {
            shutdown()
            throw SetupError(code: EAGAIN, description: "cannot start the sleeve's threads: the system has none left")
        }
    }

    deinit { shutdown() }

    /// Ends all threads. Connections are not told. Nothing works afterwards; later calls do nothing.
    public func shutdown() {
        guard !fabric.isStopping.exchange(true, ordering: .relaxed) else { return }
        for wakeup in wakeups { wakeup.signal() }
        control.wakeup.signal()
        for thread in threads { thread.join() }
    }

    // MARK: - Connections

    /// The features to announce in the handshake.
    public var features: [String: String] {
        [OverlayNegotiation.featureName: OverlayNegotiation.feature(Self.overlays)]
    }

    /// A connection passed its handshake.
    ///
    /// - Throws: `OverlayNegotiation.Refusal` when the other end speaks no overlay of ours.
    public func prepare(
        _ connection: SleeveConnection, events: any SleeveEvents
    ) throws(OverlayNegotiation.Refusal) {
        let outcome = try OverlayNegotiation.choose(
            ours: Self.overlays, remote: OverlayNegotiation.overlays(in: connection.remoteFeatures))
        control.post(.prepare(connection, outcome, events))
    }

    /// The connection is kept: start heartbeats.
    public func confirm(_ id: UInt64) { control.post(.confirm(id)) }

    /// A control message arrived on the mesh connection, with mesh tag 7, or 1 to 3.
    public func onControl(_ id: UInt64, tag: UInt8, payload: [UInt8]) {
        control.postControl(id, tag: tag, payload: payload)
    }

    /// The connection has ended.
    public func stop(_ id: UInt64) { control.post(.stop(id)) }

    /// Routes changed.
    public func onRoutes(_ routes: ForwardingRoutes) { control.post(.routes(routes)) }

    /// A peer is gone from the topology.
    public func onPeerRemoved(_ peer: PeerName) { control.post(.peerRemoved(peer)) }

    // MARK: - Reports

    /// What the packet threads have done, as of their last batches.
    public var statistics: PacketStatistics {
        counts.reduce(into: PacketStatistics()) { $0.add($1) }
    }

    /// The MAC addresses known, in their order.
    public var macs: [MACTable.Entry] { fabric.macs.withLock { $0.entries } }

    /// What each link carried.
    public var links: [SleeveLinkStatistics] { fabric.snapshots.latest.statistics }
}

/// The descriptors of an overlay. Closed when the last thread has let go.
final class SleeveResources: Sendable {
    let device: TAPDevice
    let sockets: UDPSockets

    init(_ configuration: SleeveConfiguration) throws(SleeveOverlay.SetupError) {
        let offloads = configuration.offloads
        var threads = min(max(configuration.threads, 1), SleeveConfiguration.maximumThreads)
        // Packets of one peer must come to one thread; without steering only one thread can make sure of it.
        if !offloads.steering { threads = 1 }
        do {
            device =
                switch configuration.device {
                case .name(let name):
                    try TAPDevice(
                        name: name, queues: threads * DeviceLanes.count, useHeader: offloads.superFrames)
                case .descriptor(let descriptor): try TAPDevice(descriptor: descriptor)
                }
            sockets = try Self.sockets(configuration, threads: threads)
        } catch let error as TAPDeviceError {
            throw SleeveOverlay.SetupError(code: error.code, description: error.description)
        } catch let error as UDPSocketError {
            throw SleeveOverlay.SetupError(code: error.code, description: error.description)
        } catch {
            throw SleeveOverlay.SetupError(code: 0, description: "\(error)")
        }
    }

    private static func sockets(
        _ configuration: SleeveConfiguration, threads: Int
    ) throws(UDPSocketError) -> UDPSockets {
        let offloads = configuration.offloads
        func open(_ count: Int) throws(UDPSocketError) -> UDPSockets {
            try UDPSockets(
                address: configuration.host, port: configuration.port, threads: count,
                useReceiveOffload: offloads.mergedReceives, useSteering: offloads.steering)
        }
        let sockets = try open(threads)
        if sockets.isSteered || threads == 1 { return sockets }
        return try open(1)
    }

    /// What a packet thread is given.
    func setup(
        _ index: Int, configuration: SleeveConfiguration, wakeup: Wakeup, counts: SharedCounts
    ) -> PacketThreadSetup {
        let threads = sockets.pairs.count
        return PacketThreadSetup(
            index: index, threads: threads,
            lanes: DeviceLanes(of: device.descriptors, index: index, threads: threads),
            captures: index < device.descriptors.count, hasHeader: device.hasHeader,
            coalescesTCP: device.hasTCPOffload, coalescesUDP: device.hasUDPOffload, sockets: sockets.pairs[index],
            usesSegmentation: configuration.offloads.segmentedSends, wakeup: wakeup, counts: counts)
    }

    /// One line for each thing that the kernel does not do for us.
    func logSetup(_ logger: Logger, _ configuration: SleeveConfiguration) {
        logger.info(
            "Sleeve on UDP port \(sockets.port) with \(sockets.pairs.count) packet thread(s), device \(device.name)")
        if !device.hasHeader { logger.info("TAP device without offload header: frames are taken one by one") }
        if device.hasHeader, !device.hasTCPOffload { logger.info("TAP device without TCP offload") }
        if device.hasHeader, !device.hasUDPOffload { logger.debug("TAP device without UDP offload") }
        if sockets.pairs.contains(where: { !$0.receivesMerged }) {
            logger.info("UDP_GRO is not used: datagrams are received one by one")
        }
        if !configuration.offloads.segmentedSends {
            logger.info("UDP_SEGMENT is not used: datagrams are sent one by one")
        }
        if !sockets.isSteered { logger.info("UDP packets are not steered: one packet thread receives on all sockets") }
    }
}
