// A number that any number of processes raise together. Nothing but WeaveMesh is needed.
//
//     SharedCounter --demo                        four peers in one process, then exits
//     SharedCounter NAME ADDRESS[:PORT] [PEER...]   one peer; each line of input adds a number
//
// NAME is like 02:00:00:00:00:01; ADDRESS is what this peer listens on, PEER one that runs already.

import WeaveCore
import WeaveMesh

@main
struct SharedCounter {
    static func main() async throws {
        let arguments = Array(CommandLine.arguments.dropFirst())
        if arguments == ["--demo"] { return try await demo() }
        guard arguments.count >= 2, let name = try? PeerName(parsing: arguments[0]),
            let configuration = configuration(name, arguments[1])
        else {
            print("usage: SharedCounter --demo | SharedCounter NAME ADDRESS[:PORT] [PEER...]")
            return
        }
        try await interact(configuration, peers: Array(arguments.dropFirst(2)))
    }

    static func configuration(_ name: PeerName, _ place: String) -> MeshConfiguration? {
        var configuration = MeshConfiguration(name: name, nickname: "counter")
        if let endpoint = Endpoint(place) {
            configuration.host = endpoint.address
            configuration.port = endpoint.port
        } else if let address = IPAddress(place) {
            configuration.host = address
        } else {
            return nil
        }
        return configuration
    }

    /// One peer, until the end of the input.
    static func interact(_ configuration: MeshConfiguration, peers: [String]) async throws {
        let mesh = MeshRouter(configuration: configuration)
        let counter = try await mesh.replicate("counter", initial: GrowOnlyCounter())
        let run = Task { try await mesh.run() }
        let watch = Task {
            for await value in await counter.values() { print("the counter is \(value.value)") }
        }
        for error in await mesh.connect(to: peers) { print("\(error)") }
        while let line = readLine() {
            guard let amount = UInt64(line) else {
                print("a number, please")
                continue
            }
            await counter.update { $0.increment(by: amount, at: configuration.name) }
        }
        watch.cancel()
        run.cancel()
        try await run.value
    }

    /// Four peers, each on a loopback address of its own. The last three know only the first; they find each other.
    static func demo() async throws {
        let port = UInt16.random(in: 10_000...30_000)
        let names = (1...4).map { PeerName(truncating: 0x0200_0000_0000 | UInt64($0)) }
        var meshes: [MeshRouter] = []
        var counters: [Replica<GrowOnlyCounter>] = []
        for (index, name) in names.enumerated() {
            guard let configuration = configuration(name, "127.0.77.\(index + 1):\(port)") else { return }
            let mesh = MeshRouter(configuration: configuration)
            counters.append(try await mesh.replicate("counter", initial: GrowOnlyCounter()))
            meshes.append(mesh)
        }
        await withThrowingTaskGroup(of: Void.self) { group in
            for mesh in meshes { group.addTask { try await mesh.run() } }
            for mesh in meshes.dropFirst() { _ = await mesh.connect(to: ["127.0.77.1"]) }
            for (counter, name) in zip(counters, names) {
                for amount in UInt64(1)...25 { await counter.update { $0.increment(by: amount, at: name) } }
            }
            print("four peers added 1 + 2 + ... + 25 each")
            for (counter, name) in zip(counters, names) {
                for await value in await counter.values() where value.value == 4 * 325 {
                    print("\(name) sees \(value.value)")
                    break
                }
            }
            group.cancelAll()
        }
    }
}
