import Foundation
import NetLab
import Testing
import WeaveCore

@testable import WeaveMesh

extension InteropTests {
    @Suite("Short ids that collide with those of 2.8.1", .serialized, .enabled(if: InteropTests.isPossible))
    struct ShortIDs {
        @Test("of two peers with one short id the higher name moves and the lower stays", arguments: [true, false])
        func collision(_ oursIsHigher: Bool) async throws {
            let cluster = try LabCluster()
            defer { cluster.takeDown() }
            let gate = try cluster.addHost(.weaver)
            let theirs = try cluster.addHost(.reference)
            try cluster.link(gate, theirs)
            try theirs.launch(flags: ["--no-discovery"])
            let held = try #require(try Self.ids(at: theirs)[theirs.peerName])

            let ourName = oursIsHigher ? "7a:00:00:00:00:ff" : "7a:00:00:00:00:01"
            var configuration = MeshConfiguration(name: try PeerName(parsing: ourName), nickname: "embedded")
            configuration.host = IPAddress("127.0.0.1")
            configuration.port = UInt16.random(in: 20_000...30_000)
            configuration.discovery = false
            let router = MeshRouter(configuration: configuration)
            await router.begin(with: try #require(ShortID(exactly: held)))
            let run = Task { try await router.run() }
            // Also when an expectation ends the test.
            defer { run.cancel() }
            let relay = try gate.start(
                "python3", "-c", Self.relay, String(configuration.port),
                String(ProcessInfo.processInfo.processIdentifier))
            #expect(try LabShell.poll(seconds: 10) { try gate.run("ss", "-ltn").contains(":6783") }, "\(relay.output)")
            #expect(try theirs.connect([gate.addresses[0]]).status == 0)

            var seen: (ours: [String: Int], theirs: [String: Int]) = ([:], [:])
            for _ in 0..<100 {
                seen = (await router.ids(), try Self.ids(at: theirs))
                if seen.ours.count == 2, seen.ours == seen.theirs, Set(seen.ours.values).count == 2 { break }
                try await Task.sleep(for: .milliseconds(100))
            }
            #expect(seen.ours == seen.theirs, "\(relay.output)\n\(theirs.log)")
            let (stays, moves) = oursIsHigher ? (theirs.peerName, ourName) : (ourName, theirs.peerName)
            #expect(seen.ours[stays] == held, "\(seen) after \(held)")
            let moved = try #require(seen.ours[moves])
            #expect(moved != held, "\(seen) after \(held)")
            print("interop: both had short id \(held); \(stays) keeps it and \(moves) takes \(moved)")

            // Nobody moves again.
            try await Task.sleep(for: .seconds(3))
            #expect(try Self.ids(at: theirs) == seen.theirs)
            #expect(await router.ids() == seen.ours)
            await router.stop()
            _ = await run.result
        }

        /// The short id of every peer that a host knows.
        static func ids(at host: LabHost) throws -> [String: Int] {
            let peers = try host.report()["Peers"] as? [[String: Any]] ?? []
            return Dictionary(
                peers.compactMap { peer in
                    guard let name = peer["Name"] as? String, let id = peer["ShortID"] as? Int else { return nil }
                    return (name, id)
                }, uniquingKeysWith: { first, _ in first })
        }

        /// Listens in the namespace of a host, and dials in that of the test for each connection: sockets stay in the
        /// namespace they were made in.
        private static let relay = """
            import ctypes, os, socket, sys, threading
            l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            l.bind(('', 6783)); l.listen(8)
            if ctypes.CDLL(None).setns(os.open('/proc/%s/ns/net' % sys.argv[2], os.O_RDONLY), 0x40000000) != 0:
                sys.exit('cannot enter the namespace of the test')
            def carry(a, b):
                try:
                    while True:
                        d = a.recv(65536)
                        if not d: break
                        b.sendall(d)
                except OSError: pass
                for s in (a, b):
                    try: s.shutdown(socket.SHUT_RDWR)
                    except OSError: pass
            while True:
                c = l.accept()[0]
                o = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5); o.settimeout(None)
                for pair in ((c, o), (o, c)): threading.Thread(target=carry, args=pair, daemon=True).start()
            """
    }
}

extension MeshRouter {
    /// Starts over with a short id of the caller's choice. Only before `run`.
    func begin(with shortID: ShortID) {
        var configuration = core.configuration
        configuration.shortID = shortID
        core = MeshCore(configuration: configuration, seed: .random(in: 0 ... .max), now: .now())
    }

    /// The short id of every peer.
    func ids() -> [String: Int] {
        Dictionary(
            status().peers.compactMap { peer in peer.shortID.map { ("\(peer.name)", Int($0.rawValue)) } },
            uniquingKeysWith: { first, _ in first })
    }
}
