internal import Logging
internal import NIOCore
internal import NIOPosix
public import WeaveCore

/// What the core asks for.
extension MeshRouter {
    func carryOut(_ directive: MeshDirective) {
        switch directive {
        case .resolve(let target, let host, let service):
            inBackground { _ = await self.resolve(target, host: host, service: service) }
        case .dial(let id, let endpoint, let acceptAnyName):
            switch stage {
            case .idle: heldDials.append(directive)
            case .running: dial(id, endpoint, acceptAnyName: acceptAnyName)
            case .stopping, .stopped: break
            }
        case .accepted(let id): accept(id)
        case .close(let id, let reason):
            dialling[id] = nil
            if let link = links[id] { end(link, ConnectionFailure(.refused, reason), tellCore: false) }
        case .wake(let id): woken.append(id)
        case .deliver(let delivery): deliver(delivery)
        case .requestState(let request): requestState(request)
        case .overlayControl(let id, let tag, let payload): passControl(id, tag, payload)
        case .routesChanged(let routes): passRoutes(routes)
        case .peerRemoved(let peer):
            if let overlay, stage == .running { enqueue(overlayJobs) { await overlay.onPeerRemoved(peer) } }
        case .shortIDsInvalidated: break
        case .log(let level, let text):
            switch level {
            case .debug: configuration.logger.debug("\(text)")
            case .info: configuration.logger.info("\(text)")
            case .warning: configuration.logger.warning("\(text)")
            }
        }
    }

    // MARK: Names

    /// Finds the addresses of a target and tells the core.
    func resolve(_ target: String, host: String, service: String) async -> MeshTargetError? {
        do {
            let endpoints = try await lookUp(host, service)
            perform(core.onResolved(target, endpoints, now: .now()))
            return nil
        } catch {
            let reason = (error as? NameLookup.Failure)?.description ?? "lookup \(host): \(error)"
            perform(core.onResolveFailed(target, reason: reason, now: .now()))
            return MeshTargetError(target: target, message: reason)
        }
    }

    private func lookUp(_ host: String, _ service: String) async throws -> [Endpoint] {
        // An address needs no thread.
        if let address = IPAddress(host), service.isEmpty || UInt16(service) != nil {
            return [Endpoint(address, port: UInt16(service) ?? 0)]
        }
        guard lookups < configuration.routerLimits.lookups else {
            throw NameLookup.Failure(description: "lookup \(host): too many lookups at one time")
        }
        lookups += 1
        defer { lookups -= 1 }
        // Whichever comes first counts: the answer or the deadline.
        let promise = loop.makePromise(of: [Endpoint].self)
        let limit = loop.scheduleTask(in: .nanoseconds(configuration.routerLimits.resolveTimeout.wholeNanoseconds)) {
            promise.fail(NameLookup.Failure(description: "lookup \(host): i/o timeout"))
        }
        let resolver = configuration.resolver ?? { try NameLookup.resolve(host: $0, service: $1) }
        NIOThreadPool.singleton.submit { state in
            guard case .active = state else {
                return promise.fail(NameLookup.Failure(description: "lookup \(host): operation was canceled"))
            }
            promise.completeWith(Result { try resolver(host, service) })
        }
        defer { limit.cancel() }
        return try await promise.futureResult.get()
    }

    // MARK: Handlers

    private func deliver(_ delivery: MeshDelivery) {
        guard let handler = handlers[delivery.channel], let link = links[delivery.connection] else { return }
        let size = delivery.payload.count
        core.statistics.deliveries += 1
        holdBack(link, bytes: size)
        enqueue(link.deliveries) { [self] in
            do {
                let data: (any GossipData)?
                switch delivery.kind {
                case .unicast:
                    try await handler.onUnicast(from: delivery.source, delivery.payload)
                    data = nil
                case .broadcast: data = try await handler.onBroadcast(from: delivery.source, delivery.payload)
                case .gossip: data = try await handler.onGossip(delivery.payload)
                }
                await onHandled(delivery, data, size)
            } catch {
                await onHandlerFailed(delivery, "\(error)", size)
            }
        }
    }

    private func onHandled(_ delivery: MeshDelivery, _ data: (any GossipData)?, _ size: Int) {
        release(delivery.connection, bytes: size)
        perform(core.onHandlerResult(delivery, data, now: .now()))
    }

    private func onHandlerFailed(_ delivery: MeshDelivery, _ message: String, _ size: Int) {
        release(delivery.connection, bytes: size)
        core.statistics.handlerErrors += 1
        perform(core.onHandlerError(delivery, message: message, now: .now()))
    }

    /// State requests of one channel that may wait; a handler that is that far behind gets no more.
    private static let waitingStateRequests = 256

    private func requestState(_ request: MeshStateRequest) {
        guard let handler = handlers[request.channel], stage != .stopped else { return }
        let queue = stateJobs[request.channel] ?? JobQueue(isSteady: false)
        stateJobs[request.channel] = queue
        guard queue.count < Self.waitingStateRequests else { return }
        enqueue(queue) { [self] in
            let data = await handler.completeState()
            await onState(request, data)
        }
    }

    private func onState(_ request: MeshStateRequest, _ data: (any GossipData)?) {
        perform(core.onState(request, data, now: .now()))
    }

    // MARK: Overlay

    private func passControl(_ id: ConnectionID, _ tag: UInt8, _ payload: [UInt8]) {
        guard let overlay, let link = links[id], link.overlayIsPrepared else { return }
        let size = payload.count
        holdBack(link, bytes: size)
        enqueue(link.overlayJobs) { [self] in
            await overlay.onControl(id, tag: tag, payload: payload)
            await release(id, bytes: size)
        }
    }

    /// Only the newest routes matter: those not passed on yet are replaced.
    private func passRoutes(_ routes: MeshRoutes) {
        guard let overlay, stage == .running else { return }
        let isQueued = pendingRoutes != nil
        pendingRoutes = routes
        guard !isQueued else { return }
        enqueue(overlayJobs) { [self] in
            if let routes = await takeRoutes() { await overlay.onRoutes(routes) }
        }
    }

    private func takeRoutes() -> MeshRoutes? {
        defer { pendingRoutes = nil }
        return pendingRoutes
    }

    // MARK: Channels

    /// Takes the messages of a channel from now on. Register before `run`, so that none is missed.
    ///
    /// - Throws: when the name is taken.
    public func register(_ channel: String, _ handler: any GossipHandler) throws(GossipError) -> any GossipChannel {
        try core.registerChannel(channel)
        handlers[channel] = handler
        return RouterChannel(router: self, name: channel)
    }

    func unicast(_ channel: String, to destination: PeerName, _ payload: [UInt8]) throws(GossipError) {
        perform(try core.unicast(channel, to: destination, payload, now: .now()))
    }

    func broadcast(_ channel: String, _ data: any GossipData) {
        perform(core.broadcast(channel, data, now: .now()))
    }

    func gossipToNeighbours(_ channel: String, _ data: any GossipData) {
        perform(core.gossipToNeighbours(channel, data, now: .now()))
    }

    // MARK: What overlays say

    func onOverlayEstablished(_ id: ConnectionID) { perform(core.onOverlayEstablished(id, now: .now())) }

    func onOverlayFailed(_ id: ConnectionID, _ reason: String) {
        guard let link = links[id] else { return }
        if link.phase == .accepted { return perform(core.onOverlayFailed(id, reason: reason, now: .now())) }
        end(link, ConnectionFailure(.refused, reason), tellCore: true)
    }

    func onOverlayAttributes(_ id: ConnectionID, _ attributes: OverlayAttributes) {
        if let link = links[id], link.phase == .preparing { link.earlyAttributes = attributes }
        core.onOverlayAttributes(id, attributes)
    }

    func sendControl(_ id: ConnectionID, _ tag: UInt8, _ payload: [UInt8]) {
        guard let tag = MessageTag(rawValue: tag), tag.isOverlayControl else { return }
        perform(core.sendOverlayControl(id, tag: tag, payload: payload))
    }
}

/// The sending side of a channel of a router.
struct RouterChannel: GossipChannel {
    let router: MeshRouter
    let name: String

    func unicast(to destination: PeerName, _ payload: [UInt8]) async throws {
        try await router.unicast(name, to: destination, payload)
    }

    func broadcast(_ data: any GossipData) async { await router.broadcast(name, data) }

    func gossipToNeighbours(_ data: any GossipData) async { await router.gossipToNeighbours(name, data) }
}

/// Takes what an overlay says, from any thread, in the order in which it is said.
struct RouterOverlayEvents: OverlayEvents {
    let router: MeshRouter

    func established(_ id: ConnectionID) { onLoop { $0.onOverlayEstablished(id) } }

    func failed(_ id: ConnectionID, reason: String) { onLoop { $0.onOverlayFailed(id, reason) } }

    func sendControl(_ id: ConnectionID, tag: UInt8, payload: [UInt8]) { onLoop { $0.sendControl(id, tag, payload) } }

    func attributes(_ id: ConnectionID, _ attributes: OverlayAttributes) {
        onLoop { $0.onOverlayAttributes(id, attributes) }
    }

    private func onLoop(_ body: @escaping @Sendable (isolated MeshRouter) -> Void) {
        router.loop.execute { [router] in router.assumeIsolated(body) }
    }
}
