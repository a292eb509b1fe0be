// People who talk in one room, without a server. Lines are broadcast; a line that begins with @NAME goes to one peer,
// over as many hops as it takes. Nothing but WeaveMesh is needed.
//
//     GossipChat --demo                                   three peers in one process, then exits
//     GossipChat NICKNAME NAME ADDRESS[:PORT] [PEER...]     one peer; lines of input are said
//
// NAME is like 02:00:00:00:00:01. With WEAVE_PASSWORD set, everything is encrypted.

import Foundation
import WeaveCore
import WeaveCrypto
import WeaveMesh

/// The room: hears what others say and passes on what is for all.
struct Room: GossipHandler {
    let hear: @Sendable (PeerName, String, _ isPrivate: Bool) -> Void

    func onUnicast(from source: PeerName, _ payload: [UInt8]) async throws { hear(source, try text(payload), true) }

    func onBroadcast(from origin: PeerName, _ payload: [UInt8]) async throws -> (any GossipData)? {
        hear(origin, try text(payload), false)
        return OpaqueGossip(payload)
    }

    /// What was said is said: who comes later hears nothing of it.
    func onGossip(_ payload: [UInt8]) async throws -> (any GossipData)? { nil }

    func completeState() async -> (any GossipData)? { nil }

    /// Whatever a peer sends ends up on a terminal, so it must be plain text of sensible length.
    private func text(_ payload: [UInt8]) throws -> String {
        guard payload.count <= 1000, let text = String(validating: payload, as: UTF8.self),
            text.unicodeScalars.allSatisfy({ $0.value >= 32 && $0.value != 127 })
        else { throw NotALine() }
        return text
    }

    struct NotALine: Error, CustomStringConvertible { var description: String { "not a line of text" } }
}

@main
struct GossipChat {
    static func main() async throws {
        let arguments = Array(CommandLine.arguments.dropFirst())
        if arguments == ["--demo"] { return try await demo() }
        guard arguments.count >= 3, let name = try? PeerName(parsing: arguments[1]),
            var configuration = configuration(arguments[0], name, arguments[2])
        else {
            print("usage: GossipChat --demo | GossipChat NICKNAME NAME ADDRESS[:PORT] [PEER...]")
            return
        }
        configuration.password = ProcessInfo.processInfo.environment["WEAVE_PASSWORD"].flatMap { Password($0) }
        try await interact(configuration, peers: Array(arguments.dropFirst(3)))
    }

    static func configuration(_ nickname: String, _ name: PeerName, _ place: String) -> MeshConfiguration? {
        var configuration = MeshConfiguration(name: name, nickname: nickname)
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
        let room = try await mesh.register(
            "chat",
            Room { source, line, isPrivate in
                Task {
                    let nickname = await mesh.status().peers.first { $0.name == source }?.nickname ?? "\(source)"
                    print(isPrivate ? "\(nickname) (to you): \(line)" : "\(nickname): \(line)")
                }
            })
        let run = Task { try await mesh.run() }
        for error in await mesh.connect(to: peers) { print("\(error)") }
        while let line = readLine() {
            guard line.hasPrefix("@") else {
                await room.broadcast(OpaqueGossip(Array(line.utf8)))
                continue
            }
            let words = line.dropFirst().split(separator: " ", maxSplits: 1)
            let status = await mesh.status()
            guard words.count == 2, let peer = status.peers.first(where: { $0.nickname == words[0] }) else {
                print("here are: " + status.peers.map(\.nickname).joined(separator: ", "))
                continue
            }
            do {
                try await room.unicast(to: peer.name, Array(words[1].utf8))
            } catch {
                print("not sent: \(error)")
            }
        }
        run.cancel()
        try await run.value
    }

    /// Three peers in a row, encrypted: the ends reach each other through the middle.
    static func demo() async throws {
        let port = UInt16.random(in: 10_000...30_000)
        let nicknames = ["ada", "ben", "cy"]
        var meshes: [MeshRouter] = []
        var rooms: [any GossipChannel] = []
        let (heard, hears) = AsyncStream.makeStream(of: String.self)
        for (index, nickname) in nicknames.enumerated() {
            let name = PeerName(truncating: 0x0200_0000_0000 | UInt64(index + 1))
            guard var configuration = configuration(nickname, name, "127.0.78.\(index + 1):\(port)") else { return }
            configuration.password = Password("the demo's own")
            // Otherwise the ends would connect directly, and the middle had nothing to do.
            configuration.discovery = false
            let mesh = MeshRouter(configuration: configuration)
            rooms.append(
                try await mesh.register(
                    "chat",
                    Room { source, line, isPrivate in
                        let speaker = nicknames[Int(source.rawValue & 0xff) - 1]
                        hears.yield("\(nickname) hears \(speaker)\(isPrivate ? " whisper" : ""): \(line)")
                    }))
            meshes.append(mesh)
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for mesh in meshes { group.addTask { try await mesh.run() } }
            _ = await meshes[1].connect(to: ["127.0.78.1", "127.0.78.3"])
            for mesh in meshes {
                while await mesh.routes().unicast.count < 2 { try await Task.sleep(for: .milliseconds(20)) }
            }
            await rooms[0].broadcast(OpaqueGossip(Array("hello everybody".utf8)))
            try await rooms[2].unicast(to: meshes[0].name, Array("hello ada".utf8))
            var lines = 0
            for await line in heard {
                print(line)
                lines += 1
                if lines == 3 { break }
            }
            group.cancelAll()
        }
    }
}
