import Testing
import WeaveCore

@testable import WeaveMesh

@Suite("The connection maker")
struct CoreMakerTests {
    private func connect(_ core: inout MeshCore, _ targets: [String], at now: MonotonicTime = .zero) -> [MeshDirective]
    {
        let (directives, errors) = core.connect(targets, now: now)
        #expect(errors.isEmpty)
        return directives
    }

    private func row(_ core: MeshCore, _ address: String, now: MonotonicTime) -> MeshStatus.Connection? {
        core.status(now: now).connections.first { $0.address == address }
    }

    @Test(
        "understands targets",
        arguments: [
            ("10.0.0.2", "10.0.0.2", "", "10.0.0.2:0"), ("10.0.0.2:99", "10.0.0.2", "99", "10.0.0.2:99"),
            ("fd00::1", "fd00::1", "", "[fd00::1]:0"), ("[fd00::1]", "fd00::1", "", "[fd00::1]:0"),
            ("[fd00::1]:99", "fd00::1", "99", "[fd00::1]:99"), ("host", "host", "", nil),
            ("host:http", "host", "http", nil), ("10.0.0.2:http", "10.0.0.2", "http", nil),
        ] as [(String, String, String, String?)])
    func targets(_ text: String, _ host: String, _ service: String, _ literal: String?) throws {
        let address = try TargetAddress(parsing: text)
        #expect(address.host == host)
        #expect(address.service == service)
        #expect(address.literal?.description == literal)
    }

    @Test(
        "refuses what is no target",
        arguments: ["", ":80", "a:b:c", "[fd00::1", "[host]:1", "10.0.0.2:99999", "a b", "[]"])
    func badTargets(_ text: String) {
        var core = MeshCore.sample()
        let (directives, errors) = core.connect([text, "10.0.0.2"], now: .zero)
        #expect(errors.map(\.target) == [text])
        #expect(directives.dials.count == 1)
        #expect(core.status(now: .zero).targets == ["10.0.0.2"])
        if text == ":80" { #expect(errors.first?.message == "invalid peer name \":80\", should be host[:port]") }
    }

    @Test("tries again after ever longer times, up to six minutes")
    func backoff() throws {
        var core = MeshCore.sample()
        var dials = connect(&core, ["10.0.0.2"]).dials
        var interval = 2.0
        var now = MonotonicTime.zero
        for attempt in 0..<20 {
            try #require(dials.count == 1)
            #expect(dials[0].endpoint == endpoint("10.0.0.2:6783"))
            #expect(dials[0].acceptAnyName)
            let failed = core.onDialFailed(dials[0].id, reason: "connection refused", now: now)
            #expect(failed.dials.isEmpty)
            let status = try #require(row(core, "10.0.0.2:6783", now: now))
            #expect(status.state == .failed && status.lastError == "connection refused")
            let wait = try #require(status.retryIn)
            #expect(wait >= .seconds(interval / 2) && wait < .seconds(interval * 1.5), "attempt \(attempt)")
            dials = core.advance(to: now + wait).dials
            now = now + wait
            interval = min(interval * 1.5, 360)
        }
        #expect(row(core, "10.0.0.2:6783", now: now)?.state == .retrying)
        // Giving the target again makes it due at once.
        _ = core.onDialFailed(dials[0].id, reason: "x", now: now)
        let again = connect(&core, ["10.0.0.2"], at: now).dials
        #expect(again.count == 1)
        _ = core.onDialFailed(again[0].id, reason: "x", now: now)
        let wait = try #require(row(core, "10.0.0.2:6783", now: now)?.retryIn)
        #expect(wait < .seconds(3))
    }

    private func dialled(_ core: inout MeshCore, at now: MonotonicTime = .zero) throws -> ConnectionID {
        let dial = try #require(connect(&core, ["10.0.0.2"], at: now).dials.first)
        let directives = core.onConnectionReady(
            dial.id, introduction(0x20), local: endpoint("10.0.0.1:5000"), remote: dial.endpoint, outbound: true,
            now: now)
        #expect(directives.accepted == [dial.id])
        return dial.id
    }

    @Test("starts afresh after a connection that lived more than a minute", arguments: [30.0, 61.0])
    func lifetime(_ lived: Double) throws {
        var core = MeshCore.sample()
        let id = try dialled(&core)
        #expect(row(core, "10.0.0.2:6783", now: .zero)?.state == .pending)
        let end = moment(lived)
        let directives = core.onConnectionClosed(id, reason: "EOF", now: end) + core.advance(to: end)
        #expect(directives.dials.count == (lived > 60 ? 1 : 0))
        #expect(core.status(now: end).terminationCount == 1)
    }

    @Test("never tries itself or a peer of its name again, until told to", arguments: [1000, 5] as [UInt64])
    func never(_ uid: UInt64) throws {
        var core = MeshCore.sample()
        let dial = try #require(connect(&core, ["10.0.0.2"]).dials.first)
        let directives = core.onConnectionReady(
            dial.id, introduction(0x10, uid: uid, nickname: "twin"), local: endpoint("10.0.0.1:1"),
            remote: dial.endpoint, outbound: true, now: .zero)
        let reason =
            uid == 1000
            ? "cannot connect to ourself"
            : "local \"00:00:00:00:00:10(us)\" and remote \"00:00:00:00:00:10(twin)\" peer names collision"
        #expect(directives.closed.map(\.reason) == [reason])
        #expect(core.status(now: .zero).terminationCount == (uid == 1000 ? 0 : 1))
        #expect(row(core, "10.0.0.2:6783", now: .zero)?.neverRetry == true)
        #expect(core.advance(to: moment(4000)).dials.isEmpty)
        #expect(connect(&core, ["10.0.0.2"], at: moment(4000)).dials.count == 1)
    }

    @Test("looks a name up again before each attempt, and follows it to another address")
    func names() throws {
        var core = MeshCore.sample()
        let first = connect(&core, ["host:7000"])
        #expect(first.resolutions.map(\.host) == ["host"])
        #expect(first.resolutions.map(\.service) == ["7000"])
        let dials = core.onResolved(
            "host:7000", [endpoint("[fd00::9]:7000"), endpoint("10.0.0.2:7000")], now: .zero
        ).dials
        #expect(dials.map(\.endpoint) == [endpoint("10.0.0.2:7000")])
        _ = core.onDialFailed(dials[0].id, reason: "no route to host", now: .zero)
        let retry = core.advance(to: moment(4))
        #expect(retry.dials.isEmpty)
        #expect(retry.resolutions.count == 1)
        let moved = core.onResolved("host:7000", [endpoint("10.0.0.3:7000")], now: moment(4))
        #expect(moved.dials.map(\.endpoint) == [endpoint("10.0.0.3:7000")])
        #expect(row(core, "10.0.0.2:7000", now: moment(4)) == nil)
    }

    @Test("keeps trying a name that cannot be looked up")
    func unresolvable() throws {
        var core = MeshCore.sample()
        _ = connect(&core, ["host"])
        _ = core.onResolveFailed("host", reason: "lookup host: no such host", now: .zero)
        #expect(row(core, "host", now: .zero)?.lastError == "lookup host: no such host")
        #expect(core.advance(to: moment(4)).resolutions.count == 1)
        #expect(core.onResolved("host", [endpoint("10.0.0.2:0")], now: moment(4)).dials.first?.endpoint.port == 6783)
    }

    @Test("leaves alone a host without port from which there is a connection")
    func inboundFromHost() {
        var core = MeshCore.sample()
        core.addInbound(introduction(0x20), from: "10.0.0.2:41000")
        #expect(connect(&core, ["10.0.0.2"]).dials.isEmpty)
        #expect(core.status(now: .zero).connections.count == 1)
        // With a port it may be another peer of that host.
        #expect(connect(&core, ["10.0.0.2:6783"]).dials.count == 1)
    }

    @Test("does not dial again for a connection that would lose against the one there is")
    func duplicateTarget() throws {
        var core = MeshCore.sample()
        let (inbound, _) = core.addInbound(introduction(0x20, connectionUID: 5), from: "10.0.0.2:41000")
        let dial = try #require(connect(&core, ["10.0.0.2:6783"]).dials.first)
        let directives = core.onConnectionReady(
            dial.id, introduction(0x20, connectionUID: 9), local: endpoint("10.0.0.1:1"), remote: dial.endpoint,
            outbound: true, now: .zero)
        #expect(directives.closed.map(\.id) == [dial.id])
        #expect(core.advance(to: moment(2000)).dials.isEmpty)
        let after = core.onConnectionClosed(inbound, reason: "EOF", now: moment(2000))
        #expect((after + core.advance(to: moment(2001))).dials.count == 1)
    }

    @Test("ends both of two connections with the same number")
    func equalNumbers() {
        var core = MeshCore.sample()
        let (old, _) = core.addInbound(introduction(0x20, connectionUID: 5))
        let (new, directives) = core.addInbound(introduction(0x20, connectionUID: 5))
        #expect(Set(directives.closed.map(\.id)) == [old, new])
        #expect(core.connections.isEmpty)
    }

    @Test("respects the limit of connections, and fills a place that becomes free")
    func limit() throws {
        var core = MeshCore.sample(limit: 1)
        let (first, _) = core.addInbound(introduction(0x20), from: "10.0.0.2:41000")
        let (_, refused) = core.addInbound(introduction(0x30), from: "10.0.0.3:41000")
        #expect(refused.closed.map(\.reason) == ["Connection limit reached (1)"])
        #expect(core.table.slot(of: PeerName(truncating: 0x30)) == nil)
        #expect(connect(&core, ["10.0.0.4"]).dials.isEmpty)
        #expect(row(core, "10.0.0.4:6783", now: .zero)?.lastError == "Connection limit reached (1)")
        let freed = core.onConnectionClosed(first, reason: "EOF", now: moment(1))
        #expect((freed + core.advance(to: moment(1.2))).dials.map(\.endpoint) == [endpoint("10.0.0.4:6783")])
    }

    @Test("finds peers in the topology", arguments: [true, false])
    func discovery(_ isOn: Bool) throws {
        var core = MeshCore.sample(discovery: isOn)
        let (id, _) = core.addInbound(introduction(0x20), from: "10.0.0.2:41000")
        let update = encodeUpdate([
            SampleRecord(name: 0x20, version: 3, links: [(0x10, true)]),
            SampleRecord(name: 0x21, version: 3, links: [(0x30, true)], address: "10.0.0.3:7000"),
            SampleRecord(name: 0x22, version: 3, links: [(0x08, true)], address: "10.0.0.4:55555", outbound: false),
            SampleRecord(
                name: 0x20, version: 4, links: [(0x10, true), (0x21, true), (0x22, true)], address: "10.0.0.5:1"),
        ])
        let directives =
            core.onMessage(id, tag: 4, payload: gossip("topology", update, from: 0x20), now: moment(1))
            + core.advance(to: moment(1.2))
        #expect(directives.closed.isEmpty)
        // The dialled address as it is; of one who dialled, the address with our port, and a little later, as its name is
        // lower and it will dial us.
        let found = directives.dials.map(\.endpoint.description).sorted()
        #expect(found == (isOn ? ["10.0.0.3:7000", "10.0.0.5:1"] : []))
        #expect(directives.dials.allSatisfy { !$0.acceptAnyName })
        let later = core.advance(to: moment(1.6)).dials
        #expect(later.map(\.endpoint.description) == (isOn ? ["10.0.0.4:6783"] : []))
        guard let dial = later.first else { return }
        let stranger = core.onConnectionReady(
            dial.id, introduction(0x66), local: endpoint("10.0.0.1:1"), remote: dial.endpoint, outbound: true,
            now: moment(2))
        #expect(
            stranger.closed.map(\.reason) == ["Found unknown remote name: 00:00:00:00:00:66 at 10.0.0.4:6783"])
        #expect(core.table.slot(of: PeerName(truncating: 0x66)) == nil)
    }

    /// Peer 0x20 has a connection to us, and one to 0x21 when that is within reach; 0x21 has `count` in all. Where 0x21
    /// lives only 0x66 tells, to which we find no way.
    private func update(_ count: Int, version: UInt64, reachable: Bool = true, address: String = "") -> [UInt8] {
        let others = (1..<UInt64(count)).map { (0x40 + $0, true) }
        return encodeUpdate([
            SampleRecord(
                name: 0x20, version: version, links: [(0x10, true)] + (reachable ? [(0x21, true)] : []), address: ""),
            SampleRecord(name: 0x21, version: version, links: [(0x20, true)] + others, address: ""),
            SampleRecord(name: 0x66, version: version, links: [(0x21, true)], address: address),
        ])
    }

    @Test(
        "does not dial a discovered peer with as many connections as our limit, unless that peer is out of reach",
        arguments: [(3, true, false), (4, true, true), (2, true, true), (3, false, true)])
    func fullPeers(count: Int, reachable: Bool, isDialled: Bool) {
        var core = MeshCore.sample(limit: 3)
        let (id, _) = core.addInbound(introduction(0x20), from: "10.0.0.2:41000")
        _ = core.advance(to: moment(0.5))
        // First the routes, then the address: before there are routes nobody counts as within reach.
        _ = core.onMessage(
            id, tag: 4, payload: gossip("topology", update(count, version: 3, reachable: reachable), from: 0x20),
            now: moment(1))
        _ = core.advance(to: moment(2.5))
        let payload = update(count, version: 4, reachable: reachable, address: "10.0.0.3:7000")
        let directives =
            core.onMessage(id, tag: 4, payload: gossip("topology", payload, from: 0x20), now: moment(2.5))
            + core.advance(to: moment(3.5))
        #expect(directives.closed.isEmpty)
        #expect(directives.dials.contains { $0.endpoint == endpoint("10.0.0.3:7000") } == isDialled)
    }

    @Test("tries a target whose peer is full when that has a place, when told to, or after minutes")
    func fullTargets() throws {
        var core = MeshCore.sample(limit: 3, discovery: false)
        let (id, _) = core.addInbound(introduction(0x20), from: "10.0.0.2:41000")
        func tell(_ count: Int, version: UInt64, at now: MonotonicTime) -> [MeshDirective] {
            core.onMessage(
                id, tag: 4, payload: gossip("topology", update(count, version: version), from: 0x20), now: now)
                + core.advance(to: now + .seconds(1))
        }
        _ = tell(3, version: 3, at: moment(1))
        // It is tried once, for nobody knows who lives there; and its peer ends the connection.
        func refuse(_ dial: (id: ConnectionID, endpoint: Endpoint, acceptAnyName: Bool), at now: MonotonicTime) {
            _ = core.onConnectionReady(
                dial.id, introduction(0x21), local: endpoint("10.0.0.1:5000"), remote: dial.endpoint, outbound: true,
                now: now)
            _ = core.onConnectionClosed(dial.id, reason: "EOF", now: now)
        }
        refuse(try #require(connect(&core, ["10.0.0.3:7000"], at: moment(3)).dials.first), at: moment(3))
        #expect(core.advance(to: moment(150)).dials.isEmpty)
        let waiting = try #require(row(core, "10.0.0.3:7000", now: moment(150)))
        #expect(waiting.state == .failed && waiting.lastError == "EOF")
        #expect(waiting.retryIn.map { $0 <= .seconds(540) } == true)
        // The operator wants it now.
        let told = connect(&core, ["10.0.0.3:7000"], at: moment(150)).dials
        refuse(try #require(told.first), at: moment(150))
        #expect(core.advance(to: moment(200)).dials.isEmpty)
        // After minutes somebody else may live there.
        let later = core.advance(to: moment(800)).dials
        #expect(later.count >= 1)
        refuse(try #require(later.first), at: moment(800))
        #expect(core.advance(to: moment(900)).dials.isEmpty)
        // A place is told of.
        #expect(tell(2, version: 4, at: moment(900)).dials.map(\.endpoint.description) == ["10.0.0.3:7000"])
    }

    @Test("forgets and replaces targets, and leaves connections alone")
    func forgetting() throws {
        var core = MeshCore.sample()
        let id = try dialled(&core)
        #expect(core.forget(["10.0.0.2"], now: .zero).closed.isEmpty)
        #expect(core.status(now: .zero).targets.isEmpty)
        _ = core.onConnectionClosed(id, reason: "EOF", now: moment(100))
        #expect(core.advance(to: moment(1000)).dials.isEmpty)
        _ = connect(&core, ["10.0.0.5", "10.0.0.6"], at: moment(1000))
        let (directives, errors) = core.connect(["10.0.0.6", "10.0.0.7"], replace: true, now: moment(1000))
        #expect(errors.isEmpty)
        #expect(directives.dials.map(\.endpoint.description) == ["10.0.0.7:6783"])
        #expect(core.status(now: moment(1000)).targets == ["10.0.0.6", "10.0.0.7"])
    }

    @Test("counts ended connections and failed handshakes")
    func terminations() {
        var core = MeshCore.sample()
        let inbound = core.makeConnectionID()
        _ = core.onHandshakeFailed(inbound, reason: "unexpected EOF", now: .zero)
        let (id, _) = core.addInbound(introduction(0x20))
        _ = core.onOverlayFailed(id, reason: "no overlay left", now: .zero)
        _ = core.onConnectionClosed(id, reason: "EOF", now: .zero)
        #expect(core.status(now: .zero).terminationCount == 2)
    }

    @Test("begins so many attempts at a time, and further ones as they succeed or stay without answer")
    func pacing() throws {
        var core = MeshCore.sample(limit: 0)
        let targets = (0..<150).map { "10.1.0.\($0)" }
        let first = connect(&core, targets).dials
        #expect(first.count == DialPacing.atOnce)
        // Ten connect: within the interval of looks ten others are tried.
        for (index, dial) in first.prefix(10).enumerated() {
            let directives = core.onConnectionReady(
                dial.id, introduction(0x100 + UInt64(index)), local: endpoint("10.0.0.1:5000"), remote: dial.endpoint,
                outbound: true, now: moment(0.01))
            #expect(directives.accepted == [dial.id])
        }
        let second = core.advance(to: moment(0.2)).dials
        #expect(second.count == 10)
        // The others are silent: they hold nobody up for more than a second.
        let rest = core.advance(to: moment(1.5)).dials
        #expect(rest.count == DialPacing.atOnce)
        let last = core.advance(to: moment(3)).dials
        #expect(Set((first + second + rest + last).map(\.endpoint)).count == targets.count)
    }

    @Test("does not begin with the same of many targets as everybody")
    func order() {
        let targets = (0..<150).map { "10.1.0.\($0)" }
        let beginnings = (1...3 as ClosedRange<UInt64>).map { seed in
            var core = MeshCore.sample(limit: 0, seed: seed)
            return Set(connect(&core, targets).dials.map(\.endpoint))
        }
        #expect(Set(beginnings).count == 3)
    }

    @Test("says beforehand what would be refused")
    func refusals() throws {
        var core = MeshCore.sample(limit: 2)
        let remote = endpoint("10.0.0.9:1")
        func refusal(_ introduction: RemoteIntroduction) -> String? {
            core.refusal(of: introduction, id: ConnectionID(rawValue: 999), remote: remote)
        }
        #expect(refusal(introduction(0x10, uid: 1000)) == "cannot connect to ourself")
        #expect(refusal(introduction(0x20)) == nil)
        core.addInbound(introduction(0x20, connectionUID: 50))
        #expect(refusal(introduction(0x20, connectionUID: 49)) == nil)
        #expect(refusal(introduction(0x20, connectionUID: 51))?.hasPrefix("Multiple connections to") == true)
        core.addInbound(introduction(0x21))
        #expect(refusal(introduction(0x22)) == "Connection limit reached (2)")
        #expect(refusal(introduction(0)) != nil)
    }
}
