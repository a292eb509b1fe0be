import Foundation
import Testing
import WeaveCore

@testable import WeaveIPAM

@Suite("Simulated allocators") struct AllocatorSimulationTests {
    /// `IPAM_SEEDS=300 IPAM_OPERATIONS=2000` for a long run, `IPAM_SEED=17` to see one seed again.
    private static func setting(_ name: String) -> Int? {
        ProcessInfo.processInfo.environment[name].flatMap { Int($0) }
    }

    private static var seeds: [UInt64] {
        if let one = setting("IPAM_SEED") { return [UInt64(one)] }
        return (1...UInt64(setting("IPAM_SEEDS") ?? 6)).map { $0 }
    }

    private func simulate(
        _ seed: UInt64, _ change: (inout AllocatorSimulation<MemoryTransport>.Options) -> Void = { _ in }
    ) throws -> AllocatorSimulation<MemoryTransport> {
        var options = AllocatorSimulation<MemoryTransport>.Options()
        options.operations = Self.setting("IPAM_OPERATIONS") ?? 300
        options.isSeeded = seed % 3 == 0
        options.universe = seed % 2 == 0 ? "10.0.0.0/24" : "10.0.0.0/23"
        change(&options)
        var simulation = try AllocatorSimulation(
            seed: seed, options: options, transport: MemoryTransport(seed: seed ^ 0x5555))
        simulation.run()
        return simulation
    }

    @Test("no address has two owners, none that was acknowledged is lost, every request ends, rings become equal")
    func twentyPeers() throws {
        var totals: [String: Int] = [:]
        for seed in Self.seeds {
            let simulation = try simulate(seed)
            #expect(simulation.faults.isEmpty, "replay with IPAM_SEED=\(seed)")
            if !simulation.faults.isEmpty { print(simulation.history.joined(separator: "\n")) }
            totals.merge(simulation.counts, uniquingKeysWith: +)
        }
        print("\(Self.seeds.count) seeds from \(Self.seeds.first ?? 0): \(totals.sorted { $0.key < $1.key })")
        #expect((totals["granted"] ?? 0) > 0 && (totals["partitions"] ?? 0) > 0)
    }

    @Test("the same over whole mesh peers, with their connections, topology and relays")
    func overMesh() throws {
        var totals: [String: Int] = [:]
        let seeds = Self.seeds.prefix(Self.setting("IPAM_SEEDS") ?? 1)
        for seed in seeds {
            var options = AllocatorSimulation<MeshTransport>.Options()
            options.operations = Self.setting("IPAM_OPERATIONS") ?? 100
            options.isSeeded = seed % 3 == 0
            var simulation = try AllocatorSimulation(
                seed: seed, options: options, transport: MeshTransport(seed: seed, peers: options.peers))
            simulation.run()
            #expect(simulation.faults.isEmpty, "replay with IPAM_SEED=\(seed)")
            if !simulation.faults.isEmpty { print(simulation.history.joined(separator: "\n")) }
            totals.merge(simulation.counts, uniquingKeysWith: +)
        }
        print("over a mesh, \(seeds.count) seeds: \(totals.sorted { $0.key < $1.key })")
        #expect((totals["granted"] ?? 0) > 0)
    }

    @Test("peers that start together and all want an address have one within two seconds", arguments: [3, 20, 50])
    func coldStart(peers: Int) throws {
        var options = AllocatorSimulation<MemoryTransport>.Options()
        options.peers = peers
        var simulation = try AllocatorSimulation(
            seed: 11, options: options, transport: MemoryTransport(seed: 11, loss: 0))
        let duration = simulation.coldStart()
        print("\(peers) peers begin together: \(duration?.description ?? "never") until each has an address")
        #expect(duration.map { $0 < .seconds(2) } == true)
    }

    @Test("peers with the ways of 2.8.1 among them keep the same promises")
    func mixed() throws {
        for seed in Self.seeds.prefix(3) {
            let simulation = try simulate(seed + 1000) { options in
                options.peers = 7
                options.policy = { number in
                    guard number % 2 == 0 else { return .standard }
                    var old = AllocatorPolicy.weave281
                    // The operator of 2.8.1 stops a peer that has nobody to inherit in another way.
                    old.transfersToNobody = false
                    return old
                }
            }
            #expect(simulation.faults.isEmpty, "seed \(seed + 1000)")
        }
    }

    @Test("the simulation notices when the merge does not look at versions")
    func mutation() throws {
        var found: String?
        for seed in 1...10 where found == nil {
            let simulation = try simulate(UInt64(seed)) { options in
                options.peers = 6
                options.operations = 600
                options.policy = { _ in
                    var broken = AllocatorPolicy.standard
                    broken.merge.checksVersions = false
                    return broken
                }
            }
            found = simulation.faults.first
        }
        print("a merge without versions: \(found ?? "nothing noticed")")
        #expect(found != nil)
    }
}
