import WeaveCore

/// Decides which connections to make, and when to try again. It knows targets and live connections; who is a peer of
/// whom it is told.
struct ConnectionMaker: Sendable {
    /// What is to be done.
    enum Action: Sendable, Equatable {
        case resolve(target: String, host: String, service: String)
        case dial(ConnectionID, Endpoint, acceptAnyName: Bool)
    }

    /// A live connection, or one whose handshake is over.
    struct Link: Sendable {
        var endpoint: Endpoint
        var outbound: Bool
        var peer: PeerName
    }

    /// An address that the topology mentions.
    struct Discovered: Sendable, Hashable {
        var endpoint: Endpoint
        var peer: PeerName
    }

    enum State: Sendable, Equatable { case waiting, resolving, attempting(ConnectionID), connected, suspended }

    struct Target: Sendable {
        var state = State.waiting
        var lastError: String?
        /// Nil for never.
        var tryAfter: MonotonicTime?
        var interval = ConnectionMaker.initialInterval
        /// The peer that was last found, or is expected, at the address.
        var peer: PeerName?
        /// Whether the last error was our own limit of connections.
        var isHeldByLimit = false
        /// Whether it waits, or has waited, for a place at its peer: when it is due it is tried all the same.
        var awaitsPlace = false
    }

    private struct Direct: Sendable {
        var address: TargetAddress
        /// Port 0 for none. Nil until the name was resolved.
        var endpoint: Endpoint?
        /// Whether the endpoint was found for the attempt that is due.
        var isFresh = false
        /// How looking up the name goes, while there is no endpoint whose target could say.
        var lookup = Target()
    }

    static let initialInterval = Duration.seconds(2)
    static let maximumInterval = Duration.seconds(360)
    /// A connection that lived this long after its attempt was a good one: the next attempt comes at once.
    static let goodLifetime = Duration.seconds(60)
    /// Of two peers that discover each other in the same moment, the one with the higher name holds back this long, so
    /// that not both dial.
    static let courtesy = Duration.milliseconds(300)
    /// Targets at most, direct and discovered: more than there can be peers.
    static let maximumTargets = 8192
    /// Attempts under way at one time, the operator's own targets apart: anybody can invent peers, and each attempt
    /// holds a socket.
    static let maximumAttempts = 256

    let ourself: PeerName
    let port: UInt16
    let limit: Int
    private var directs: [String: Direct] = [:]
    var targets: [Endpoint: Target] = [:]
    private var links: [ConnectionID: Link] = [:]
    private var dials: [ConnectionID: Endpoint] = [:]
    private var pacing = DialPacing()
    private var nextID: UInt64 = 1
    private(set) var terminationCount = 0
    /// Whether news of who has how many connections can make a target due.
    var awaitsPlaces = false

    init(ourself: PeerName, port: UInt16, limit: Int) {
        self.ourself = ourself
        self.port = port
        self.limit = limit
    }

    mutating func makeID() -> ConnectionID {
        defer { nextID += 1 }
        return ConnectionID(rawValue: nextID)
    }

    /// The direct targets as they were given, in order.
    var directTargets: [String] { directs.keys.sorted() }

    // MARK: What the operator wants

    mutating func add(_ texts: [String], replace: Bool, now: MonotonicTime) -> [MeshTargetError] {
        var errors: [MeshTargetError] = []
        if replace { directs = directs.filter { texts.contains($0.key) } }
        for text in texts {
            do throws(MeshTargetError) {
                let address = try TargetAddress(parsing: text)
                guard directs.count < Self.maximumTargets || directs[text] != nil else {
                    throw MeshTargetError(target: text, message: "more than \(Self.maximumTargets) targets")
                }
                if directs[text] == nil { directs[text] = Direct(address: address, endpoint: address.literal) }
                directs[text]?.lookup.tryAfter = now
                directs[text]?.lookup.interval = Self.initialInterval
                if let endpoint = directs[text]?.endpoint { retry(complete(endpoint), now: now) }
            } catch {
                errors.append(error)
            }
        }
        return errors
    }

    mutating func forget(_ texts: [String]) {
        for text in texts { directs[text] = nil }
    }

    private mutating func retry(_ endpoint: Endpoint, now: MonotonicTime) {
        guard targets[endpoint] != nil else { return }
        targets[endpoint]?.tryAfter = now
        targets[endpoint]?.interval = Self.initialInterval
        if targets[endpoint]?.state == .waiting { targets[endpoint]?.awaitsPlace = true }
    }

    private func complete(_ endpoint: Endpoint) -> Endpoint {
        endpoint.port == 0 ? Endpoint(endpoint.address, port: port) : endpoint
    }

    // MARK: What became of it

    /// The addresses of a name; at least one.
    mutating func onResolved(_ text: String, _ endpoints: [Endpoint], now: MonotonicTime) {
        guard let best = endpoints.first(where: { $0.address.v4 != nil }) ?? endpoints.first,
            let known = directs[text]
        else {
            return
        }
        let old = known.endpoint.map { complete($0) }
        let new = complete(best)
        directs[text]?.endpoint = best
        directs[text]?.isFresh = true
        directs[text]?.lookup = Target(tryAfter: now)
        if let old, targets[old]?.state == .resolving {
            targets[old]?.state = .waiting
            // The peer moved: go on at the new address where the old one left off.
            if old != new, targets[new] == nil {
                targets[new] = targets[old]
                targets[old] = nil
            }
        }
    }

    mutating func onResolveFailed(
        _ text: String, reason: String, now: MonotonicTime, using generator: inout SeededGenerator
    ) {
        guard let direct = directs[text] else { return }
        if let endpoint = direct.endpoint.map({ complete($0) }), targets[endpoint]?.state == .resolving {
            targets[endpoint]?.backOff(reason, now: now, using: &generator)
        } else {
            directs[text]?.lookup.backOff(reason, now: now, using: &generator)
        }
    }

    /// Whether the dialled connection `id` may turn out to lead to a peer that is not in the topology.
    func acceptsAnyName(_ id: ConnectionID) -> Bool {
        guard let endpoint = dials[id] else { return true }
        return isDirect(endpoint)
    }

    private func isDirect(_ endpoint: Endpoint) -> Bool {
        directs.values.contains { $0.endpoint.map { complete($0) } == endpoint }
    }

    /// A connection was added.
    mutating func onConnected(_ id: ConnectionID, _ link: Link) {
        links[id] = link
        guard let endpoint = dials[id] else { return }
        targets[endpoint]?.state = .connected
        targets[endpoint]?.peer = link.peer
        targets[endpoint]?.lastError = nil
        targets[endpoint]?.isHeldByLimit = false
    }

    /// A handshake told who lives at a dialled address.
    mutating func onFound(_ id: ConnectionID, _ peer: PeerName) {
        guard let endpoint = dials[id] else { return }
        targets[endpoint]?.peer = peer
    }

    /// An attempt failed before there was a connection.
    mutating func onDialFailed(
        _ id: ConnectionID, reason: String, now: MonotonicTime, using generator: inout SeededGenerator
    ) {
        guard let endpoint = dials.removeValue(forKey: id), targets[endpoint]?.state == .attempting(id) else { return }
        targets[endpoint]?.backOff(reason, now: now, using: &generator)
    }

    /// A connection ended, or a handshake failed. `never` when it makes no sense to try again.
    mutating func onTerminated(
        _ id: ConnectionID, reason: String, never: Bool = false, isSelf: Bool = false, now: MonotonicTime,
        using generator: inout SeededGenerator
    ) {
        if !isSelf { terminationCount += 1 }
        if links.removeValue(forKey: id) != nil { releaseHeldTargets(now) }
        guard let endpoint = dials.removeValue(forKey: id), let target = targets[endpoint] else { return }
        guard target.state == .attempting(id) || target.state == .connected else { return }
        if never {
            targets[endpoint]?.state = .waiting
            targets[endpoint]?.lastError = reason
            targets[endpoint]?.tryAfter = nil
            targets[endpoint]?.interval = Self.maximumInterval
        } else if let tried = target.tryAfter, now > tried + Self.goodLifetime {
            targets[endpoint]?.state = .waiting
            targets[endpoint]?.lastError = reason
            targets[endpoint]?.tryAfter = now
            targets[endpoint]?.interval = Self.initialInterval
        } else {
            targets[endpoint]?.backOff(reason, now: now, using: &generator)
        }
    }

    /// A place became free: those who waited for one are due.
    private mutating func releaseHeldTargets(_ now: MonotonicTime) {
        for endpoint in targets.keys where targets[endpoint]?.isHeldByLimit == true {
            targets[endpoint]?.isHeldByLimit = false
            targets[endpoint]?.tryAfter = now
        }
    }

    // MARK: Checking

    var isFull: Bool { limit > 0 && links.count >= limit }

    /// Goes through the targets and says what to do now. `discovered` are the addresses at which the topology shows peers
    /// we are not connected to; nil when nobody looked, and then what was discovered before waits.
    ///
    /// `isWorthAPlace` tells whether a connection could go for that peer, or for one whose name is not known yet;
    /// `hasNoPlace` whether a peer would refuse us as things stand, so that trying its address would be for nothing.
    ///
    /// - Returns: the actions, and when to check again at the latest.
    mutating func check(
        discovered: Set<Discovered>?, isWorthAPlace: (PeerName?) -> Bool = { _ in false },
        hasNoPlace: (PeerName) -> Bool = { _ in false }, now: MonotonicTime, using generator: inout SeededGenerator
    ) -> (actions: [Action], next: MonotonicTime?) {
        var actions: [Action] = []
        var next: MonotonicTime?
        func wake(_ time: MonotonicTime?) {
            guard let time else { return }
            next = next.map { min($0, time) } ?? time
        }
        awaitsPlaces = false
        lookUp(now: now, &actions, wake)
        let valid = validTargets(discovered ?? [], now: now)
        // Attempts under way may each take a place: more of them than there are places would be ended again by us.
        let underWay = attemptsUnderWay
        var places = Self.maximumAttempts - underWay
        if limit > 0 { places = min(places, limit - links.count - underWay) }
        var due: [(endpoint: Endpoint, isDirect: Bool)] = []
        for endpoint in targets.keys.sorted(by: Self.inOrder) {
            guard let target = targets[endpoint], target.state == .waiting || target.state == .suspended else {
                continue
            }
            guard let isDirect = valid[endpoint] else {
                if self.isDirect(endpoint) {
                    targets[endpoint]?.state = .suspended
                } else if discovered != nil {
                    targets[endpoint] = nil
                }
                continue
            }
            targets[endpoint]?.state = .waiting
            guard target.tryAfter != nil else { continue }
            if isDirect { awaitPlace(endpoint, hasNoPlace, now: now, using: &generator) }
            guard let tryAfter = targets[endpoint]?.tryAfter, tryAfter <= now else {
                wake(targets[endpoint]?.tryAfter)
                continue
            }
            // The operator's targets may lead to peers that nobody here reaches: those are worth a place.
            guard !isFull || isDirect && isWorthAPlace(target.peer) else {
                targets[endpoint]?.backOff(Self.limitReached(limit), now: now, using: &generator)
                targets[endpoint]?.isHeldByLimit = true
                wake(targets[endpoint]?.tryAfter)
                continue
            }
            due.append((endpoint, isDirect))
        }
        var room = pacing.room(now) { [dials, targets] id in
            dials[id].map { targets[$0]?.state == .attempting(id) } ?? false
        }
        // Or all who have the same targets would go to the same few first.
        if due.count > room { due.shuffle(using: &generator) }
        for (endpoint, isDirect) in due where places > 0 || isDirect {
            guard room > 0 else {
                wake(pacing.next)
                break
            }
            (places, room) = (places - 1, room - 1)
            actions.append(attempt(endpoint, isDirect: isDirect, now: now))
        }
        return (actions, next)
    }

    private var attemptsUnderWay: Int {
        targets.values.reduce(0) { count, target in
            if case .attempting = target.state { count + 1 } else { count }
        }
    }

    /// A fixed order of addresses, so that a run can be repeated.
    private static func inOrder(_ left: Endpoint, _ right: Endpoint) -> Bool {
        func key(_ endpoint: Endpoint) -> (UInt64, UInt64, UInt16) {
            switch endpoint.address {
            case .v4(let address): (0, UInt64(address.rawValue), endpoint.port)
            case .v6(let address): (address.high, address.low, endpoint.port)
            }
        }
        return key(left) < key(right)
    }

    /// Where peers are being tried without trouble so far: no reason to look for other addresses of theirs.
    var promisingTargets: [PeerName: Endpoint] {
        var promising: [PeerName: Endpoint] = [:]
        for (endpoint, target) in targets where target.lastError == nil {
            if let peer = target.peer { promising[peer] = endpoint }
        }
        return promising
    }

    static func limitReached(_ limit: Int) -> String { "Connection limit reached (\(limit))" }

    /// Dials, or looks up the name of the target again first.
    private mutating func attempt(_ endpoint: Endpoint, isDirect: Bool, now: MonotonicTime) -> Action {
        let named = directs.filter {
            $0.value.address.literal == nil && $0.value.endpoint.map { complete($0) } == endpoint
        }
        if let (text, direct) = named.min(by: { $0.key < $1.key }), !direct.isFresh {
            targets[endpoint]?.state = .resolving
            return .resolve(target: text, host: direct.address.host, service: direct.address.service)
        }
        for text in named.keys { directs[text]?.isFresh = false }
        let id = makeID()
        dials[id] = endpoint
        pacing.note(id, now)
        targets[endpoint]?.state = .attempting(id)
        targets[endpoint]?.awaitsPlace = false
        return .dial(id, endpoint, acceptAnyName: isDirect)
    }

    /// Looks up the names that have no address yet.
    private mutating func lookUp(now: MonotonicTime, _ actions: inout [Action], _ wake: (MonotonicTime?) -> Void) {
        for text in directs.keys.sorted() {
            guard let direct = directs[text], direct.endpoint == nil, direct.lookup.state == .waiting else { continue }
            guard let tryAfter = direct.lookup.tryAfter, tryAfter <= now else {
                wake(direct.lookup.tryAfter)
                continue
            }
            directs[text]?.lookup.state = .resolving
            actions.append(.resolve(target: text, host: direct.address.host, service: direct.address.service))
        }
    }

    /// The addresses that should have a connection and have none; whether they are direct targets.
    private mutating func validTargets(_ discovered: Set<Discovered>, now: MonotonicTime) -> [Endpoint: Bool] {
        let connectedPeers = Set(links.values.map(\.peer))
        let connectedEndpoints = Set(links.values.map(\.endpoint))
        let inboundAddresses = Set(links.values.lazy.filter { !$0.outbound }.map(\.endpoint.address))
        var valid: [Endpoint: Bool] = [:]
        func consider(_ endpoint: Endpoint, isDirect: Bool, peer: PeerName?, courteous: Bool) {
            guard !connectedEndpoints.contains(endpoint) else { return }
            // Whoever was found there is connected some other way: another connection would lose at once.
            if let found = targets[endpoint]?.peer, connectedPeers.contains(found) { return }
            valid[endpoint] = isDirect || valid[endpoint] == true
            guard targets[endpoint] == nil, targets.count < Self.maximumTargets else { return }
            targets[endpoint] = Target(tryAfter: courteous ? now + Self.courtesy : now, peer: peer)
        }
        for direct in directs.values {
            guard let endpoint = direct.endpoint else { continue }
            if endpoint.port == 0, inboundAddresses.contains(endpoint.address) { continue }
            consider(complete(endpoint), isDirect: true, peer: nil, courteous: false)
        }
        for found in discovered {
            consider(found.endpoint, isDirect: false, peer: found.peer, courteous: ourself > found.peer)
        }
        return valid
    }

    // MARK: Status

    /// Targets that have no connection, as the operator sees them.
    func status(now: MonotonicTime) -> [MeshStatus.Connection] {
        var rows: [MeshStatus.Connection] = []
        func add(_ address: String, _ target: Target) {
            var state: MeshStatus.ConnectionState
            switch target.state {
            case .connected, .suspended: return
            case .waiting: state = target.lastError == nil ? .waiting : .failed
            case .attempting, .resolving: state = target.lastError == nil ? .connecting : .retrying
            }
            let isWaiting = target.state == .waiting
            rows.append(
                MeshStatus.Connection(
                    address: address, outbound: true, state: state, lastError: target.lastError,
                    retryIn: isWaiting ? target.tryAfter.map { max(.zero, $0 - now) } : nil,
                    neverRetry: isWaiting && target.tryAfter == nil))
        }
        for (text, direct) in directs.sorted(by: { $0.key < $1.key }) where direct.endpoint == nil {
            add(text, direct.lookup)
        }
        for (endpoint, target) in targets.sorted(by: { Self.inOrder($0.key, $1.key) }) {
            add(endpoint.description, target)
        }
        return rows
    }
}

extension ConnectionMaker.Target {
    /// Waits for longer than the last time: for the interval, give or take half of it.
    mutating func backOff(_ reason: String, now: MonotonicTime, using generator: inout SeededGenerator) {
        let jitter = Duration.nanoseconds(
            Int64.random(in: 0..<max(1, interval.wholeNanoseconds), using: &generator))
        state = .waiting
        lastError = reason
        tryAfter = now + interval / 2 + jitter
        interval = min(interval * 3 / 2, ConnectionMaker.maximumInterval)
    }
}
