import Foundation
import Testing
import WeaveCore
import WeaveTestKit

/// What happens to a cluster in its days, as a script. `WEAVE_SIM_DAYS` says how many days there are.
@Suite("Simulator: days of churn", .serialized)
struct DaysOfChurnTests {
    /// A thing that happens, and how long things may take to be as they should afterwards.
    private struct Scene: Sendable {
        var name: String
        var bound: Duration = .seconds(120)
        var body: @Sendable (inout MeshSimulation, _ day: Int) -> Void
    }

    private static let peers = 30

    private static let script: [Scene] = [
        Scene(name: "a rolling restart, a peer each half minute") { simulation, _ in
            for host in 0..<peers {
                simulation.crash(host)
                simulation.run(for: .seconds(2))
                simulation.restart(host)
                simulation.run(for: .seconds(28))
            }
        },
        Scene(name: "a rack without power for ten minutes") { simulation, day in
            let rack = (0..<6).map { (day * 7 + $0) % peers }
            for host in rack { simulation.crash(host) }
            simulation.run(for: .seconds(600))
            for host in rack { simulation.restart(host) }
        },
        Scene(name: "one half that does not hear the other for twenty minutes") { simulation, day in
            simulation.isolate((0..<peers / 2).map { ($0 * 2 + day) % peers })
            simulation.run(for: .seconds(1200))
            simulation.heal()
        },
        Scene(name: "a peer that comes up and dies for an hour") { simulation, day in
            let host = day * 11 % peers
            for _ in 0..<120 {
                simulation.crash(host)
                simulation.run(for: .seconds(10))
                simulation.restart(host)
                simulation.run(for: .seconds(20))
            }
        },
        Scene(name: "an hour of a network that loses, delays and cuts, and of crashes") { simulation, _ in
            simulation.beginFaults(FaultPlan(interval: .seconds(20)), network: .rough)
            simulation.run(for: .seconds(3600))
            simulation.endFaults()
        },
        Scene(name: "fewer peers for three hours, and more again") { simulation, day in
            let gone = (0..<10).map { (day * 3 + $0 * 3) % peers }
            for host in gone {
                simulation.crash(host)
                simulation.run(for: .seconds(60))
            }
            simulation.run(for: .seconds(3 * 3600))
            for host in gone {
                simulation.restart(host)
                simulation.run(for: .seconds(1))
            }
        },
        Scene(name: "all started together") { simulation, _ in
            for host in 0..<peers { simulation.crash(host) }
            simulation.run(for: .seconds(5))
            for host in 0..<peers { simulation.restart(host) }
        },
        Scene(name: "a night without events") { simulation, _ in simulation.run(for: .seconds(8 * 3600)) },
    ]

    /// What is wrong with a mesh at rest; nil when all oracles hold.
    private static func fault(_ simulation: MeshSimulation) -> String? {
        if simulation.largestTable != peers { return "a table of \(simulation.largestTable) peers" }
        if let loop = simulation.routeLoop() { return loop }
        let source = simulation.running[simulation.messages % simulation.running.count]
        let copies = simulation.broadcastCopies(from: source)
        guard copies.count == peers - 1, copies.values.allSatisfy({ $0 == 1 }) else {
            return "a broadcast reaches \(copies.count) peers, at most \(copies.values.max() ?? 0) times"
        }
        return nil
    }

    @Test("after each thing that happens all agree again, and nobody remembers more than on the first day")
    func days() throws {
        let started = Date()
        let days = MeshSimulatorTests.environment["WEAVE_SIM_DAYS"].flatMap { Int($0) } ?? 2
        let seed = MeshSimulatorTests.environment["WEAVE_SIM_SEED"].flatMap { UInt64($0) } ?? 77
        var simulation = MeshSimulation(seed: seed, options: .init(peers: Self.peers, connectionLimit: 8))
        simulation.start()
        var firstDay = 0
        for day in 0..<days {
            var slowest = (time: Duration.zero, name: "")
            for (index, scene) in Self.script.enumerated() {
                scene.body(&simulation, day)
                let item = UInt64(day * Self.script.count + index)
                simulation.broadcast(item, from: simulation.running[index % simulation.running.count])
                let quiet = simulation.now
                let agrees = simulation.run(
                    until: { $0.disagreement() == nil && $0.missingItems() == nil }, every: .seconds(1),
                    limit: scene.bound)
                let wrong = agrees ? Self.fault(simulation) : simulation.disagreement() ?? simulation.missingItems()
                let time = simulation.now - quiet
                try #require(wrong == nil, "seed \(seed), day \(day), \(scene.name): \(wrong ?? "")")
                if time > slowest.time { slowest = (time, scene.name) }
            }
            let weight = simulation.largestWeight
            if day == 0 { firstDay = weight }
            print(
                "simulator: day \(day), \(simulation.messages) messages, \(simulation.bytes >> 20) MiB so far: agreed "
                    + "within \(slowest.time), slowest after \(slowest.name); a peer remembers \(weight) values at most; "
                    + String(format: "%.1f s of wall time", Date().timeIntervalSince(started)))
            // Counters grow in bytes, and what goes by chance differs a little.
            #expect(weight <= firstDay + firstDay / 4, "seed \(seed), day \(day)")
        }
    }
}
