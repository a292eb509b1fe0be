import CLinux
import Glibc
import Logging
import Synchronization
import WeaveCore
import WeaveCrypto

/// The control thread's work: feeds each connection's `SleeveLink` and `OverlaySwitch`, and carries out what they ask.
struct SleeveControlLoop: ~Copyable {
    struct Link {
        /// How many lines about odd control messages one connection may put into the log.
        static let complaintLimit = 16

        let connection: SleeveConnection
        let outcome: OverlayNegotiation.Outcome
        let events: any SleeveEvents
        let index: Int
        let packetLink: PacketLink
        var link: SleeveLink
        var overlays: OverlaySwitch
        var isConfirmed = false
        var complaints = 0
        var attributes: SleeveAttributes?

        /// The name in the log, as 2.8.1 writes it.
        var peer: String { "\(connection.remoteName)(\(connection.remoteNickname))" }
        var prefix: String { "sleeve ->[\(link.remoteAddress ?? connection.remoteAddress)|\(peer)]" }
    }

    let inbox: SleeveControlInbox
    let fabric: PacketFabric
    let resources: SleeveResources
    let shared: SharedCounts
    let counts: PacketCounts
    let logger: Logger
    let slab = PacketSlab(capacity: 1 << 16)
    var links: [UInt64: Link] = [:]
    /// The connection whose packets a peer's are, and to which frames for it go.
    var registered: [PeerName: UInt64] = [:]
    var routes: ForwardingRoutes
    var isDirty = false
    var sweep: MonotonicTime
    var now = monotonicNow()

    init(
        inbox: SleeveControlInbox, fabric: PacketFabric, resources: SleeveResources, counts: SharedCounts,
        logger: Logger
    ) {
        self.inbox = inbox
        self.fabric = fabric
        self.resources = resources
        shared = counts
        self.counts = counts.own
        self.logger = logger
        routes = .alone(fabric.ourself)
        sweep = now + MACTable.sweepInterval
    }

    /// Runs until the fabric stops.
    mutating func run() {
        while !fabric.isStopping.load(ordering: .relaxed) {
            sleep()
            now = monotonicNow()
            inbox.wakeup.clear()
            let (commands, lost) = inbox.takeAll()
            if lost > 0 { counts.add(.lostControls, lost) }
            for command in commands { handle(command) }
            // Commands first: what threads report is about links that they made.
            publishIfDirty()
            for event in fabric.events.takeAll() { handle(event) }
            runTimers()
            publishIfDirty()
            shared.publish()
        }
    }

    private func sleep() {
        let isIdle = fabric.macs.withLock { $0.count == 0 }
        var deadline = isIdle ? MonotonicTime.distantFuture : sweep
        for link in links.values { if let due = link.link.nextDeadline { deadline = min(deadline, due) } }
        let milliseconds: Int32
        if deadline == .distantFuture {
            milliseconds = -1
        } else {
            let wait = max((deadline - monotonicNow()).wholeNanoseconds, 0)
            milliseconds = Int32(clamping: (wait + 999_999) / 1_000_000)
        }
        var wait = pollfd(fd: inbox.wakeup.descriptor, events: Int16(POLLIN), revents: 0)
        _ = unsafe poll(&wait, 1, milliseconds)
    }

    private mutating func runTimers() {
        for (id, link) in links {
            if let due = link.link.nextDeadline, due <= now { update(id) { $0.onTimer($1) } }
        }
        if sweep <= now {
            sweep = now + MACTable.sweepInterval
            for entry in fabric.macs.withLock({ $0.expire(now) }) {
                logger.debug("Expired MAC \(entry.mac) at \(entry.peer)")
            }
        }
    }

    // MARK: - Commands

    private mutating func handle(_ command: SleeveControlInbox.Command) {
        switch command {
        case .prepare(let connection, let outcome, let events): prepare(connection, outcome, events)
        case .confirm(let id):
            guard let link = links[id], !link.isConfirmed else { return }
            links[id]?.isConfirmed = true
            registered[link.connection.remoteName] = id
            isDirty = true
            update(id) { $0.onConfirm($1) }
        case .control(let id, let tag, let payload): onControl(id, tag: tag, payload: payload)
        case .stop(let id):
            guard var link = links.removeValue(forKey: id) else { return }
            _ = link.link.onStop()
            link.overlays.onStop()
            unregister(id, link.connection.remoteName)
        case .routes(let routes):
            self.routes = routes
            isDirty = true
        case .peerRemoved(let peer): _ = fabric.macs.withLock { $0.forget(peer) }
        }
    }

    private mutating func prepare(
        _ connection: SleeveConnection, _ outcome: OverlayNegotiation.Outcome, _ events: any SleeveEvents
    ) {
        let overlays: [String] =
            switch outcome {
            case .sleeveOnly: ["sleeve"]
            case .common(let names): names
            }
        let isV4 = connection.remoteAddress.address.v4 != nil
        let link = Link(
            connection: connection, outcome: outcome, events: events, index: overlays.firstIndex(of: "sleeve") ?? 0,
            packetLink: PacketLink(
                id: connection.id, name: connection.remoteName, key: connection.sessionKey,
                role: connection.outbound ? .dialler : .acceptor),
            link: SleeveLink(
                uid: connection.uid, outbound: connection.outbound,
                remoteAddress: isV4 ? connection.remoteAddress : nil, encrypted: connection.sessionKey != nil),
            overlays: OverlaySwitch(
                overlays: overlays, peer: "\(connection.remoteName)(\(connection.remoteNickname))"))
        links[connection.id] = link
        var directives: [OverlaySwitch.Directive] = []
        for index in overlays.indices where overlays[index] != "sleeve" {
            directives += links[connection.id]?.overlays.onUnusable(index, reason: "not supported") ?? []
        }
        directives += links[connection.id]?.overlays.onPrepared() ?? []
        carryOut(directives, connection.id)
    }

    private mutating func onControl(_ id: UInt64, tag: UInt8, payload: [UInt8]) {
        guard let link = links[id] else { return }
        do {
            let envelope = try OverlayControlEnvelope(tag: tag, payload: payload, for: link.outcome)
            guard envelope.index == link.index else {
                throw OverlayControlEnvelope.Unusable(
                    description: "Ignoring control message for overlay \(envelope.index), which is not in use")
            }
            let message = try SleeveControl(tag: envelope.tag, body: envelope.body)
            update(id) { $0.onControl(message, $1) }
        } catch {
            counts.add(.ignoredControls)
            guard link.complaints < Link.complaintLimit else { return }
            links[id]?.complaints += 1
            logger.warning("\(link.prefix): \(error)")
        }
    }

    private mutating func unregister(_ id: UInt64, _ peer: PeerName) {
        if registered[peer] == id { registered[peer] = nil }
        isDirty = true
    }

    // MARK: - Links

    /// Lets a link know of something, and does what it asks.
    mutating func update(_ id: UInt64, _ change: (inout SleeveLink, MonotonicTime) -> [SleeveDirective]) {
        guard var link = links[id] else { return }
        links[id] = nil
        let directives = change(&link.link, now)
        links[id] = link
        for directive in directives { carryOut(directive, id) }
    }

    private mutating func carryOut(_ directive: SleeveDirective, _ id: UInt64) {
        guard let link = links[id] else { return }
        switch directive {
        case .send(let frame, let dontFragment): send(frame, dontFragment: dontFragment, link)
        case .sendControl(let message):
            let envelope = OverlayControlEnvelope(index: link.index, tag: message.tag, body: message.body)
            guard let encoded = envelope.encode(for: link.outcome) else { return }
            link.events.sendControl(id, tag: encoded.tag, payload: encoded.payload)
        case .established: carryOut(links[id]?.overlays.onEstablished(link.index) ?? [], id)
        case .failed(let reason):
            unregister(id, link.connection.remoteName)
            carryOut(links[id]?.overlays.onFailed(link.index, reason: reason) ?? [], id)
        case .parameters:
            isDirty = true
            // Before anything is sent that relies on them.
            publishIfDirty()
            reportAttributes(id)
        case .log(let level, let text): log(level, "\(link.prefix): \(text)")
        }
    }

    private mutating func carryOut(_ directives: [OverlaySwitch.Directive], _ id: UInt64) {
        for directive in directives {
            guard let link = links[id] else { return }
            switch directive {
            case .established: link.events.established(id)
            case .use: reportAttributes(id)
            case .failed(let reason): link.events.failed(id, reason: reason)
            case .log(let level, let text): log(level, "overlay_switch ->[\(link.peer)] \(text)")
            }
        }
    }

    private mutating func reportAttributes(_ id: UInt64) {
        guard let link = links[id] else { return }
        let attributes = SleeveAttributes(
            name: link.overlays.name, mtu: link.link.parameters.mtu, encrypted: link.packetLink.isEncrypted)
        guard attributes != link.attributes else { return }
        links[id]?.attributes = attributes
        link.events.attributes(id, attributes)
    }

    func log(_ level: SleeveLogLevel, _ text: String) {
        switch level {
        case .debug: logger.debug("\(text)")
        case .info: logger.info("\(text)")
        case .warning: logger.warning("\(text)")
        case .error: logger.error("\(text)")
        }
    }

    /// Gives packet threads a new snapshot when something in it has changed.
    private mutating func publishIfDirty() {
        guard isDirty else { return }
        isDirty = false
        let current = registered.values.sorted().compactMap { id in
            links[id].map { link in
                let local = link.connection.localAddress.address.v4
                return (
                    link: link.packetLink, parameters: link.link.parameters, source: local == .any ? nil : local
                )
            }
        }
        fabric.snapshots.publish(ForwardingSnapshot(routes: routes, links: current))
    }
}
