public import WeaveCore
public import WeaveMesh

/// Whole mesh peers in one process on virtual time: `MeshCore` values joined by simulated streams and datagrams, with
/// loss, delay, reordering, duplication, partitions, resets and crashes. Everything follows from the seed.
///
///     var simulation = MeshSimulation(seed: 7, options: .init(peers: 100))
///     simulation.start()
///     simulation.run(for: .seconds(60))
///     simulation.disagreement()      // nil when all have the same topology
public struct MeshSimulation {
    public struct Options: Sendable {
        public var peers: Int
        public var connectionLimit: Int
        public var discovery: Bool
        /// How many random other peers each peer is given as targets, besides the one before it.
        public var extraTargets: Int
        public var network: NetworkConditions
        /// Peers that compare no topology before they send it, as 2.8.1.
        public var plainPeers: Set<Int>

        public init(
            peers: Int, connectionLimit: Int = 200, discovery: Bool = true, extraTargets: Int = 1,
            network: NetworkConditions = .calm, plainPeers: Set<Int> = []
        ) {
            self.peers = peers
            self.connectionLimit = connectionLimit
            self.discovery = discovery
            self.extraTargets = extraTargets
            self.network = network
            self.plainPeers = plainPeers
        }
    }

    /// The channel on which every peer gossips a `SimulatedItems`.
    public static let channel = "items"
    /// A stream over which nothing passes for so long ends at both sides, as the read deadline has it.
    static let silenceLimit: Duration = .seconds(60)
    /// How long a connection attempt into a partition takes to fail.
    static let connectTimeout: Duration = .seconds(20)
    /// Messages on their way in one direction of a stream; the sender's core keeps the rest.
    static let window = 16
    /// The time between datagrams that look for the other end.
    static let heartbeatInterval: Duration = .milliseconds(500)

    enum Event {
        case timer(host: Int, incarnation: Int)
        case pump(SideID)
        case arrive(to: SideID, MeshMessage)
        case dialArrives(Dial)
        case dialFails(host: Int, incarnation: Int, ConnectionID, reason: String)
        case ready(SideID)
        case ended(SideID, reason: String)
        case silence(stream: Int)
        case heartbeat(SideID)
        case datagram(to: SideID)
        case fault(Fault)
        case lie(Int)
        case resolve(host: Int, incarnation: Int, target: String, address: String, port: UInt16)
    }

    struct Dial {
        var from: Int
        var incarnation: Int
        var connection: ConnectionID
        var to: Int
    }

    /// One end of a stream.
    struct SideID: Hashable {
        var stream: Int
        /// 0 dialled, 1 accepted.
        var end: Int
        var other: SideID { SideID(stream: stream, end: 1 - end) }
    }

    struct Side {
        var host: Int
        var incarnation: Int
        var connection: ConnectionID
        /// The handshake is over and the core has kept the connection.
        var isAccepted = false
        var hasEnded = false
        /// What arrived before that.
        var waiting: [MeshMessage] = []
        var inFlight = 0
        var lastArrival = MonotonicTime.zero
        var isEstablished = false
    }

    struct Stream {
        var sides: [Side]
        var uid: UInt64
        var port: UInt16
        /// What cannot pass because of a partition.
        var stalled: [(to: SideID, message: MeshMessage)] = []
    }

    struct Host {
        var core: MeshCore?
        var incarnation = 0
        var timer: MonotonicTime?
        var sides: [ConnectionID: SideID] = [:]
        var targets: [String] = []
        var items: Set<UInt64> = []
        var removed = 0
    }

    public let seed: UInt64
    public let options: Options
    public private(set) var now = MonotonicTime.zero
    /// How many messages arrived, and how many bytes of payload they had.
    public internal(set) var messages = 0
    public internal(set) var bytes = 0
    public internal(set) var network: NetworkConditions
    /// Channels beside the simulation's own whose messages are left to whoever runs the simulation.
    public var guestChannels: [String] = []
    /// What arrived on them and was not fetched yet, oldest first.
    public private(set) var guestDeliveries: [(host: Int, delivery: MeshDelivery)] = []
    /// The complete state of a guest channel at a host, for the periodic exchange and for new neighbours.
    public var guestState: (@Sendable (_ host: Int, _ channel: String) -> (any GossipData)?)?
    var generator: SeededGenerator
    var events = EventQueue<Event>()
    var hosts: [Host]
    var streams: [Int: Stream] = [:]
    var nextStream = 0
    var partition: Partition
    var plan = FaultPlan.none
    /// Hosts that lie at present, how often, and how many messages were lies.
    var liars: Set<Int> = []
    var lieInterval = Duration.seconds(1)
    public internal(set) var lies = 0

    public init(seed: UInt64, options: Options) {
        self.seed = seed
        self.options = options
        network = options.network
        generator = SeededGenerator(seed: seed)
        hosts = Array(repeating: Host(), count: options.peers)
        partition = Partition(hosts: options.peers)
        for index in hosts.indices where options.peers > 1 {
            var targets = index > 0 ? [index - 1] : [1]
            for _ in 0..<options.extraTargets { targets.append(Int.random(in: 0..<options.peers, using: &generator)) }
            hosts[index].targets = Set(targets).subtracting([index]).sorted().map { "\(Self.address(of: $0))" }
        }
    }

    /// The name of a host's peer.
    public static func name(of host: Int) -> PeerName { PeerName(truncating: 0x7a00_0000_0000 | UInt64(host + 1)) }

    /// The address of a host.
    public static func address(of host: Int) -> IPv4Address { IPv4Address(rawValue: 10 << 24 | UInt32(host + 1)) }

    /// Starts every peer within the first second.
    public mutating func start() {
        for host in hosts.indices {
            events.add(.fault(.start(host)), at: now + .milliseconds(Int64.random(in: 0..<1000, using: &generator)))
        }
    }

    /// Lets virtual time pass.
    public mutating func run(for duration: Duration) {
        let end = now + duration
        while let time = events.nextTime, time <= end, let (_, event) = events.next() {
            now = time
            handle(event)
        }
        now = end
    }

    /// Lets time pass until `condition` holds, asked every `interval`; false when `limit` is over first.
    public mutating func run(
        until condition: (inout MeshSimulation) -> Bool, every interval: Duration = .seconds(1), limit: Duration
    ) -> Bool {
        let end = now + limit
        while now < end {
            if condition(&self) { return true }
            run(for: interval)
        }
        return condition(&self)
    }

    private mutating func handle(_ event: Event) {
        switch event {
        case .timer(let host, let incarnation): onTimer(host, incarnation)
        case .pump(let side): pump(side)
        case .arrive(let side, let message): arrive(side, message)
        case .dialArrives(let dial): onDialArrives(dial)
        case .dialFails(let host, let incarnation, let connection, let reason):
            call(host, incarnation) { core, now in core.onDialFailed(connection, reason: reason, now: now) }
        case .ready(let side): onReady(side)
        case .ended(let side, let reason): end(side, reason: reason)
        case .silence(let stream): onSilence(stream)
        case .heartbeat(let side): sendHeartbeat(side)
        case .datagram(let side): onDatagram(side)
        case .fault(let fault): inject(fault)
        case .lie(let host): lie(host)
        case .resolve(let host, let incarnation, let target, let address, let port):
            call(host, incarnation) { core, now in
                guard let address = IPAddress(address) else {
                    return core.onResolveFailed(target, reason: "no such host", now: now)
                }
                return core.onResolved(target, [Endpoint(address, port: port)], now: now)
            }
        }
    }

    // MARK: - Peers

    /// Gives one core an event and carries out what it answers.
    mutating func call(
        _ host: Int, _ incarnation: Int? = nil, _ body: (inout MeshCore, MonotonicTime) -> [MeshDirective]
    ) {
        guard incarnation == nil || incarnation == hosts[host].incarnation, var core = hosts[host].core else { return }
        // Taken out for the call, so that the value is not copied.
        hosts[host].core = nil
        let directives = body(&core, now)
        hosts[host].core = core
        carryOut(directives, host)
        armTimer(host)
    }

    private mutating func onTimer(_ host: Int, _ incarnation: Int) {
        guard incarnation == hosts[host].incarnation, hosts[host].timer.map({ $0 <= now }) ?? false else { return }
        hosts[host].timer = nil
        call(host) { core, now in
            guard let deadline = core.nextDeadline, deadline <= now else { return [] }
            return core.onTimer(now: now)
        }
    }

    private mutating func armTimer(_ host: Int) {
        guard let deadline = hosts[host].core?.nextDeadline else { return }
        let due = max(deadline, now)
        if let armed = hosts[host].timer, armed <= due { return }
        hosts[host].timer = due
        events.add(.timer(host: host, incarnation: hosts[host].incarnation), at: due)
    }

    mutating func boot(_ host: Int) {
        guard hosts[host].core == nil else { return }
        hosts[host].incarnation += 1
        hosts[host].timer = nil
        hosts[host].items = []
        var core = MeshCore(
            configuration: MeshCoreConfiguration(
                name: Self.name(of: host), nickname: "host\(host)", uid: generator.next() | 1,
                connectionLimit: options.connectionLimit, discovery: options.discovery),
            seed: generator.next(), now: now)
        do {
            for channel in [Self.channel] + guestChannels { try core.registerChannel(channel) }
        } catch {
            preconditionFailure("\(error)")
        }
        hosts[host].core = core
        let targets = hosts[host].targets
        call(host) { core, now in core.connect(targets, now: now).directives }
    }

    private mutating func carryOut(_ directives: [MeshDirective], _ host: Int) {
        for directive in directives {
            switch directive {
            case .resolve(let target, let name, let service):
                let port = service.isEmpty ? 0 : UInt16(service) ?? 0
                events.add(
                    .resolve(
                        host: host, incarnation: hosts[host].incarnation, target: target, address: name, port: port),
                    at: now)
            case .dial(let connection, let endpoint, _): dial(host, connection, endpoint)
            case .accepted(let connection): onAccepted(host, connection)
            case .close(let connection, let reason): close(host, connection, reason)
            case .wake(let connection):
                if let side = hosts[host].sides[connection] { events.add(.pump(side), at: now) }
            case .deliver(let delivery): deliver(host, delivery)
            case .requestState(let request):
                if guestChannels.contains(request.channel) {
                    let state = guestState?(host, request.channel)
                    call(host) { core, now in core.onState(request, state, now: now) }
                    continue
                }
                let items = hosts[host].items
                call(host) { core, now in
                    core.onState(request, items.isEmpty ? nil : SimulatedItems(items), now: now)
                }
            case .overlayControl(let connection, _, _):
                guard let side = hosts[host].sides[connection] else { continue }
                establish(side)
            case .peerRemoved: hosts[host].removed += 1
            case .routesChanged, .shortIDsInvalidated, .log: break
            }
        }
    }

    private mutating func deliver(_ host: Int, _ delivery: MeshDelivery) {
        if guestChannels.contains(delivery.channel) {
            guestDeliveries.append((host, delivery))
            // Whatever is passed on is the state at the time of sending, as with a handler that answers late.
            let state = delivery.kind == .broadcast ? guestState?(host, delivery.channel) : nil
            call(host) { core, now in core.onHandlerResult(delivery, state, now: now) }
            return
        }
        guard let received = SimulatedItems(delivery.payload) else {
            call(host) { core, now in core.onHandlerError(delivery, message: "unreadable items", now: now) }
            return
        }
        let news = received.items.subtracting(hosts[host].items)
        hosts[host].items.formUnion(received.items)
        let answer: SimulatedItems? =
            switch delivery.kind {
            case .unicast: nil
            case .broadcast: received
            case .gossip: news.isEmpty ? nil : SimulatedItems(news)
            }
        call(host) { core, now in core.onHandlerResult(delivery, answer, now: now) }
    }

    // MARK: - What a test does and asks

    /// Peers that run at present.
    public var running: [Int] { hosts.indices.filter { hosts[$0].core != nil } }

    /// Adds an item at one peer, who broadcasts it.
    public mutating func broadcast(_ item: UInt64, from host: Int) {
        hosts[host].items.insert(item)
        call(host) { core, now in core.broadcast(Self.channel, SimulatedItems([item]), now: now) }
    }

    /// Broadcasts on a guest channel.
    public mutating func broadcast(_ data: any GossipData, on channel: String, from host: Int) {
        call(host) { core, now in core.broadcast(channel, data, now: now) }
    }

    /// Sends to one peer on a guest channel.
    ///
    /// - Returns: why that is not possible; nil when it is on its way.
    public mutating func unicast(
        _ payload: [UInt8], on channel: String, from host: Int, to destination: PeerName
    ) -> String? {
        guard hosts[host].core != nil else { return "the peer does not run" }
        var reason: String?
        call(host) { core, now in
            do throws(GossipError) {
                return try core.unicast(channel, to: destination, payload, now: now)
            } catch {
                reason = error.message
                return []
            }
        }
        return reason
    }

    /// Fetches what arrived on guest channels.
    public mutating func takeGuestDeliveries() -> [(host: Int, delivery: MeshDelivery)] {
        defer { guestDeliveries = [] }
        return guestDeliveries
    }

    /// The items a peer knows.
    public func items(of host: Int) -> Set<UInt64> { hosts[host].items }

    /// What a peer knows of the mesh.
    public func status(of host: Int) -> MeshStatus? { hosts[host].core?.status(now: now) }

    /// The peers in a peer's topology, itself among them; none when it does not run.
    public func knownPeers(of host: Int) -> Set<PeerName> { Set(status(of: host)?.peers.map(\.name) ?? []) }

    /// The routes of a peer.
    public func routes(of host: Int) -> MeshRoutes? { hosts[host].core?.routes }

    /// The counters of a peer.
    public func statistics(of host: Int) -> MeshStatistics? { hosts[host].core?.statistics }

    public var eventCount: Int { events.count }
}
