import WeaveCore

@testable import WeaveIPAM

/// Many allocators on virtual time, with containers that come and go, partitions, crashes at any instant, restarts, peers that die and
/// are removed; and with what must hold all the while.
struct AllocatorSimulation<Transport: AllocatorTransport> {
    struct Options {
        var peers = 20
        var operations = 2000
        var universe = "10.0.0.0/23"
        var isSeeded = false
        /// How peer number so and so behaves.
        var policy: (Int) -> AllocatorPolicy = { _ in .standard }
        /// Between two operations, on average.
        var pace: Duration = .milliseconds(400)
    }

    struct Node {
        var name: PeerName
        var number: Int
        var life: UInt64 = 0
        var allocator: Allocator?
        var stored: StoredState?
        /// When everybody may restart it; nil while it runs, or when it never will.
        var restart: MonotonicTime?
        var isDead = false
        var isRemoved = false
        /// Since when no ring names it, when it is removed.
        var unownedSince: MonotonicTime?
        var diedAt = MonotonicTime.zero
        /// What runs on the host, acknowledged, and its address.
        var containers: [String: IPv4Address] = [:]
        var nextGossip: MonotonicTime
    }

    private struct Request {
        var node: Int
        var ident: String
        var claimed: IPv4Address?
        var timeout: MonotonicTime
    }

    private let options: Options
    private let seed: UInt64
    private var generator: SeededGenerator
    private(set) var transport: Transport
    private(set) var nodes: [Node] = []
    private var now = MonotonicTime.zero
    private var requests: [RequestID: Request] = [:]
    private var lastRequest: UInt64 = 0
    /// Who has each address, by acknowledgement.
    private var holders: [IPv4Address: (node: Int, ident: String)] = [:]
    private var isPartitioned = false
    private var calm = false
    private var operated = 0
    /// What each peer was last told of the others.
    private var told: [PeerName: Set<PeerName>] = [:]

    private(set) var faults: [String] = []
    /// What seldom happens, in order; and what each peer believed when an address was given twice.
    private(set) var history: [String] = []
    private(set) var counts: [String: Int] = [:]

    init(seed: UInt64, options: Options, transport: Transport) throws {
        self.seed = seed
        self.options = options
        self.transport = transport
        generator = SeededGenerator(seed: seed)
        for number in 1...options.peers {
            let offset = Duration.milliseconds(Int64.random(in: 0..<30_000, using: &generator))
            nodes.append(Node(name: transport.name(of: number), number: number, nextGossip: .zero + offset))
        }
        regroup()
        for index in nodes.indices { start(index) }
    }

    private var time: AllocatorTime {
        AllocatorTime(now, unixSeconds: 1_600_000_000 + now.nanoseconds / 1_000_000_000)
    }

    private mutating func fault(_ text: String) {
        if faults.count < 10 { faults.append("seed \(seed), at \(now): \(text)") }
    }

    private mutating func note(_ text: String) { history.append("at \(now): \(text)") }

    private mutating func count(_ what: String) { counts[what, default: 0] += 1 }

    // MARK: Running

    /// Carries out all operations, lets the faults end, and looks at what is left.
    mutating func run() {
        var nextOperation = now
        for _ in 0..<options.operations where faults.isEmpty {
            nextOperation = nextOperation + options.pace * Double.random(in: 0..<2, using: &generator)
            advance(to: nextOperation)
            operate()
        }
        calm = true
        isPartitioned = false
        for index in nodes.indices where nodes[index].restart != nil { nodes[index].restart = now }
        advance(to: now + .seconds(1))
        regroup()
        for _ in 0..<60 {
            advance(to: now + .seconds(5))
            tellPresence()
        }
        judge()
    }

    private mutating func advance(to end: MonotonicTime) {
        while faults.isEmpty {
            guard let next = nextEvent, next <= end else { break }
            now = max(now, next)
            step()
        }
        now = max(now, end)
    }

    private var nextEvent: MonotonicTime? {
        var next = transport.nextArrival
        func consider(_ time: MonotonicTime?) { if let time { next = min(next ?? time, time) } }
        for node in nodes {
            consider(node.restart)
            guard let allocator = node.allocator else { continue }
            consider(allocator.nextDeadline)
            consider(node.nextGossip)
        }
        for request in requests.values { consider(request.timeout) }
        return next
    }

    private mutating func step() {
        for index in nodes.indices where nodes[index].restart.map({ $0 <= now }) ?? false {
            nodes[index].restart = nil
            regroup()
            start(index)
        }
        for arrival in transport.arrivals(by: now) { deliver(arrival) }
        for index in nodes.indices {
            guard let allocator = nodes[index].allocator else { continue }
            if allocator.nextDeadline.map({ $0 <= now }) ?? false { perform(index) { $0.onTick(now: $1) } }
            if nodes[index].nextGossip <= now, let allocator = nodes[index].allocator {
                nodes[index].nextGossip = now + .seconds(30)
                transport.gossip(allocator.state(unixSeconds: time.unixSeconds), from: nodes[index].name, now: now)
            }
        }
        for (id, request) in requests.sorted(by: { $0.key.value < $1.key.value }) where request.timeout <= now {
            perform(request.node) { $0.onCancel(id, now: $1) }
            if requests[id] != nil, nodes[request.node].allocator != nil {
                fault("request \(id.value) of \(request.ident) did not end when it was cancelled")
            }
            requests[id] = nil
        }
    }

    private mutating func deliver(_ arrival: AllocatorArrival) {
        guard let index = nodes.firstIndex(where: { $0.name == arrival.to }), nodes[index].allocator != nil else {
            return
        }
        var refusal: IPAMError?
        perform(index) { allocator, time in
            let outcome: (directives: [AllocatorDirective], error: IPAMError?)
            switch arrival.payload {
            case .message(let message): outcome = allocator.onMessage(message, from: arrival.from, now: time)
            case .broadcast(let state): outcome = allocator.onState(state, from: arrival.from, now: time)
            case .gossip(let state): outcome = allocator.onState(state, from: nil, now: time)
            }
            refusal = outcome.error
            return outcome.directives
        }
        if let refusal { fault("\(arrival.to) refused what \(arrival.from) said: \(refusal)") }
    }

    // MARK: Peers

    private mutating func start(_ index: Int) {
        nodes[index].life += 1
        let everybody = (1...options.peers).map { transport.name(of: $0) }
        // A seed would make an empty disk believe in the first division again, as if nothing had been traded since.
        let first = options.isSeeded ? AllocatorConfiguration.Start.seed(everybody) : .consensus
        let start = nodes[index].isRemoved ? .observer : first
        let configuration = AllocatorConfiguration(
            peer: nodes[index].name, uid: UInt64(nodes[index].number) << 16 | nodes[index].life,
            nickname: "host\(nodes[index].number)", universe: cidr(options.universe),
            start: start,
            quorum: AllocatorConfiguration.quorum(among: options.peers), policy: options.policy(nodes[index].number))
        let generator = SeededGenerator(seed: self.generator.next())
        guard let allocator = try? Allocator(configuration, generator: generator) else { return }
        nodes[index].allocator = allocator
        told[nodes[index].name] = nil
        let stored = nodes[index].stored
        perform(index) { $0.onStart(stored: stored, now: $1) }
        tellPresence()
        introduce()
        for (ident, address) in nodes[index].containers where nodes[index].allocator?.holders[address] != ident {
            fault("\(address) of \(ident) was acknowledged and is forgotten after a restart of \(nodes[index].name)")
        }
    }

    /// One turn of one allocator, and its directives; now and then the peer crashes somewhere among them.
    private mutating func perform(
        _ index: Int, mayCrash: Bool = true, _ event: (inout Allocator, AllocatorTime) -> [AllocatorDirective]
    ) {
        guard var allocator = nodes[index].allocator else { return }
        let directives = event(&allocator, time)
        nodes[index].allocator = allocator
        let crashes = !calm && mayCrash && isRingEverywhere && Int.random(in: 0..<4000, using: &generator) == 0
        let end = crashes ? Int.random(in: 0...directives.count, using: &generator) : directives.count
        if end > 0 || directives.isEmpty {
            transport.publish(allocator.state(unixSeconds: time.unixSeconds), of: allocator.peer)
        }
        for directive in directives.prefix(end) { carryOut(directive, index) }
        if crashes { crash(index) }
    }

    private mutating func carryOut(_ directive: AllocatorDirective, _ index: Int) {
        switch directive {
        case .persist(let transaction):
            var state = nodes[index].stored ?? StoredState(peer: transaction.peer, ring: nil, owned: [:])
            state.apply(transaction)
            nodes[index].stored = state
        case .unicast(let peer, let message):
            let reason = transport.unicast(message, from: nodes[index].name, to: peer, now: now)
            if let reason {
                perform(index, mayCrash: false) {
                    $0.onUnicastFailed(to: peer, message, reason: reason, now: $1)
                }
            }
        case .broadcast:
            guard let allocator = nodes[index].allocator else { return }
            transport.broadcast(allocator.state(unixSeconds: time.unixSeconds), from: nodes[index].name, now: now)
        case .complete(let id, let reply): complete(id, reply)
        case .log(.error, let text): fault("\(nodes[index].name): \(text)")
        case .log: break
        }
    }

    private mutating func complete(_ id: RequestID, _ reply: AllocatorReply) {
        guard let request = requests.removeValue(forKey: id) else { return }
        switch reply {
        case .address(let cidr): hold(cidr.address, request)
        case .done: if let address = request.claimed { hold(address, request) }
        case .failed(let error): count(error.code == .cancelled ? "cancelled" : "refused")
        case .transferred: count("transferred")
        }
    }

    private mutating func hold(_ address: IPv4Address, _ request: Request) {
        if let holder = holders[address], holder != (request.node, request.ident) {
            for node in nodes {
                guard let ring = node.stored?.ring, let entry = ring.index(owning: Int(address.rawValue)) else {
                    continue
                }
                history.append("\(node.name) says of \(address): \(ring.entries[entry])")
            }
            return fault(
                "\(address) given to \(request.ident) on \(nodes[request.node].name) "
                    + "while \(holder.ident) has it on \(nodes[holder.node].name)")
        }
        count("granted")
        holders[address] = (request.node, request.ident)
        nodes[request.node].containers[request.ident] = address
    }

    private mutating func crash(_ index: Int) {
        count("crashes")
        note("\(nodes[index].name) crashes")
        nodes[index].allocator = nil
        nodes[index].restart = now + .seconds(Double.random(in: 0.1..<40, using: &generator))
        // Whoever asked lost the connection. What was granted and not acknowledged may be anybody's.
        requests = requests.filter { $0.value.node != index }
        regroup()
    }

    private var isRingEverywhere: Bool { nodes.allSatisfy { $0.isDead || $0.stored?.ring?.isEmpty == false } }

    // MARK: The network

    private mutating func regroup() {
        let running = nodes.indices.filter { !nodes[$0].isDead && nodes[$0].restart == nil }
        var groups: [Set<PeerName>] = [[], []]
        for index in running {
            let side = isPartitioned ? Int.random(in: 0..<2, using: &generator) : 0
            groups[side].insert(nodes[index].name)
        }
        transport.setGroups(groups, now: now)
        tellPresence()
        introduce()
    }

    private mutating func tellPresence() {
        for index in nodes.indices where nodes[index].allocator != nil {
            let present = transport.present(at: nodes[index].name)
            guard told.updateValue(present, forKey: nodes[index].name) != present else { continue }
            perform(index, mayCrash: false) { $0.onPeersChanged(present, now: $1) }
        }
    }

    private mutating func introduce() {
        let states = nodes.compactMap { node in
            node.allocator.map { (node.name, $0.state(unixSeconds: time.unixSeconds)) }
        }
        let byName = Dictionary(uniqueKeysWithValues: states)
        transport.introduce(now: now) { byName[$0] }
    }

    // MARK: Operations

    private mutating func operate() {
        operated += 1
        if transport.discoversPresence, operated % 4 == 0 { tellPresence() }
        switch Int.random(in: 0..<1000, using: &generator) {
        case 0..<12: partition()
        case 12..<16: if isRingEverywhere, let index = randomNode() { crash(index) }
        case 16..<19: killOne()
        case 19..<29: removeDead()
        case 29: leaveOne()
        case 30..<36: bringBack()
        case 36..<80: claimOne()
        case 80..<110: dieOne()
        case 110..<560: allocateOne()
        default: deleteOne()
        }
    }

    private mutating func randomNode() -> Int? {
        nodes.indices.filter { nodes[$0].allocator != nil }.randomElement(using: &generator)
    }

    private mutating func newRequest(_ node: Int, _ ident: String, claimed: IPv4Address? = nil) -> RequestID {
        lastRequest += 1
        let patience = Duration.seconds(Double.random(in: 5..<60, using: &generator))
        requests[RequestID(lastRequest)] = Request(node: node, ident: ident, claimed: claimed, timeout: now + patience)
        return RequestID(lastRequest)
    }

    private mutating func allocateOne() {
        guard let index = randomNode() else { return }
        let isRepeated = Int.random(in: 0..<20, using: &generator) == 0
        let known = isRepeated ? nodes[index].containers.keys.sorted().randomElement(using: &generator) : nil
        let ident = known ?? "c\(lastRequest)"
        let id = newRequest(index, ident)
        let subnets = [options.universe, options.universe, "10.0.0.0/25", "10.0.0.192/26", "10.0.0.64/28"]
        let subnet = cidr(
            known == nil ? subnets.randomElement(using: &generator) ?? options.universe : options.universe)
        count("allocations")
        perform(index) { $0.onAllocate(id, ident: ident, subnet: subnet, isContainer: true, now: $1) }
    }

    private mutating func claimOne() {
        guard let index = randomNode() else { return }
        let universe = cidr(options.universe)
        let address = IPv4Address(universe.range.start + Int.random(in: 0..<universe.size, using: &generator))
        let ident = "k\(lastRequest)"
        let id = newRequest(index, ident, claimed: address)
        guard let cidr = IPv4CIDR(address, prefixLength: universe.prefixLength) else { return }
        count("claims")
        perform(index) { $0.onClaim(id, ident: ident, cidr: cidr, isContainer: true, now: $1) }
    }

    private mutating func randomContainer() -> (node: Int, ident: String)? {
        guard let index = randomNode(),
            let ident = nodes[index].containers.keys.sorted().randomElement(using: &generator)
        else { return nil }
        return (index, ident)
    }

    private mutating func end(_ node: Int, _ ident: String) {
        if let address = nodes[node].containers.removeValue(forKey: ident) { holders[address] = nil }
    }

    private mutating func deleteOne() {
        guard let (index, ident) = randomContainer() else { return }
        end(index, ident)
        let id = newRequest(index, ident)
        count("deletions")
        perform(index) { $0.onDelete(id, ident: ident, now: $1) }
    }

    private mutating func dieOne() {
        guard let (index, ident) = randomContainer() else { return }
        end(index, ident)
        count("deaths")
        perform(index) { $0.onContainerDied(ident, now: $1) }
    }

    private mutating func partition() {
        isPartitioned.toggle()
        count("partitions")
        regroup()
    }

    /// The rings of all peers that live, as they are stored: whether running or about to start again.
    private var livingRings: [Ring] { nodes.compactMap { $0.isDead ? nil : $0.stored?.ring } }

    private mutating func killOne() {
        guard isRingEverywhere, nodes.count(where: { $0.isDead }) < 3, let index = randomNode() else { return }
        count("kills")
        note("\(nodes[index].name) is killed")
        nodes[index].allocator = nil
        nodes[index].isDead = true
        nodes[index].diedAt = now
        for ident in nodes[index].containers.keys { end(index, ident) }
        requests = requests.filter { $0.value.node != index }
        regroup()
    }

    /// A host leaves for good: its containers are gone, and it hands its ranges over before it stops.
    private mutating func leaveOne() {
        guard isRingEverywhere, nodes.count(where: { $0.isDead }) < 3, let index = randomNode() else { return }
        count("departures")
        note("\(nodes[index].name) leaves")
        for ident in nodes[index].containers.keys { end(index, ident) }
        perform(index, mayCrash: false) { $0.onShutdown(now: $1) }
        for (id, request) in requests where request.node == index { fault("\(id) did not end with its allocator") }
        now = now + .milliseconds(200)
        for arrival in transport.arrivals(by: now) { deliver(arrival) }
        nodes[index].allocator = nil
        nodes[index].isDead = true
        nodes[index].diedAt = now
        regroup()
    }

    /// How long until everybody has an address, when all begin together and ask at once; nil when that takes over a minute.
    mutating func coldStart() -> Duration? {
        calm = true
        for index in nodes.indices {
            let id = newRequest(index, "first\(index)")
            requests[id]?.timeout = .distantFuture
            let subnet = cidr(options.universe)
            perform(index) { $0.onAllocate(id, ident: "first\(index)", subnet: subnet, isContainer: true, now: $1) }
        }
        while !requests.isEmpty, faults.isEmpty, now < .zero + .seconds(60), let next = nextEvent {
            now = max(now, next)
            step()
        }
        return requests.isEmpty && faults.isEmpty ? now - .zero : nil
    }

    /// An operator removes a dead peer, once, on a peer that knows of everything the dead one gave to the living. More nobody
    /// can ask of a takeover: what is taken over must not be in use elsewhere.
    private mutating func removeDead() {
        // What the dead peer sent last is where it was sent to, or nowhere, by now.
        let patience = Duration.seconds(transport.discoversPresence ? 90 : 1)
        guard let index = nodes.indices.first(where: { nodes[$0].isDead && !nodes[$0].isRemoved }),
            now - nodes[index].diedAt > patience, let taker = randomNode(), let ring = nodes[taker].allocator?.ring
        else { return }
        let name = nodes[index].name
        let lost = ring.ranges(of: name)
        for other in livingRings {
            for owned in other.allRanges where owned.peer != name && lost.contains(where: { $0.overlaps(owned.range) })
            {
                return count("removals put off")
            }
        }
        nodes[index].isRemoved = true
        count("removals")
        note("\(nodes[index].name) is removed by \(nodes[taker].name)")
        let id = newRequest(taker, "operator")
        perform(taker, mayCrash: false) { $0.onTakeover(id, of: name.description, now: $1) }
    }

    /// The host of a removed peer is used again, with an empty disk, once nobody takes the peer for an owner.
    private mutating func bringBack() {
        guard let index = nodes.indices.first(where: { nodes[$0].isRemoved && nodes[$0].isDead }),
            livingRings.allSatisfy({ !$0.owners.contains(nodes[index].name) })
        else { return }
        guard let since = nodes[index].unownedSince, now - since > .seconds(transport.discoversPresence ? 90 : 1)
        else {
            nodes[index].unownedSince = nodes[index].unownedSince ?? now
            return
        }
        count("returns")
        note("\(nodes[index].name) returns")
        nodes[index].isDead = false
        nodes[index].stored = nil
        nodes[index].unownedSince = nil
        regroup()
        start(index)
        nodes[index].isRemoved = false
    }

    // MARK: Judgement

    private mutating func judge() {
        guard faults.isEmpty else { return }
        if let (id, request) = requests.first { fault("request \(id.value) of \(request.ident) never ended") }
        let running = nodes.filter { $0.allocator != nil }
        guard let first = running.first?.allocator else { return fault("nobody is left") }
        for node in running {
            guard let allocator = node.allocator else { continue }
            if (try? allocator.ring.checkInvariants()) == nil { fault("the ring of \(node.name) breaks the rules") }
            if !agree(allocator.ring, first.ring) {
                fault("\(node.name) and \(first.peer) have different rings in the end")
            }
            if allocator.ring.isEmpty { fault("\(node.name) has no ring in the end") }
            if allocator.space.ownedRanges != AddressRange.joined(allocator.ring.ranges(of: node.name)) {
                fault("the space of \(node.name) is not what the ring says")
            }
            for (ident, address) in node.containers where allocator.holders[address] != ident {
                fault("\(address) of \(ident) on \(node.name) was acknowledged and is lost")
            }
            let (primes, claims, allocations) = allocator.pendingCounts
            if primes + claims + allocations > 0 { fault("requests still wait on \(node.name)") }
            if let conflict = allocator.status().conflicts.first {
                fault("\(node.name) is in conflict: \(conflict.error)")
            }
        }
    }
}
