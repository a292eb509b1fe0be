import Testing
import WeaveCore

@testable import WeaveMesh

#if canImport(Glibc)
    import Glibc
#endif

/// Cores joined by ideal links: what one sends the other gets a moment later. Virtual time.
private final class CoreNetwork {
    struct Event {
        var due: MonotonicTime
        var order: UInt64
        var run: () -> Void
    }

    struct End: Hashable {
        var peer: Int
        var id: ConnectionID
    }

    private(set) var cores: [MeshCore] = []
    private(set) var now = MonotonicTime.zero
    private var events: [Event] = []
    private var order: UInt64 = 0
    private var far: [End: End] = [:]
    private var generator: SeededGenerator
    /// Peers that do not take digests, as 2.8.1.
    private let plain: Set<Int>
    /// Peers that nobody can connect to, and who cannot connect.
    var isolated: Set<Int> = []
    var messages = 0
    var bytes = 0
    var deliveries: [(at: Int, MeshDelivery)] = []
    var dials = 0
    var closes: [String: Int] = [:]
    static let latency = Duration.milliseconds(1)

    init(count: Int, plain: Set<Int> = [], discovery: Bool = true, seed: UInt64) {
        generator = SeededGenerator(seed: seed)
        self.plain = plain
        for index in 0..<count {
            cores.append(
                MeshCore(
                    configuration: MeshCoreConfiguration(
                        name: Self.name(index), nickname: "host\(index)", uid: generator.next() | 1,
                        discovery: discovery),
                    seed: generator.next(), now: .zero))
        }
    }

    static func name(_ index: Int) -> PeerName { PeerName(truncating: 0x7a00_0000_0000 + UInt64(index)) }

    private static func address(_ index: Int) -> IPAddress {
        .v4(IPv4Address(rawValue: 0x0a00_0001 + UInt32(index)))
    }

    static func endpoint(_ index: Int) -> Endpoint { Endpoint(address(index), port: 6783) }

    func restart(_ index: Int) {
        for end in far.keys.filter({ $0.peer == index }) { drop(end) }
        cores[index] = MeshCore(
            configuration: MeshCoreConfiguration(
                name: Self.name(index), nickname: "host\(index)", uid: generator.next() | 1),
            seed: generator.next(), now: now)
    }

    func drop(_ end: End) {
        guard let other = far.removeValue(forKey: end) else { return }
        far[other] = nil
        with(other.peer) { $0.onConnectionClosed(other.id, reason: "EOF", now: self.now) }
        with(end.peer) { $0.onConnectionClosed(end.id, reason: "EOF", now: self.now) }
    }

    func with(_ index: Int, _ body: (inout MeshCore) -> [MeshDirective]) {
        for directive in body(&cores[index]) { carryOut(directive, at: index) }
    }

    private func after(_ delay: Duration, _ run: @escaping () -> Void) {
        order += 1
        let event = Event(due: now + delay, order: order, run: run)
        var low = 0
        var high = events.count
        while low < high {
            let middle = (low + high) / 2
            if events[middle].due <= event.due { low = middle + 1 } else { high = middle }
        }
        events.insert(event, at: low)
    }

    private func carryOut(_ directive: MeshDirective, at index: Int) {
        switch directive {
        case .dial(let id, let endpoint, _):
            dials += 1
            after(Self.latency) { self.connect(index, id, endpoint) }
        case .close(let id, let reason):
            closes[String(reason.prefix(20)), default: 0] += 1
            let end = End(peer: index, id: id)
            guard let other = far.removeValue(forKey: end) else { return }
            far[other] = nil
            after(Self.latency) {
                self.with(other.peer) { $0.onConnectionClosed(other.id, reason: "EOF", now: self.now) }
            }
        case .wake(let id): after(.microseconds(100)) { self.pump(End(peer: index, id: id)) }
        case .accepted(let id):
            after(.milliseconds(20)) { self.with(index) { $0.establish(id, now: self.now) } }
        case .deliver(let delivery):
            deliveries.append((index, delivery))
            let data: (any GossipData)? = delivery.kind == .broadcast ? OpaqueGossip(delivery.payload) : nil
            with(index) { $0.onHandlerResult(delivery, data, now: self.now) }
        case .requestState(let request): with(index) { $0.onState(request, nil, now: self.now) }
        default: break
        }
    }

    private func connect(_ index: Int, _ id: ConnectionID, _ endpoint: Endpoint) {
        guard let other = (0..<cores.count).first(where: { Self.endpoint($0) == endpoint }),
            isolated.isDisjoint(with: [index, other])
        else {
            return with(index) { $0.onDialFailed(id, reason: "connection refused", now: self.now) }
        }
        let far = cores[other].makeConnectionID()
        self.far[End(peer: index, id: id)] = End(peer: other, id: far)
        self.far[End(peer: other, id: far)] = End(peer: index, id: id)
        let uid = generator.next()
        let ephemeral = Endpoint(Self.address(index), port: UInt16(20000 + uid % 40000))
        let features = plain.isDisjoint(with: [index, other]) ? MeshCore.announcedFeatures : [:]
        let near = introduction(of: index, uid, features)
        let remote = introduction(of: other, uid, features)
        with(other) {
            $0.onConnectionReady(far, near, local: endpoint, remote: ephemeral, outbound: false, now: self.now)
        }
        guard self.far[End(peer: index, id: id)] != nil else {
            return with(index) { $0.onHandshakeFailed(id, reason: "reset", now: self.now) }
        }
        with(index) {
            $0.onConnectionReady(id, remote, local: ephemeral, remote: endpoint, outbound: true, now: self.now)
        }
    }

    private func introduction(of index: Int, _ uid: UInt64, _ features: [String: String]) -> RemoteIntroduction {
        let core = cores[index].configuration
        return RemoteIntroduction(
            name: core.name, nickname: core.nickname, uid: core.uid, connectionUID: uid, shortID: cores[index].shortID,
            features: features)
    }

    private func pump(_ end: End) {
        while let message = cores[end.peer].nextMessage(for: end.id, now: now) {
            guard let other = far[end] else { continue }
            messages += 1
            bytes += message.payload.count
            after(Self.latency) {
                self.with(other.peer) {
                    $0.onMessage(other.id, tag: message.tag.rawValue, payload: message.payload, now: self.now)
                }
            }
        }
    }

    /// Runs until `end` or until the condition holds, looked at every 100 ms of virtual time.
    func run(until end: MonotonicTime, _ condition: () -> Bool = { false }) {
        var nextLook = now
        while true {
            let deadline = cores.compactMap(\.nextDeadline).min() ?? .distantFuture
            let due = min(events.first?.due ?? .distantFuture, deadline)
            guard due <= end else { break }
            now = max(now, due)
            if deadline <= now {
                for index in cores.indices where cores[index].nextDeadline ?? .distantFuture <= now {
                    with(index) { $0.onTimer(now: self.now) }
                }
            }
            let count = events.prefix { $0.due <= now }.count
            let ready = events.prefix(count)
            events.removeFirst(count)
            for event in ready { event.run() }
            if now >= nextLook {
                if condition() { return }
                nextLook = now + .milliseconds(100)
            }
        }
        now = end
    }

    /// Whether everybody has the same records and routes to everybody.
    var agrees: Bool {
        guard let first = cores.first?.table.described else { return false }
        return cores.allSatisfy { core in
            core.routes.unicast.count == cores.count - 1 && core.table.count == cores.count
        } && cores.allSatisfy { $0.table.described == first }
    }

    var isFullMesh: Bool {
        cores.allSatisfy { core in
            core.connections.count == cores.count - 1 && core.routes.unicast.count == cores.count - 1
                && core.routes.unicast.allSatisfy { $0.key == $0.value }
        }
    }
}

extension MeshCore {
    /// The overlay of a connection came up, unless the connection is gone.
    fileprivate mutating func establish(_ id: ConnectionID, now: MonotonicTime) -> [MeshDirective] {
        connections[id] == nil ? [] : onOverlayEstablished(id, now: now)
    }
}

private func processorSeconds() -> Double { Double(clock()) / Double(CLOCKS_PER_SEC) }

@Suite("Cores together")
struct CoreMeshTests {
    @Test("of digests and without find each other and agree", arguments: [0, 3, 6])
    func formation(_ plainCount: Int) {
        let network = CoreNetwork(count: 6, plain: Set(0..<plainCount), seed: 11)
        for index in 1..<6 {
            network.with(index) { $0.connect([CoreNetwork.endpoint(index - 1).description], now: .zero).directives }
        }
        network.run(until: moment(20)) { network.isFullMesh && network.agrees }
        #expect(network.isFullMesh)
        #expect(network.agrees)
        #expect(network.now < moment(10))
    }

    @Test("hear each broadcast once, and unicasts arrive over several hops")
    func delivery() {
        let network = CoreNetwork(count: 5, plain: [2], discovery: false, seed: 12)
        for index in 0..<5 { register(network, index) }
        for index in 1..<5 {
            network.with(index) { $0.connect([CoreNetwork.endpoint(index - 1).description], now: .zero).directives }
        }
        network.run(until: moment(15)) { network.agrees }
        network.with(0) { $0.broadcast("test", OpaqueGossip([1, 2, 3]), now: network.now) }
        network.run(until: network.now + .seconds(1))
        #expect(network.deliveries.map(\.at).sorted() == [1, 2, 3, 4])
        #expect(network.deliveries.allSatisfy { $0.1.source == CoreNetwork.name(0) && $0.1.payload == [1, 2, 3] })
        network.deliveries = []
        network.with(4) { core in
            (try? core.unicast("test", to: CoreNetwork.name(0), [9], now: network.now)) ?? []
        }
        network.run(until: network.now + .seconds(1))
        #expect(network.deliveries.map(\.at) == [0])
        #expect(network.deliveries.first?.1.source == CoreNetwork.name(4))
    }

    private func register(_ network: CoreNetwork, _ index: Int) {
        var isRegistered = false
        network.with(index) { core in
            isRegistered = (try? core.registerChannel("test")) != nil
            return []
        }
        #expect(isRegistered)
    }

    @Test("learn that a peer began a new life", arguments: [true, false])
    func restart(digests: Bool) {
        let network = CoreNetwork(count: 4, plain: digests ? [] : [0, 1, 2, 3], seed: 13)
        for index in 1..<4 {
            network.with(index) { $0.connect([CoreNetwork.endpoint(0).description], now: .zero).directives }
        }
        network.run(until: moment(10)) { network.isFullMesh && network.agrees }
        network.run(until: network.now + .seconds(2))
        let old = network.cores[0].table.own.uid
        network.restart(3)
        network.run(until: network.now + .seconds(20)) {
            network.isFullMesh && network.agrees
        }
        #expect(network.isFullMesh)
        #expect(network.agrees)
        #expect(network.cores[3].table.own.uid != old)
    }

    @Test("forget a peer that is gone")
    func departure() {
        let network = CoreNetwork(count: 4, seed: 14)
        for index in 1..<4 {
            network.with(index) { $0.connect([CoreNetwork.endpoint(0).description], now: .zero).directives }
        }
        network.run(until: moment(10)) { network.isFullMesh && network.agrees }
        network.isolated = [3]
        for id in network.cores[3].connections.keys {
            network.with(3) { $0.onOverlayFailed(id, reason: "gone", now: network.now) }
        }
        let before = network.now
        network.run(until: network.now + .seconds(5)) {
            network.cores.prefix(3).allSatisfy { $0.table.slot(of: CoreNetwork.name(3)) == nil }
        }
        // A second until the others tell, and three until what became unreachable is looked for.
        #expect(network.now < before + .seconds(5))
    }

    @Test("a hundred in a storm take seconds of one processor", arguments: ["one seed"])
    func storm(_ shape: String) {
        #if DEBUG
            let count = 30
        #else
            let count = 100
        #endif
        let network = CoreNetwork(count: count, seed: 15)
        let begin = processorSeconds()
        for index in 1..<count {
            network.with(index) { $0.connect([CoreNetwork.endpoint(0).description], now: .zero).directives }
        }
        network.run(until: moment(30)) { network.isFullMesh }
        let meshed = network.now
        let used = processorSeconds() - begin
        let routes = network.cores.reduce(0) { $0 + $1.statistics.routeCalculations }
        let improved = network.cores.reduce(0) { $0 + $1.statistics.improvedRecords }
        let stale = network.cores.reduce(0) { $0 + $1.statistics.staleRecords }
        print(
            "storm of \(count): full mesh at \(meshed), \(used) CPU s, \(network.messages) messages of"
                + " \(network.bytes >> 20) MiB, \(network.dials) dials, \(routes) route calculations,"
                + " \(improved) records improved, \(stale) stale, closes \(network.closes)")
        #expect(network.isFullMesh)
        network.run(until: network.now + .seconds(5)) { network.agrees }
        #expect(network.agrees)
        let idleBegin = (processorSeconds(), network.messages, network.now)
        network.run(until: network.now + .seconds(60))
        print(
            "idle for \(network.now - idleBegin.2): \(processorSeconds() - idleBegin.0) CPU s,"
                + " \(network.messages - idleBegin.1) messages")
    }
}
