internal import Logging
internal import NIOCore
internal import NIOPosix
internal import WeaveCore
internal import WeaveCrypto

/// Sockets: how they come, what they bring, how they go.
extension MeshRouter {
    func handle(_ event: LinkEvent) {
        switch event {
        case .dialled(let id, let channel): onDialled(id, channel)
        case .dialFailed(let id, let remote, let reason): onDialFailed(id, remote, reason)
        case .accepted(let handler, let channel): onAccepted(handler, channel)
        case .bytes(let id, let buffer): onBytes(id, buffer)
        case .wrote(let id, let count): onWrote(id, count)
        case .readFailed(let id, let cause):
            if let link = links[id] { carryOut(link.machine.onReadFailure(cause, now: .now()), link) }
        case .writeFailed(let id, let cause):
            if let link = links[id] { carryOut(link.machine.onWriteFailure(cause, now: .now()), link) }
        case .ended(let id):
            if let link = links[id] { carryOut(link.machine.onEnd(now: .now()), link) }
        }
    }

    // MARK: Coming

    func dial(_ id: ConnectionID, _ remote: Endpoint, acceptAnyName: Bool) {
        configuration.logger.info("->[\(remote)] attempting connection")
        dialling[id] = acceptAnyName
        core.statistics.connectionsDialled += 1
        var bootstrap = ClientBootstrap(group: loop)
            .connectTimeout(.nanoseconds(configuration.routerLimits.dialTimeout.wholeNanoseconds))
            .channelOption(.autoRead, value: false)
            .channelOption(.maxMessagesPerRead, value: 1)
            .channelOption(.recvAllocator, value: ReceiveAllocator(spare: spareBuffer))
            .channelInitializer { [self] channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(MeshChannelHandler(router: self, dialled: id))
                }
            }
        let host = configuration.host.flatMap { $0.isSameFamily(as: remote.address) ? $0 : nil }
        do {
            if let host { bootstrap = bootstrap.bind(to: try Endpoint(host, port: 0).socketAddress()) }
            let address = try remote.socketAddress()
            bootstrap.connect(to: address).whenComplete { [self] result in
                let event: LinkEvent =
                    switch result {
                    case .success(let channel): .dialled(id, channel)
                    case .failure(let error):
                        .dialFailed(id, remote, SocketErrorText.dial(error, from: host, to: remote))
                    }
                assumeIsolated { $0.post(event) }
            }
        } catch {
            post(.dialFailed(id, remote, SocketErrorText.dial(error, from: host, to: remote)))
        }
    }

    private func onDialled(_ id: ConnectionID, _ channel: any Channel) {
        guard let acceptAnyName = dialling.removeValue(forKey: id), stage == .running else {
            return channel.close(promise: nil)
        }
        guard let remote = Endpoint(channel.remoteAddress), let local = Endpoint(channel.localAddress) else {
            channel.close(promise: nil)
            return perform(core.onDialFailed(id, reason: "connection closed", now: .now()))
        }
        begin(id, channel, outbound: true, local: local, remote: remote, acceptAnyName: acceptAnyName)
    }

    private func onDialFailed(_ id: ConnectionID, _ remote: Endpoint, _ reason: String) {
        guard dialling.removeValue(forKey: id) != nil, stage == .running else { return }
        core.statistics.dialsFailed += 1
        configuration.logger.info("->[\(remote)] error during connection attempt: \(reason)")
        perform(core.onDialFailed(id, reason: reason, now: .now()))
    }

    private func onAccepted(_ handler: MeshChannelHandler, _ channel: any Channel) {
        guard stage == .running, let remote = Endpoint(channel.remoteAddress),
            let local = Endpoint(channel.localAddress)
        else { return channel.close(promise: nil) }
        let id = core.makeConnectionID()
        handler.id = id
        core.statistics.connectionsAccepted += 1
        if mayLog() { configuration.logger.info("->[\(remote)] connection accepted") }
        let now = MonotonicTime.now()
        handshakes.insert(id, remote.address, now: now)
        begin(id, channel, outbound: false, local: local, remote: remote, acceptAnyName: true)
        while let victim = handshakes.victim(after: remote.address, limits: configuration.routerLimits, now: now) {
            guard let link = links[victim] else { break }
            end(link, ConnectionFailure(.refused, "too many handshakes at one time"), tellCore: true, linger: false)
        }
    }

    private func begin(
        _ id: ConnectionID, _ channel: any Channel, outbound: Bool, local: Endpoint, remote: Endpoint,
        acceptAnyName: Bool
    ) {
        let half = UInt64.random(in: .min ... .max)
        let path = "\(local)->\(remote)"
        let machine = ConnectionMachine(
            configuration: ConnectionConfiguration(
                minimumVersion: configuration.minimumProtocolVersion,
                maximumVersion: configuration.maximumProtocolVersion, password: configuration.password,
                features: Feature.introduction(
                    name: configuration.name, nickname: configuration.nickname, uid: core.configuration.uid,
                    connectionID: half, shortID: core.shortID, trusted: isTrusted(remote),
                    extra: (overlay?.features ?? [:]).merging(MeshCore.announcedFeatures) { $1 }),
                limits: configuration.limits),
            outbound: outbound, path: path, connectionIDHalf: half,
            keyPair: configuration.password == nil ? nil : KeyPair(), now: .now())
        let link = MeshLink(
            id: id, channel: channel, outbound: outbound, local: local, remote: remote, acceptAnyName: acceptAnyName,
            machine: machine)
        links[id] = link
        carryOut(link.machine.start(), link)
        setReading(link, true)
    }

    private func isTrusted(_ remote: Endpoint) -> Bool {
        guard let address = remote.address.v4 else { return false }
        return configuration.trustedSubnets.contains { $0.contains(address) }
    }

    // MARK: Reading

    private func onBytes(_ id: ConnectionID, _ buffer: ByteBuffer) {
        guard let link = links[id] else { return }
        core.statistics.socketBytesReceived += buffer.readableBytes
        carryOut(link.machine.onBytes(buffer.readableBytesView, now: .now()), link)
        if link.phase == .handshaking, link.machine.handshakeSteps > link.steps {
            link.steps = link.machine.handshakeSteps
            handshakes.noteStep(id, now: .now())
        }
        if links[id] != nil, !link.machine.wantsInput { setReading(link, false) }
    }

    private func setReading(_ link: MeshLink, _ reads: Bool) {
        try? link.channel.syncOptions?.setOption(.autoRead, value: reads)
    }

    /// Carries out what a connection asks for.
    func carryOut(_ directives: [ConnectionDirective], _ link: MeshLink) {
        for directive in directives {
            guard links[link.id] === link else { return }
            switch directive {
            case .write(let bytes):
                write(bytes, link)
                flush(link)
            case .introduced(let introduction): onIntroduced(introduction, link)
            case .message(let tag, let payload):
                perform(core.onMessage(link.id, tag: tag.rawValue, payload: payload, now: .now()))
            case .log(let text): configuration.logger.info("\(link.label) \(text)")
            case .close(let failure): end(link, failure, tellCore: true, linger: failure.code != .timeout)
            }
        }
        if links[link.id] === link { noteDeadline(of: link) }
    }

    private func onIntroduced(_ introduction: RemoteIntroduction, _ link: MeshLink) {
        link.introduction = introduction
        link.phase = .preparing
        handshakes.remove(link.id)
        configuration.logger.info(
            "\(link.label) connection ready; using protocol version \(introduction.protocolVersion)")
        if let reason = core.refusal(of: introduction, id: link.id, remote: link.remote) {
            // The core decides, and remembers what to think of the target.
            configuration.logger.debug("\(link.label) will be refused: \(reason)")
            return becomeReady(link, introduction)
        }
        guard let overlay else { return becomeReady(link, introduction) }
        let bothTrust = isTrusted(link.remote) && introduction.trustedByRemote
        let connection = OverlayConnection(
            id: link.id, remoteName: introduction.name, remoteNickname: introduction.nickname,
            localAddress: link.local, remoteAddress: link.remote, outbound: link.outbound,
            uid: introduction.connectionUID, sessionKey: bothTrust ? nil : introduction.sessionKey,
            remoteFeatures: introduction.features)
        let id = link.id
        let events = RouterOverlayEvents(router: self)
        link.overlayIsPrepared = true
        enqueue(link.overlayJobs) { [self] in
            do {
                try await overlay.prepare(connection, events: events)
                await onPrepared(id, nil)
            } catch {
                await onPrepared(id, "\(error)")
            }
        }
    }

    private func onPrepared(_ id: ConnectionID, _ failure: String?) {
        guard let link = links[id], let introduction = link.introduction, link.phase == .preparing else { return }
        if let failure {
            return end(link, ConnectionFailure(.refused, failure), tellCore: true)
        }
        becomeReady(link, introduction)
    }

    private func becomeReady(_ link: MeshLink, _ introduction: RemoteIntroduction) {
        perform(
            core.onConnectionReady(
                link.id, introduction, local: link.local, remote: link.remote, outbound: link.outbound, now: .now()))
        if let attributes = link.earlyAttributes { core.onOverlayAttributes(link.id, attributes) }
    }

    /// The core keeps a connection.
    func accept(_ id: ConnectionID) {
        guard let link = links[id], link.phase == .preparing else { return }
        link.phase = .accepted
        link.introduction?.features = [:]
        if let overlay, link.overlayIsPrepared { enqueue(link.overlayJobs) { await overlay.confirm(id) } }
        carryOut(link.machine.onAccepted(now: .now()), link)
        guard links[id] != nil else { return }
        setReading(link, true)
        // Without an overlay nothing more has to come about.
        if overlay == nil { onOverlayEstablished(id) }
    }

    /// More waits for a handler or the overlay of this connection.
    func holdBack(_ link: MeshLink, bytes: Int) {
        link.waitingMessages += 1
        link.waitingBytes += bytes
        let limits = configuration.routerLimits
        guard !link.isPaused else { return }
        guard link.waitingMessages > limits.waitingMessages || link.waitingBytes > limits.waitingBytes else { return }
        link.isPaused = true
        link.machine.onReadingPaused()
        setReading(link, false)
    }

    func release(_ id: ConnectionID, bytes: Int) {
        guard let link = links[id] else { return }
        link.waitingMessages -= 1
        link.waitingBytes -= bytes
        let limits = configuration.routerLimits
        guard link.isPaused, link.waitingMessages <= limits.waitingMessages / 2,
            link.waitingBytes <= limits.waitingBytes / 2
        else { return }
        link.isPaused = false
        link.machine.onReadingResumed(now: .now())
        setReading(link, true)
    }

    // MARK: Writing

    /// Larger messages go out in pieces, so that it can be seen whether the remote takes them.
    private static let writePiece = 64 << 10

    private func write(_ bytes: [UInt8], _ link: MeshLink) {
        if link.unwritten == 0, bytes.count <= Self.writePiece {
            // Nearly always the system takes all of it at once, and there is nothing to be told of.
            link.channel.write(ByteBuffer(bytes: bytes), promise: nil)
            link.untold += bytes.count
            return
        }
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = rest.prefix(Self.writePiece)
            rest = rest.dropFirst(piece.count)
            let id = link.id
            let count = piece.count
            link.unwritten += count
            link.channel.write(ByteBuffer(bytes: piece)).whenComplete { [self] result in
                let event: LinkEvent =
                    switch result {
                    case .success: .wrote(id, count)
                    case .failure(let error): .writeFailed(id, SocketErrorText.cause(error))
                    }
                assumeIsolated { $0.post(event) }
            }
        }
        link.machine.onWriteQueued(now: .now())
    }

    private func flush(_ link: MeshLink) {
        link.channel.flush()
        guard link.untold > 0 else { return }
        let count = link.untold
        link.untold = 0
        guard let buffered = try? link.channel.syncOptions?.getOption(.bufferedWritableBytes) else {
            // A channel whose write fails is closed when `flush` returns.
            return carryOut(link.machine.onWriteFailure("broken pipe", now: .now()), link)
        }
        if buffered == 0 {
            core.statistics.socketBytesSent += count
            return link.machine.onWriteProgress(isWaiting: link.unwritten > 0, now: .now())
        }
        link.unwritten += count
        link.machine.onWriteQueued(now: .now())
        let id = link.id
        // Comes after what waits.
        link.channel.writeAndFlush(ByteBuffer()).whenComplete { [self] result in
            let event: LinkEvent =
                switch result {
                case .success: .wrote(id, count)
                case .failure(let error): .writeFailed(id, SocketErrorText.cause(error))
                }
            assumeIsolated { $0.post(event) }
        }
    }

    private func onWrote(_ id: ConnectionID, _ count: Int) {
        guard let link = links[id] else { return }
        link.unwritten -= count
        core.statistics.socketBytesSent += count
        link.machine.onWriteProgress(isWaiting: link.unwritten > 0, now: .now())
        noteDeadline(of: link)
        if link.hasMore { sendMore(link) }
    }

    /// Takes messages from the core as long as the socket has room.
    func sendMore(_ link: MeshLink) {
        guard link.phase == .accepted else { return }
        link.hasMore = true
        let now = MonotonicTime.now()
        var batch: [UInt8] = []
        while link.unwritten + batch.count < configuration.routerLimits.unwrittenBytes {
            guard let message = core.nextMessage(for: link.id, now: now) else {
                link.hasMore = false
                break
            }
            do throws(ConnectionFailure) {
                let frame = try link.machine.encode(message.tag, message.payload)
                if batch.isEmpty { batch = frame } else { batch += frame }
            } catch {
                guard error.code == .unsendable else {
                    end(link, error, tellCore: true)
                    return
                }
                configuration.logger.warning("\(link.label) message dropped: \(error.message)")
            }
        }
        guard !batch.isEmpty else { return }
        write(batch, link)
        flush(link)
        noteDeadline(of: link)
    }

    // MARK: Going

    /// Ends a connection.
    ///
    /// - Parameters:
    ///   - tellCore: false when the core ended it.
    ///   - linger: whether the remote gets a moment to read what was sent last.
    func end(_ link: MeshLink, _ failure: ConnectionFailure, tellCore: Bool, linger: Bool = true) {
        guard links.removeValue(forKey: link.id) === link else { return }
        handshakes.remove(link.id)
        log(link, failure)
        close(link, linger: linger && stage == .running)
        link.deliveries.removeAll()
        if let overlay, link.overlayIsPrepared {
            let id = link.id
            enqueue(link.overlayJobs) { await overlay.stop(id) }
        }
        guard tellCore else { return }
        core.statistics.noteClose(MeshCloseReason(failure.code))
        switch link.phase {
        case .handshaking, .preparing:
            perform(core.onHandshakeFailed(link.id, reason: failure.message, now: .now()))
        case .accepted: perform(core.onConnectionClosed(link.id, reason: failure.message, now: .now()))
        }
    }

    private func log(_ link: MeshLink, _ failure: ConnectionFailure) {
        switch link.phase {
        case .handshaking:
            guard link.outbound || mayLog() else { return }
            configuration.logger.info(
                "\(link.label) connection shutting down due to error during handshake: \(failure.message)")
        case .preparing:
            configuration.logger.info("\(link.label) connection shutting down due to error: \(failure.message)")
        // The core says it.
        case .accepted: break
        }
    }

    /// Whether a line about a stranger still fits into this second.
    private func mayLog() -> Bool {
        strangerLines.admits(.now(), limit: configuration.routerLimits.strangerLines)
    }

    private func close(_ link: MeshLink, linger: Bool) {
        let channel = link.channel
        guard linger, channel.isActive, lingering.count < configuration.routerLimits.lingeringConnections else {
            return channel.close(promise: nil)
        }
        // Closing with bytes unread would make the system reset the connection, and the remote lose what it was told.
        let key = ObjectIdentifier(channel)
        lingering[key] = channel
        setReading(link, true)
        channel.writeAndFlush(ByteBuffer()).whenComplete { _ in channel.close(mode: .output, promise: nil) }
        let limit = loop.scheduleTask(in: .nanoseconds(configuration.routerLimits.lingering.wholeNanoseconds)) {
            channel.close(promise: nil)
        }
        channel.closeFuture.whenComplete { [weak self] _ in
            limit.cancel()
            self?.assumeIsolated { $0.lingering[key] = nil }
        }
    }
}
