import Foundation
import Synchronization
import Testing
import WeaveCore
import WeaveMesh
import WeaveTestKit

/// Whole mesh peers on virtual time. `WEAVE_SIM_SEEDS` sets how many seeds run, `WEAVE_SIM_SEED` replays one.
@Suite("Simulator: meshes under faults", .serialized)
struct MeshSimulatorTests {
    static let environment = ProcessInfo.processInfo.environment

    /// Fixed seeds, and one at random that is printed.
    static func seeds(_ count: Int) -> [UInt64] {
        if let text = environment["WEAVE_SIM_SEED"], let seed = UInt64(text) { return [seed] }
        let wanted = environment["WEAVE_SIM_SEEDS"].flatMap { Int($0) } ?? count
        let random = UInt64.random(in: 1_000_000 ... .max)
        print("simulator: seeds 1...\(wanted) and \(random); WEAVE_SIM_SEED=\(random) replays the last")
        return (1...UInt64(max(wanted, 1))).map { $0 } + [random]
    }

    /// A soak takes an hour: who watches it wants to see that it moves. Told by the seeds themselves, for the group hears
    /// of the first only when all have begun.
    private final class Progress: Sendable {
        private let done = Atomic<Int>(0)
        private let total: Int

        init(of total: Int) { self.total = total }

        func onSeed() {
            let count = done.add(1, ordering: .relaxed).newValue
            if count % 10 == 0 { print("simulator: \(count) of \(total) seeds done") }
        }
    }

    /// A mesh of `options`, half a minute of faults with broadcasts, then quiet; nil when all oracles hold.
    static func churn(seed: UInt64, options: MeshSimulation.Options) -> String? {
        var simulation = MeshSimulation(seed: seed, options: options)
        simulation.start()
        simulation.run(for: .seconds(10))
        simulation.beginFaults(FaultPlan(interval: .milliseconds(1500)), network: .rough)
        for round in 0..<8 {
            simulation.run(for: .seconds(4))
            let running = simulation.running
            guard !running.isEmpty else { continue }
            simulation.broadcast(UInt64(round) << 32 | seed & 0xffff, from: running[round * 7 % running.count])
        }
        simulation.endFaults()
        // The dead are forgotten while others die.
        guard simulation.largestTable <= options.peers else { return "a table of \(simulation.largestTable) peers" }
        let quiet = simulation.now
        let traces = environment["WEAVE_SIM_TRACE"] != nil
        let agrees = simulation.run(
            until: {
                let difference = $0.disagreement() ?? $0.missingItems()
                if traces {
                    let simulation = $0
                    let changes = simulation.running.reduce(UInt64(0)) { sum, host in
                        let name = MeshSimulation.name(of: host)
                        return sum + (simulation.status(of: host)?.peers.first { $0.name == name }?.version ?? 0)
                    }
                    print(
                        "simulator: \(seed): \($0.now): \($0.messages) messages, \(changes) changes: "
                            + (difference ?? "equal"))
                }
                return difference == nil
            }, every: .seconds(3), limit: .seconds(900))
        if traces { print("simulator: \(seed): equal after \(simulation.now - quiet) of quiet") }
        guard agrees else {
            return simulation.disagreement() ?? simulation.missingItems() ?? "it did not stay equal"
        }
        if let loop = simulation.routeLoop() { return loop }
        let copies = simulation.broadcastCopies(from: simulation.running[0])
        guard copies.count == options.peers - 1, copies.values.allSatisfy({ $0 == 1 }) else {
            return "a broadcast reaches \(copies.count) of \(options.peers - 1) peers, "
                + "at most \(copies.values.max() ?? 0) times"
        }
        return nil
    }

    @Test("100 peers under faults come to the same topology, whatever the seed")
    func hundredPeers() async {
        let started = Date()
        let seeds = Self.seeds(8)
        let progress = Progress(of: seeds.count)
        let failures = await withTaskGroup(of: (UInt64, String)?.self) { group in
            for seed in seeds {
                group.addTask {
                    // Most clusters cap connections; every twentieth is a full mesh, which costs ten times as much.
                    let limit = seed % 20 == 0 ? 200 : [6, 8, 12][Int(seed % 3)]
                    let options = MeshSimulation.Options(
                        peers: 100, connectionLimit: limit, extraTargets: 1 + Int(seed % 2))
                    let failure = Self.churn(seed: seed, options: options)
                    if let failure { print("simulator: WEAVE_SIM_SEED=\(seed) fails: \(failure)") }
                    progress.onSeed()
                    return failure.map { (seed, $0) }
                }
            }
            return await group.reduce(into: [(UInt64, String)]()) { if let failure = $1 { $0.append(failure) } }
        }
        print(
            "simulator: \(seeds.count) seeds of 100 peers in \(String(format: "%.1f", Date().timeIntervalSince(started))) s"
        )
        #expect(failures.isEmpty, "\(failures.prefix(5))")
    }

    @Test(
        "peers of which half compare no topology come to the same under faults",
        arguments: 1...4 as ClosedRange<UInt64>)
    func mixedMeshes(_ seed: UInt64) {
        let failure = Self.churn(
            seed: seed,
            options: .init(peers: 30, connectionLimit: 8, plainPeers: Set((0..<30).filter { $0 % 2 == 0 })))
        #expect(failure == nil, "seed \(seed): \(failure ?? "")")
    }

    @Test("a few that compare no topology among many that do, and the other way round, come to the same")
    func rareKinds() {
        for (seed, plain) in [(11, Set([3, 17])), (12, Set(0..<28))] as [(UInt64, Set<Int>)] {
            let failure = Self.churn(seed: seed, options: .init(peers: 30, connectionLimit: 8, plainPeers: plain))
            #expect(failure == nil, "seed \(seed): \(failure ?? "")")
        }
    }

    @Test("small meshes under faults come to the same topology", arguments: [2, 3, 5, 9, 17])
    func smallMeshes(_ peers: Int) {
        for seed in Self.seeds(20) {
            let failure = Self.churn(seed: seed, options: .init(peers: peers))
            #expect(failure == nil, "WEAVE_SIM_SEED=\(seed), \(peers) peers: \(failure ?? "")")
        }
    }

    @Test("a seed replays exactly")
    func replays() {
        func trace(_ seed: UInt64) -> [Int] {
            var simulation = MeshSimulation(seed: seed, options: .init(peers: 20))
            simulation.start()
            simulation.beginFaults(FaultPlan(interval: .seconds(1)), network: .rough)
            simulation.run(for: .seconds(40))
            return [simulation.messages, simulation.bytes, simulation.eventCount]
        }
        #expect(trace(5) == trace(5))
        #expect(trace(5) != trace(6))
    }

    @Test("the oracles see a mesh that is cut in two")
    func oraclesSeePartitions() {
        var simulation = MeshSimulation(seed: 3, options: .init(peers: 10))
        simulation.start()
        let agreed = simulation.run(until: { $0.disagreement() == nil }, limit: .seconds(60))
        #expect(agreed, "\(simulation.disagreement() ?? "")")
        simulation.isolate([0, 1, 2])
        simulation.run(for: .seconds(100))
        #expect(simulation.disagreement() != nil)
        simulation.broadcast(77, from: 0)
        simulation.run(for: .seconds(5))
        #expect(simulation.missingItems() != nil)
        simulation.heal()
        let healed = simulation.run(
            until: { $0.disagreement() == nil && $0.missingItems() == nil }, limit: .seconds(900))
        #expect(healed, "\(simulation.disagreement() ?? simulation.missingItems() ?? "")")
    }

    @Test("a peer that is gone for good is forgotten everywhere")
    func forgetsDeadPeers() {
        var simulation = MeshSimulation(seed: 4, options: .init(peers: 12))
        simulation.start()
        let agreed = simulation.run(until: { $0.disagreement() == nil }, limit: .seconds(60))
        #expect(agreed, "\(simulation.disagreement() ?? "")")
        simulation.crash(5)
        let forgotten = simulation.run(until: { $0.disagreement() == nil }, limit: .seconds(120))
        #expect(forgotten, "\(simulation.disagreement() ?? "")")
        #expect(simulation.running.count == 11)
    }

    @Test("a newcomer gets in where every peer is at its limit, and full islands join again", arguments: 1...5)
    func fullMeshesMakeRoom(_ seed: Int) {
        var simulation = MeshSimulation(
            seed: UInt64(seed), options: .init(peers: 14, connectionLimit: 3, extraTargets: 1))
        simulation.start()
        let met = simulation.run(until: { $0.disagreement() == nil }, limit: .seconds(900))
        #expect(met, "\(simulation.disagreement() ?? "")")
        // While two are away the others take all places among themselves.
        simulation.crash(3)
        simulation.crash(4)
        simulation.run(for: .seconds(200))
        simulation.restart(3)
        simulation.restart(4)
        let joined = simulation.run(until: { $0.disagreement() == nil }, limit: .seconds(900))
        #expect(joined, "\(simulation.disagreement() ?? "")")
        simulation.isolate([0, 1, 2, 3, 4, 5, 6])
        simulation.run(for: .seconds(400))
        simulation.heal()
        let healed = simulation.run(until: { $0.disagreement() == nil }, limit: .seconds(1800))
        #expect(healed, "\(simulation.disagreement() ?? "")")
    }
}
