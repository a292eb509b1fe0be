import Foundation
import NetLab
import Synchronization
import Testing
import WeaveCore

/// A daemon that is killed at any instant, again and again, while clients get and return addresses.
@Suite(.serialized, .enabled(if: LabShell.canMakeNamespaces))
struct AddressCrashTests {
    /// How often it is killed; `WEAVE_CRASHES` says otherwise.
    static let crashes = ProcessInfo.processInfo.environment["WEAVE_CRASHES"].flatMap { Int($0) } ?? 15
    static let clients = 4

    /// What clients have been told.
    private struct Told: Sendable {
        /// Acknowledged, and not asked to be returned since.
        var held: [String: String] = [:]
        /// A request that was cut off: either outcome is right.
        var open: Set<String> = []
    }

    @Test("no acknowledged address is lost, and none is given out twice", .timeLimit(.minutes(30)))
    func kills() throws {
        let given = ProcessInfo.processInfo.environment["WEAVE_CRASH_SEED"].flatMap { UInt64($0) }
        let seed = given ?? .random(in: 0 ... .max)
        print("crash test: WEAVE_CRASH_SEED=\(seed), \(Self.crashes) times")
        var random = SeededGenerator(seed: seed)
        let cluster = try LabCluster()
        defer { cluster.takeDown() }
        let host = try cluster.addHost()
        let socket = host.directory.appendingPathComponent("s").path
        host.controlSocket = socket
        let told = Mutex(Told())
        var count = 0
        for round in 1...Self.crashes {
            try host.launch(flags: ["--ipalloc-range=10.32.0.0/16"])
            try Self.check(socket, told, "before crash \(round), seed \(seed)")
            let seeds = (1...Self.clients).map { _ in random.next() }
            let pause = UInt32(2_000 + random.next() % 150_000)
            count += Self.load(socket, told, round, seeds) {
                usleep(pause)
                host.kill()
            }
        }
        try host.launch(flags: ["--ipalloc-range=10.32.0.0/16"])
        try Self.check(socket, told, "at the end, seed \(seed)")
        let held = told.withLock { $0.held.count }
        print("crash test: \(count) requests were acknowledged, \(held) addresses are held")
        #expect(count > Self.crashes * Self.clients && held > 0)
    }

    /// Clients at work until the daemon is gone, which `crash` sees to.
    ///
    /// - Returns: How many requests were acknowledged.
    private static func load(
        _ socket: String, _ told: borrowing Mutex<Told>, _ round: Int, _ seeds: [UInt64], crash: () -> Void
    ) -> Int {
        let outcomes = Mutex<[Told]>([])
        let count = Mutex(0)
        let held = told.withLock { $0.held }
        let group = DispatchGroup()
        for (number, seed) in seeds.enumerated() {
            // Each client has names of its own, so that it knows what to expect.
            let mine = held.filter { $0.key.hasPrefix("client\(number)-") }
            DispatchQueue.global().async(group: group) {
                let (outcome, done) = client(socket, "client\(number)-\(round)", mine, seed)
                outcomes.withLock { $0.append(outcome) }
                count.withLock { $0 += done }
            }
        }
        crash()
        group.wait()
        told.withLock { told in
            told = outcomes.withLock { all in
                all.reduce(into: Told()) { sum, one in
                    sum.held.merge(one.held) { $1 }
                    sum.open.formUnion(one.open)
                }
            }
        }
        return count.withLock { $0 }
    }

    /// Gets and returns addresses until the daemon does not answer.
    private static func client(
        _ socket: String, _ prefix: String, _ held: [String: String], _ seed: UInt64
    ) -> (Told, Int) {
        var told = Told(held: held)
        var random = SeededGenerator(seed: seed)
        guard let client = try? ControlClient(path: socket) else { return (told, 0) }
        for number in 1...100_000 {
            let returns = random.next() % 3 == 0
            if returns, let ident = told.held.keys.sorted().randomElement(using: &random) {
                told.held[ident] = nil
                told.open.insert(ident)
                guard let answer = try? client.request("DELETE", "/ip/\(ident)"), answer.status == 204 else {
                    return (told, number - 1)
                }
                told.open.remove(ident)
            } else {
                let ident = "\(prefix)-\(number)"
                told.open.insert(ident)
                guard let answer = try? client.request("POST", "/ip/\(ident)"), answer.status == 200 else {
                    return (told, number - 1)
                }
                told.open.remove(ident)
                told.held[ident] = answer.body
            }
        }
        return (told, 100_000)
    }

    /// Compares what clients were told with what the daemon has, and settles what was open.
    private static func check(_ socket: String, _ told: borrowing Mutex<Told>, _ place: String) throws {
        let answer = try ControlClient(path: socket).request("GET", "/ip")
        try #require(answer.status == 200, "\(place): \(answer)")
        let list = try JSONDecoder().decode(Listing.self, from: Data(answer.body.utf8))
        let owned = Dictionary(uniqueKeysWithValues: (list.owned ?? []).map { ($0.containerid, $0.addrs) })
        let all = owned.values.flatMap { $0 }
        #expect(Set(all).count == all.count, "\(place): an address is given out twice: \(all.sorted())")
        told.withLock { told in
            for (ident, address) in told.held {
                #expect(owned[ident] == [address], "\(place): \(ident) was told \(address)")
            }
            for ident in owned.keys where told.held[ident] == nil {
                #expect(told.open.contains(ident), "\(place): \(ident) has an address that was returned")
            }
            for ident in told.open { told.held[ident] = owned[ident]?.first }
            told.open = []
        }
    }

    private struct Listing: Decodable {
        struct Owner: Decodable {
            var containerid: String
            var addrs: [String]
        }
        var owned: [Owner]?
    }
}
