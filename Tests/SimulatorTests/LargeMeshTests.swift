import Foundation
import Testing
import WeaveCore
import WeaveMesh
import WeaveTestKit

/// Meshes of many peers, some of them hostile. `WEAVE_SIM_LARGE` says how many peers there are, and takes minutes for a
/// few hundred; without it there are as many as a machine does in passing. `WEAVE_SIM_LIMIT` chooses one limit of
/// connections, and `WEAVE_SIM_TRACE` tells of each second.
@Suite("Simulator: large meshes", .serialized)
struct LargeMeshTests {
    static let environment = ProcessInfo.processInfo.environment
    static let large = environment["WEAVE_SIM_LARGE"].flatMap { Int($0) }
    static let limit = environment["WEAVE_SIM_LIMIT"].flatMap { Int($0) }

    /// The memory of this process that is in use, in MiB.
    private static var resident: Int {
        let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
        let pages = text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        return pages * Int(sysconf(Int32(_SC_PAGESIZE))) / (1 << 20)
    }

    private static func seconds(_ duration: Duration) -> String {
        String(format: "%.2f s", Double(duration.wholeNanoseconds) / 1e9)
    }

    private static func say(_ text: String, since started: Date) {
        let wall = String(format: "%.1f", Date().timeIntervalSince(started))
        print("simulator: \(text); \(wall) s of wall time, \(resident) MiB")
    }

    private static var joinLimits: [Int] {
        limit.map { [$0] } ?? [30, 100]
    }

    @Test("one join is known everywhere within three seconds", arguments: joinLimits)
    func join(limit: Int) {
        let started = Date()
        let peers = Self.large ?? 25
        var simulation = MeshSimulation(
            seed: UInt64(limit), options: .init(peers: peers, connectionLimit: limit, extraTargets: 2))
        simulation.start(0..<peers - 1)
        for _ in 0..<20 {
            simulation.run(for: .seconds(1))
            if Self.environment["WEAVE_SIM_TRACE"] != nil { Self.say(simulation.trace, since: started) }
        }
        Self.say("\(peers - 1) peers with limit \(limit): \(simulation.trace)", since: started)
        let begin = simulation.now
        let newcomer = MeshSimulation.name(of: peers - 1)
        simulation.restart(peers - 1)
        let known = simulation.run(
            until: { $0.ignorant(of: newcomer) == 0 }, every: .milliseconds(50), limit: .seconds(60))
        let time = simulation.now - begin
        Self.say(
            "a join at \(peers) peers with limit \(limit) is known everywhere after \(Self.seconds(time))",
            since: started)
        #expect(known)
        #expect(time <= .seconds(3))
    }

    @Test("a join is known within three seconds, whatever else has just happened", arguments: [false, true])
    func joinsAtAnyMoment(discovery: Bool) {
        var slowest = (time: Duration.zero, seed: UInt64(0))
        for seed in 1...300 as ClosedRange<UInt64> {
            var simulation = MeshSimulation(
                seed: seed, options: .init(peers: 5, discovery: discovery, extraTargets: 0))
            simulation.start(0..<4)
            // From before the others have met until all has been quiet for a while.
            simulation.run(for: .milliseconds(Int64(1000 + seed * 17 % 5000)))
            let begin = simulation.now
            simulation.restart(4)
            let newcomer = MeshSimulation.name(of: 4)
            let known = simulation.run(
                until: { $0.ignorant(of: newcomer) == 0 }, every: .milliseconds(50), limit: .seconds(40))
            let time = simulation.now - begin
            if time > slowest.time { slowest = (time, seed) }
            if !known || time > .seconds(3) { print("simulator: seed \(seed): a join takes \(Self.seconds(time))") }
        }
        print("simulator: slowest of 300 joins: \(Self.seconds(slowest.time)), seed \(slowest.seed)")
        #expect(slowest.time <= .seconds(3), "seed \(slowest.seed)")
    }

    /// The limits of connections with which peers start at once; 0 for none. Where peers are few, one that they reach.
    private static var coldLimits: [Int] {
        if let limit { return [limit] }
        return large == nil ? [8, 0] : [30, 100, 0]
    }

    @Test("peers started at once are connected and quiet within half a minute", arguments: coldLimits)
    func coldStart(limit: Int) {
        let started = Date()
        let peers = Self.large ?? 40
        var simulation = MeshSimulation(
            seed: 200, options: .init(peers: peers, connectionLimit: limit, extraTargets: 2))
        simulation.start()
        for _ in 0..<(Self.environment["WEAVE_SIM_TRACE"] == nil ? 0 : 30) {
            simulation.run(for: .seconds(1))
            Self.say(simulation.trace, since: started)
        }
        let settled = simulation.settle(limit: .seconds(120))
        Self.say(
            "cold start of \(peers) peers with limit \(limit): quiet after "
                + "\(settled.map { Self.seconds($0 - .zero) } ?? "nothing"), " + simulation.trace, since: started)
        #expect(settled.map { $0 - .zero <= .seconds(30) } == true)
        #expect(simulation.disagreement() == nil)
    }

    /// Lies for a while, with faults beside them, and then the truth.
    ///
    /// - Returns: what is wrong; nil when all oracles hold.
    private static func lies(seed: UInt64, peers: Int, liars count: Int) -> String? {
        var simulation = MeshSimulation(seed: seed, options: .init(peers: peers, connectionLimit: 12))
        simulation.start()
        simulation.run(for: .seconds(10))
        let liars = (0..<count).map { $0 * peers / count }
        simulation.beginLies(liars, interval: .milliseconds(100))
        if seed % 2 == 0 { simulation.beginFaults(FaultPlan(interval: .seconds(3)), network: .rough) }
        var largest = 0
        for round in 0..<10 {
            simulation.run(for: .seconds(3))
            largest = max(largest, simulation.largestTable)
            let running = simulation.running
            if !running.isEmpty { simulation.broadcast(UInt64(round), from: running[round * 5 % running.count]) }
        }
        simulation.endFaults()
        // Liars that go leave nothing behind; those that repent are peers like the others.
        if seed % 3 == 0 { for liar in liars { simulation.crash(liar) } }
        simulation.endLies()
        let quiet = simulation.now
        let agrees = simulation.run(
            until: { $0.disagreement() == nil && $0.missingItems() == nil }, every: .seconds(2), limit: .seconds(600))
        print(
            "simulator: \(seed): \(simulation.lies) lies by \(count) of \(peers), largest table \(largest), "
                + "equal after \(Self.seconds(simulation.now - quiet))")
        guard agrees else { return simulation.disagreement() ?? simulation.missingItems() ?? "it did not stay equal" }
        // The five hundred ghosts that are told of with connections; those announced alone never come.
        guard largest <= peers + 500 else { return "a table of \(largest) peers" }
        if let loop = simulation.routeLoop() { return loop }
        let copies = simulation.broadcastCopies(from: simulation.running[0])
        guard copies.count == simulation.running.count - 1, copies.values.allSatisfy({ $0 == 1 }) else {
            return "a broadcast reaches \(copies.count) peers, at most \(copies.values.max() ?? 0) times"
        }
        return nil
    }

    @Test("lies do not outlive their liars, and honest peers come to the same topology")
    func liars() {
        let started = Date()
        for seed in MeshSimulatorTests.seeds(4) {
            let failure = Self.lies(seed: seed, peers: 24, liars: 2)
            #expect(failure == nil, "WEAVE_SIM_SEED=\(seed): \(failure ?? "")")
        }
        Self.say("liars", since: started)
    }

    /// Bytes that peers send in a minute in which one goes or comes, and in a minute of rest.
    private static func cost(peers: Int, limit: Int, plain: Bool) -> (perChange: Int, perMinute: Int)? {
        var simulation = MeshSimulation(
            seed: 31,
            options: .init(peers: peers, connectionLimit: limit, plainPeers: plain ? Set(0..<peers) : []))
        simulation.start()
        func agrees() -> Bool {
            simulation.run(until: { $0.disagreement() == nil }, every: .seconds(1), limit: .seconds(300))
        }
        guard agrees() else { return nil }
        simulation.run(for: .seconds(60))
        var before = simulation.bytes
        // Whole states that a neighbour has already are held back for some rounds: a single minute may have none.
        simulation.run(for: .seconds(600))
        let perMinute = (simulation.bytes - before) / 10
        before = simulation.bytes
        let changes = 2
        for change in 0..<changes {
            // What was going on about the last one has come to rest.
            simulation.crash(change * 9)
            simulation.run(for: .seconds(60))
            simulation.restart(change * 9)
            simulation.run(for: .seconds(60))
        }
        guard agrees() else { return nil }
        return ((simulation.bytes - before) / (2 * changes), perMinute)
    }

    @Test("a change costs less than half where peers compare first, and rest costs next to nothing")
    func bytesOfChanges() throws {
        let started = Date()
        let peers = Self.large ?? 50
        let limit = Self.limit ?? 6
        let plain = try #require(Self.cost(peers: peers, limit: limit, plain: true))
        let comparing = try #require(Self.cost(peers: peers, limit: limit, plain: false))
        for (name, cost) in [("whole", plain), ("compared", comparing)] {
            Self.say(
                "\(peers) peers with limit \(limit), topology \(name): \(cost.perChange) bytes in a minute with a "
                    + "change, \(cost.perMinute) in one of rest", since: started)
        }
        #expect(comparing.perChange * 2 < plain.perChange)
        #expect(comparing.perMinute * 10 < plain.perMinute)
    }
}
