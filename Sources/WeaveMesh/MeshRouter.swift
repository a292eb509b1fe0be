internal import Logging
internal import NIOCore
internal import NIOPosix
public import WeaveCore
internal import WeaveCrypto

/// One peer of a mesh: connects to others, finds further ones, and carries gossip.
///
/// Register the channels, then `run`. Everything the router does happens on one event loop, sockets included, so
/// messages cross no thread on their way through. Cancelling the task of `run` closes everything before `run` returns.
public actor MeshRouter {
    enum Stage { case idle, running, stopping, stopped }

    let loop: any EventLoop
    let configuration: MeshConfiguration
    let overlay: (any MeshOverlay)?
    var core: MeshCore
    var stage = Stage.idle

    var links: [ConnectionID: MeshLink] = [:]
    /// What all sockets read into, one after the other.
    let spareBuffer: NIOLoopBoundBox<ByteBuffer?>
    var dialling: [ConnectionID: Bool] = [:]
    var handshakes = HandshakeTable()
    var lingering: [ObjectIdentifier: any Channel] = [:]
    private var server: (any Channel)?
    private var stopSignal: AsyncStream<Void>.Continuation?

    private enum Step {
        case event(LinkEvent)
        case directive(MeshDirective)
    }

    /// What happened and what is to be done, in order: nothing is done in the middle of something else.
    private var agenda: [Step] = []
    private var isBusy = false
    /// Connections for which the core has something to send.
    var woken: [ConnectionID] = []
    /// Dials that were asked for before the router ran.
    var heldDials: [MeshDirective] = []

    var handlers: [String: any GossipHandler] = [:]
    var stateJobs: [String: JobQueue] = [:]
    let overlayJobs = JobQueue(isSteady: true)
    var pendingRoutes: MeshRoutes?
    var lookups = 0
    var backgroundTasks: [UInt64: Task<Void, Never>] = [:]
    /// Tasks that finish what they have begun when the router stops: overlays are told of every end.
    private var steadyTasks: Set<UInt64> = []
    private var nextTask: UInt64 = 0

    private var timer: Scheduled<Void>?
    private var timerDue = MonotonicTime.distantFuture
    /// No connection has anything to do before this time.
    private var linksDue = MonotonicTime.distantFuture
    var strangerLines = ComplaintBudget()
    var metrics: MeshMetrics?
    var metricsTask: RepeatedTask?

    public nonisolated var unownedExecutor: UnownedSerialExecutor {
        // The router holds the loop, and so its executor, for as long as it lives.
        unsafe loop.executor.asUnownedSerialExecutor()
    }

    /// A router that does nothing yet.
    ///
    /// - Parameter overlay: carries frames beside the connections; nil for gossip only.
    public init(configuration: MeshConfiguration, overlay: (any MeshOverlay)? = nil) {
        var random = SystemRandomNumberGenerator()
        self.configuration = configuration
        self.overlay = overlay
        loop = MultiThreadedEventLoopGroup.singleton.next()
        spareBuffer = ReceiveAllocator.spare(of: loop)
        core = MeshCore(
            configuration: MeshCoreConfiguration(
                name: configuration.name, nickname: configuration.nickname, uid: random.next() | 1,
                port: configuration.port, connectionLimit: configuration.connectionLimit,
                discovery: configuration.discovery, encryption: configuration.password != nil,
                trustedSubnets: configuration.trustedSubnets,
                minimumProtocolVersion: Int(configuration.minimumProtocolVersion),
                maximumProtocolVersion: Int(configuration.maximumProtocolVersion)),
            seed: random.next(), now: .now())
    }

    /// The name of this peer.
    public nonisolated var name: PeerName { configuration.name }

    // MARK: Running

    /// Listens, connects and gossips until the task is cancelled or `stop` is called.
    ///
    /// - Throws: when the address cannot be listened on, or the router ran before.
    public func run() async throws(MeshError) {
        guard stage == .idle else { throw MeshError(.alreadyRun, "a router runs once; make a new one") }
        stage = .running
        let (signals, continuation) = AsyncStream.makeStream(of: Void.self)
        stopSignal = continuation
        do {
            server = try await listen()
        } catch {
            await shutDown()
            let place =
                configuration.host.map { "\(Endpoint($0, port: configuration.port))" } ?? ":\(configuration.port)"
            throw MeshError(.cannotListen, "listen tcp \(place): bind: \(SocketErrorText.cause(error))")
        }
        beginMetrics()
        let held = heldDials
        heldDials = []
        perform(held)
        for await _ in signals { break }
        await shutDown()
    }

    /// Makes `run` return.
    public func stop() { stopSignal?.yield() }

    private func listen() async throws -> any Channel {
        guard let host = configuration.host else {
            // One socket for both families, unless the system has no IPv6.
            if let server = try? await bind("::", bothFamilies: true) { return server }
            return try await bind("0.0.0.0", bothFamilies: false)
        }
        return try await bind(host.description, bothFamilies: false)
    }

    private func bind(_ host: String, bothFamilies: Bool) async throws -> any Channel {
        var bootstrap = ServerBootstrap(group: loop, childGroup: loop)
            .serverChannelOption(.backlog, value: 256)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelInitializer { [self] channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        AcceptPauseHandler { error in
                            self.assumeIsolated { $0.onAcceptFailed(SocketErrorText.cause(error)) }
                        })
                }
            }
            .childChannelOption(.autoRead, value: false)
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelOption(.recvAllocator, value: ReceiveAllocator(spare: spareBuffer))
            .childChannelInitializer { [self] channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(MeshChannelHandler(router: self, dialled: nil))
                }
            }
        if bothFamilies {
            bootstrap = bootstrap.serverChannelOption(
                ChannelOptions.Types.SocketOption(level: .ipv6, name: .ipv6_v6only), value: 0)
        }
        return try await bootstrap.bind(to: SocketAddress(ipAddress: host, port: Int(configuration.port))).get()
    }

    /// Closes all that is open and waits for all that runs.
    private func shutDown() async {
        stage = .stopping
        timer?.cancel()
        timer = nil
        try? await server?.close().get()
        server = nil
        let failure = ConnectionFailure(.ended, "shutting down")
        for link in links.values.sorted(by: { $0.id < $1.id }) { end(link, failure, tellCore: true) }
        dialling = [:]
        for queue in stateJobs.values { queue.removeAll() }
        for channel in lingering.values { channel.close(promise: nil) }
        lingering = [:]
        for (key, task) in backgroundTasks where !steadyTasks.contains(key) { task.cancel() }
        while let (key, task) = backgroundTasks.first {
            await task.value
            backgroundTasks[key] = nil
        }
        endMetrics()
        stage = .stopped
    }

    /// Whether others can connect.
    public var isListening: Bool { server != nil }

    // MARK: Targets and views

    /// Adds peers to connect to, or tries known ones again at once.
    ///
    /// - Parameters:
    ///   - targets: `host`, `host:port`, `[v6]:port`. Without a port, the one this router listens on is meant.
    ///   - replace: whether all earlier targets are forgotten. Their connections stay.
    /// - Returns: an error for each target that is not well-formed or has no address; the others are taken.
    public func connect(to targets: [String], replace: Bool = false) async -> [MeshTargetError] {
        let (directives, errors) = core.connect(targets, replace: replace, now: .now())
        var lookups: [(String, String, String)] = []
        var others: [MeshDirective] = []
        for directive in directives {
            if case .resolve(let target, let host, let service) = directive {
                lookups.append((target, host, service))
            } else {
                others.append(directive)
            }
        }
        perform(others)
        let tasks = lookups.map { target, host, service in
            Task { await self.resolve(target, host: host, service: service) }
        }
        var failures: [MeshTargetError] = []
        for task in tasks {
            if let failure = await task.value { failures.append(failure) }
        }
        return errors + failures
    }

    /// Stops trying these targets, spelled as they were given. Live connections stay.
    public func forget(_ targets: [String]) { perform(core.forget(targets, now: .now())) }

    /// Peers, routes, connections and targets at this moment.
    public func status() -> MeshStatus { core.status(now: .now()) }

    /// The ways to other peers over connections established at both ends.
    public func routes() -> MeshRoutes { core.routes }

    /// What the router did since its start, in numbers.
    public func statistics() -> MeshStatistics { core.statistics }

    // MARK: Events

    /// Handles what happened, after what happened before.
    func post(_ event: LinkEvent) {
        agenda.append(.event(event))
        workOff()
    }

    /// Does what the core asked for, after what it asked for before.
    func perform(_ directives: [MeshDirective]) {
        for directive in directives { agenda.append(.directive(directive)) }
        workOff()
    }

    private func workOff() {
        guard !isBusy else { return }
        isBusy = true
        var position = 0
        while true {
            while position < agenda.count {
                switch agenda[position] {
                case .event(let event): handle(event)
                case .directive(let directive): carryOut(directive)
                }
                position += 1
            }
            // Only now: what came together merges before it leaves, and leaves in one write.
            guard !woken.isEmpty else { break }
            let ids = woken
            woken.removeAll(keepingCapacity: true)
            for id in ids {
                if let link = links[id] { sendMore(link) }
            }
        }
        agenda.removeAll(keepingCapacity: position < Self.keptAgenda)
        isBusy = false
        armTimer()
    }

    /// A longer agenda than this is given back.
    private static let keptAgenda = 16

    // MARK: Time

    /// Remembers that a connection has something to do at its next deadline.
    func noteDeadline(of link: MeshLink) {
        if let due = link.machine.nextDeadline, due < linksDue { linksDue = due }
    }

    private func armTimer() {
        guard stage == .running || stage == .idle else { return }
        let due = min(core.timers.nextDeadline ?? .distantFuture, linksDue)
        guard due < timerDue else { return }
        timer?.cancel()
        timerDue = due
        timer = loop.scheduleTask(deadline: due.deadline) { [weak self] in
            self?.assumeIsolated { $0.onTimer() }
        }
    }

    /// Deadlines this close together are met in one go.
    private static let timerSlack: Duration = .milliseconds(20)

    private func onTimer() {
        timerDue = .distantFuture
        let now = MonotonicTime.now()
        if linksDue <= now {
            linksDue = .distantFuture
            let ahead = configuration.limits.heartbeatInterval / 10
            for link in Array(links.values) {
                if let due = link.machine.nextDeadline, due <= now + ahead {
                    carryOut(link.machine.onTimer(now: now + Self.timerSlack, heartbeatsAhead: ahead), link)
                }
                if links[link.id] != nil { noteDeadline(of: link) }
            }
        }
        perform((core.timers.nextDeadline ?? .distantFuture) <= now ? core.onTimer(now: now) : [])
    }

    // MARK: Tasks

    /// Runs something on the side until it is done or the router stops.
    @discardableResult
    func inBackground(_ body: @escaping @Sendable () async -> Void) -> Task<Void, Never> {
        nextTask += 1
        let key = nextTask
        let task = Task {
            await body()
            self.backgroundTasks[key] = nil
        }
        backgroundTasks[key] = task
        return task
    }

    /// Adds a job to a queue and sees to it that the queue is worked off.
    func enqueue(_ queue: JobQueue, _ job: @escaping @Sendable () async -> Void) {
        queue.append(job)
        guard queue.task == nil else { return }
        nextTask += 1
        let key = nextTask
        let task = Task {
            while let job = queue.next() { await job() }
            queue.task = nil
            self.backgroundTasks[key] = nil
            self.steadyTasks.remove(key)
        }
        queue.task = task
        backgroundTasks[key] = task
        if queue.isSteady { steadyTasks.insert(key) }
    }
}
