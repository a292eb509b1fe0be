public import WeaveCore

/// A mesh above its connections: peers, topology, routes, gossip, and which connections to make. An instance: time comes
/// in with each call, chance comes from the seed, and what is to be done comes out as directives.
///
/// A connection exists here from the directive `accepted` until `close` or `onConnectionClosed`.
///
///     dial ──► onConnectionReady ──► accepted ──► onMessage… nextMessage… ──► onConnectionClosed
///        └──► onDialFailed  └──► close (refused)              └──► close (ended by the core)
public struct MeshCore: Sendable {
    enum Timer: Hashable, Sendable {
        /// Compute the routes anew.
        case routes
        /// Tell others what changed about ourself.
        case update
        /// Look for unreachable peers.
        case collect
        /// Exchange complete states.
        case exchange
        /// Look which connections to make.
        case check
        /// Pass on what others told about peers.
        case news
        /// Ask for states for new connections.
        case states
        /// Ask somebody else for records that did not come.
        case questions
        /// Compare with some of the neighbours that came in a storm.
        case newcomers
        /// Compare with some neighbours after changes.
        case calm
    }

    /// The periods of 2.8.1, which its peers expect.
    static let routeDelay = Duration.milliseconds(100)
    static let updateDelay = Duration.seconds(1)
    /// How long nothing must have changed about ourself to tell neighbours sooner than that, when all take digests; and how
    /// long they wait at most while this peer is behind with its work.
    static let quietDelay = Duration.milliseconds(200)
    static let longestUpdateDelay = Duration.seconds(5)
    static let exchangeInterval = Duration.seconds(30)
    /// A newcomer is heard of before its neighbour has told of the connection to it, `updateDelay` later. 2.8.1 waits no
    /// longer than that, and now and then takes the newcomer for unreachable until the next exchange.
    static let collectDelay = Duration.seconds(3)
    /// How long no record must have changed until some neighbours are asked whether they have the same: whoever missed
    /// one need not wait for the exchange.
    static let calmDelay = Duration.seconds(3)
    static let calmComparisons = 4
    /// What is heard within this time is passed on together.
    static let newsDelay = Duration.milliseconds(30)
    /// Between two rounds of passing on, when all neighbours take digests: they lose nothing by hearing it together.
    static let newsInterval = Duration.milliseconds(250)
    /// A machine that slept for an hour is not busy.
    static let maximumStrain = Duration.seconds(1)
    /// New connections within this time are given the states of the channels together.
    static let statesDelay = Duration.milliseconds(20)
    /// How often news of the topology lead to a look for new peers at most.
    static let checkInterval = Duration.milliseconds(100)

    public let configuration: MeshCoreConfiguration
    var table: PeerTable
    var maker: ConnectionMaker
    var generator: SeededGenerator
    var timers = Scheduler<Timer>()
    var connections: [ConnectionID: MeshConnection] = [:]
    /// The connection to the peer in each slot.
    var connectionOfSlot: [Int: ConnectionID] = [:]
    var channels: Set<String> = []
    var surrogates = SurrogateMemory(window: MeshCore.exchangeInterval)
    var loops = LoopGuard()
    var questions = TopologyQuestions()
    var routing: RoutingState
    /// Slots of records to pass on to random neighbours, and of those that go with our own next update.
    var news = SlotSet()
    var update = SlotSet()
    var newcomers = Newcomers()
    /// Connections to peers that take no digests.
    var plainConnections = 0
    /// When ourself was last announced, and when the first and the last change after that were.
    var lastUpdate = MonotonicTime(nanoseconds: .min / 2)
    var firstChange = MonotonicTime.zero
    var lastChange = MonotonicTime.zero
    var deferred: [DeferredGossip] = []
    var awaitingStates: [ConnectionID] = []
    var nameConflicts = NameConflicts()
    var complaints = ComplaintBudget()
    /// The stamp of the topology when the next search for unreachable peers was decided on.
    var collectionLimit: UInt64 = 0
    var discovery = DiscoveryCache()
    /// When room may be made for a newcomer again.
    var nextRoom = MonotonicTime.zero
    var lastCheck = MonotonicTime(nanoseconds: .min / 2)
    var nextCheck: MonotonicTime?
    var lastNews = MonotonicTime(nanoseconds: .min / 2)
    /// The directives of the call that is going on.
    var out: [MeshDirective] = []
    public internal(set) var statistics = MeshStatistics()

    static let topologyChannel = "topology"

    /// - Parameter seed: all choices follow from it: neighbours, backoff, short ids. Not a secret.
    public init(configuration: MeshCoreConfiguration, seed: UInt64, now: MonotonicTime) {
        self.configuration = configuration
        generator = SeededGenerator(seed: seed)
        let shortID = configuration.shortID ?? ShortID.random(using: &generator)
        table = PeerTable(
            name: configuration.name, nickname: configuration.nickname, uid: configuration.uid, shortID: shortID)
        maker = ConnectionMaker(
            ourself: configuration.name, port: configuration.port, limit: configuration.connectionLimit)
        routing = RoutingState(table)
        timers.arm(.exchange, at: now + Self.exchangeInterval)
    }

    /// Features to announce in every handshake besides the obligatory ones.
    public static let announcedFeatures = [TopologyDigest.feature: TopologyDigest.featureValue]

    /// Our present short id, for the handshake.
    public var shortID: ShortID? { table.own.shortID }

    /// A handle for a connection that was accepted from a listener.
    public mutating func makeConnectionID() -> ConnectionID { maker.makeID() }

    // MARK: Targets

    /// Adds direct targets (`host`, `host:port`, `[v6]:port`, `v6`), or tries known ones again at once.
    ///
    /// - Returns: directives, and an error for each target that is not well-formed; the others are taken.
    public mutating func connect(
        _ targets: [String], replace: Bool = false, now: MonotonicTime
    ) -> (directives: [MeshDirective], errors: [MeshTargetError]) {
        let errors = maker.add(targets, replace: replace, now: now)
        check(now)
        return (flush(), errors)
    }

    /// Stops trying these targets, spelled as they were given. Live connections stay.
    public mutating func forget(_ targets: [String], now: MonotonicTime) -> [MeshDirective] {
        maker.forget(targets)
        check(now)
        return flush()
    }

    /// The addresses of a target, in order of preference; the first IPv4 address is taken, else the first. Port 0 when none
    /// was given.
    public mutating func onResolved(
        _ target: String, _ endpoints: [Endpoint], now: MonotonicTime
    ) -> [MeshDirective] {
        if endpoints.isEmpty { return onResolveFailed(target, reason: "no address for \(target)", now: now) }
        maker.onResolved(target, endpoints, now: now)
        check(now)
        return flush()
    }

    /// A target's name could not be resolved; it is tried again later.
    public mutating func onResolveFailed(
        _ target: String, reason: String, now: MonotonicTime
    ) -> [MeshDirective] {
        maker.onResolveFailed(target, reason: reason, now: now, using: &generator)
        check(now)
        return flush()
    }

    // MARK: Channels

    /// Takes messages of a channel from now on.
    ///
    /// - Throws: when the name is taken.
    public mutating func registerChannel(_ name: String) throws(GossipError) {
        guard name != Self.topologyChannel, name != TopologyDigest.channel, !channels.contains(name) else {
            throw GossipError(.duplicateChannel, "[gossip] duplicate channel \(name)")
        }
        guard name.utf8.count <= GossipEnvelope.maximumChannelBytes, channels.count < GossipLimits.channels else {
            throw GossipError(
                .payloadTooLarge,
                "[gossip] channel \(name): at most \(GossipLimits.channels) channels with names of"
                    + " \(GossipEnvelope.maximumChannelBytes) bytes")
        }
        channels.insert(name)
        surrogates.forget(name)
    }

    // MARK: Time

    /// When `onTimer` is to be called next; it changes with every other call.
    public var nextDeadline: MonotonicTime? { timers.nextDeadline }

    /// How late timers were of late. Gossip among peers that take digests slows down with it.
    var strain: Duration { questions.strain }

    private mutating func noteStrain(_ now: MonotonicTime) {
        guard let due = timers.nextDeadline, due <= now else { return }
        questions.strain = min(max(now - due, questions.strain * 7 / 8), Self.maximumStrain)
    }

    /// Does what is due.
    public mutating func onTimer(now: MonotonicTime) -> [MeshDirective] {
        noteStrain(now)
        while let timer = timers.popDue(now) {
            switch timer {
            case .routes: recalculate(now)
            case .update: onUpdateDue(now)
            case .collect: onCollectionDue(now)
            case .exchange: exchange(now)
            case .check: check(now)
            case .news: passOnNews(now)
            case .states: requestStates()
            case .questions: askAgain(now)
            case .newcomers: compareWithNewcomers()
            case .calm: compareInCalm()
            }
        }
        return flush()
    }

    // MARK: Inside

    mutating func flush() -> [MeshDirective] {
        defer { out = [] }
        return out
    }

    mutating func log(_ level: MeshLogLevel, _ text: String) { out.append(.log(level, text)) }

    /// Sees to the targets now.
    mutating func check(_ now: MonotonicTime) {
        lastCheck = now
        let discovered = discovered(now)
        let canSpare = maker.isFull && spareConnection(for: nil) != nil
        let (actions, next) = maker.check(
            discovered: discovered,
            isWorthAPlace: { [table] peer in canSpare && peer.map { table.slot(of: $0) == nil } ?? true },
            hasNoPlace: { [table, routing, limit = configuration.connectionLimit] peer in
                table.slot(of: peer).map { table.hasNoPlace($0, limit: limit, routing.nextHops) } ?? false
            }, now: now, using: &generator)
        for action in actions {
            switch action {
            case .resolve(let target, let host, let service):
                out.append(.resolve(target: target, host: host, service: service))
            case .dial(let id, let endpoint, let acceptAnyName):
                log(.debug, "->[\(endpoint)] attempting connection")
                out.append(.dial(id, endpoint, acceptAnyName: acceptAnyName))
            }
        }
        nextCheck = next
        if let next { timers.arm(.check, at: next) } else { timers.cancel(.check) }
    }

    /// Sees to the targets soon. In a storm of news each look would find little that the one before did not.
    mutating func checkSoon(_ now: MonotonicTime) {
        let due = max(now, lastCheck + Self.checkInterval)
        if due == now { return check(now) }
        // The timer may be armed for a retry, sooner or later than this.
        if let nextCheck, nextCheck <= due { return }
        nextCheck = due
        timers.arm(.check, at: due)
    }

    /// The addresses at which peers live that we have no connection to; nil when there is no place for another
    /// connection and so no reason to look.
    private mutating func discovered(_ now: MonotonicTime) -> Set<ConnectionMaker.Discovered>? {
        guard configuration.discovery else { return [] }
        guard !maker.isFull else { return nil }
        var candidates = SlotSet()
        let present = table.graph.present.members
        for slot in present where slot != PeerTable.ourSlot { candidates.formUnion(table.graph.row(slot)) }
        candidates.remove(PeerTable.ourSlot)
        candidates.subtract(table.graph.row(PeerTable.ourSlot))
        let limit = configuration.connectionLimit
        for slot in candidates.members where table.hasNoPlace(slot, limit: limit, routing.nextHops) {
            candidates.remove(slot)
        }
        guard !candidates.isEmpty else { return [] }
        var found: Set<ConnectionMaker.Discovered> = []
        let promising = maker.promisingTargets
        for slot in candidates.members {
            guard let name = table.record(slot)?.name, let endpoint = promising[name] else { continue }
            found.insert(ConnectionMaker.Discovered(endpoint: endpoint, peer: name))
            candidates.remove(slot)
        }
        return found.union(discovery.addresses(of: candidates, in: table, ourPort: configuration.port, now: now))
    }
}

/// Gossip that waits for the routes to be computed.
struct DeferredGossip: Sendable {
    var parcel: GossipParcel
    var tag: MessageTag
    /// The connection it came over.
    var except: ConnectionID?
}

/// Notices that somebody else lives under our name. Once is our own past; again and again is another peer.
struct NameConflicts: Sendable {
    private var times: [MonotonicTime] = []
    private var lastWarning: MonotonicTime?

    private static let window = Duration.seconds(60)
    private static let tolerated = 3

    /// Notes a conflict; whether to warn.
    mutating func note(_ now: MonotonicTime) -> Bool {
        times = times.suffix(Self.tolerated).filter { now - $0 < Self.window } + [now]
        guard times.count > Self.tolerated else { return false }
        if let lastWarning, now - lastWarning < Self.window { return false }
        lastWarning = now
        return true
    }
}
