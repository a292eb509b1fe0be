import Foundation
import NetLab
import Testing

extension InteropTests {
    /// One ring of addresses, divided among routers of both kinds.
    @Suite("Address allocation with 2.8.1", .serialized, .enabled(if: InteropTests.isPossible))
    struct Addresses {
        static let range = "10.32.0.0/26"

        /// How the first ring comes about, and which kinds of hosts there are, in the order in which they start.
        struct Setting: CustomStringConvertible, Sendable {
            var kinds: [LabRouterKind]
            /// For each host; `NAMES` stands for the names of all.
            var modes: [String]

            var description: String {
                zip(kinds, modes).map { "\($0) \($1.isEmpty ? "default" : $1)" }.joined(separator: ", ")
            }

            static let all = [
                Setting(
                    kinds: [.weaver, .reference, .reference], modes: ["consensus=3", "consensus=3", "consensus=3"]),
                Setting(kinds: [.reference, .weaver, .weaver], modes: ["consensus=3", "consensus=3", "consensus=3"]),
                Setting(kinds: [.weaver, .reference, .weaver], modes: ["", "", ""]),
                Setting(kinds: [.reference, .weaver, .reference], modes: ["", "", ""]),
                Setting(kinds: [.weaver, .reference, .reference], modes: ["seed=NAMES", "seed=NAMES", "seed=NAMES"]),
                Setting(kinds: [.reference, .weaver, .weaver], modes: ["seed=NAMES", "seed=NAMES", "seed=NAMES"]),
                Setting(kinds: [.weaver, .reference, .reference], modes: ["observer", "consensus=1", "observer"]),
                Setting(kinds: [.reference, .weaver, .weaver], modes: ["observer", "consensus=1", "observer"]),
            ]
        }

        @Test(
            "three hosts agree on the ring, give out different addresses, and say the same of it",
            arguments: Setting.all)
        func agree(_ setting: Setting) throws {
            let cluster = try LabCluster()
            defer { cluster.takeDown() }
            let hosts = try Self.launch(setting, cluster)
            var given: [String] = []
            for round in 1...2 {
                for host in hosts { given.append(try host.allocates("c\(round)-\(host.number)")) }
            }
            #expect(Set(given).count == given.count, "\(given)")
            #expect(try Self.agreement(hosts), "\(Self.rings(hosts))")
            // Each holds to what it gave.
            for (index, host) in hosts.enumerated() {
                #expect(try host.allocates("c1-\(host.number)") == given[index])
            }
        }

        @Test("a peer without space gets some from the other kind, until nothing is left", arguments: [true, false])
        func donation(_ oursHasAll: Bool) throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            let owner = oursHasAll ? pair.ours : pair.theirs
            let other = oursHasAll ? pair.theirs : pair.ours
            let flags = ["--ipalloc-range=10.32.0.0/28", "--ipalloc-init=seed=\(owner.peerName)"]
            try pair.launch(Pairing(oursDials: true, password: nil), ourFlags: flags, theirFlags: flags)
            #expect(try pair.ours.isConnected() && pair.theirs.isConnected())
            let kept = try owner.allocates("kept")
            // Fourteen addresses for hosts, one of them taken.
            let given = try (1...13).map { try other.allocates("c\($0)") }
            #expect(Set(given + [kept]).count == 14, "\(given)")
            // One comes back, and goes the other way.
            try #require(try other.http("/ip/c7", method: "DELETE").status == 0)
            #expect(try owner.allocates("last") == given[6])
            #expect(try Self.agreement([owner, other]), "\(Self.rings([owner, other]))")
        }

        @Test("the ranges of a dead peer of the other kind are taken over", arguments: [true, false])
        func takeover(_ oursTakes: Bool) throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            let heir = oursTakes ? pair.ours : pair.theirs
            let dead = oursTakes ? pair.theirs : pair.ours
            let flags = ["--ipalloc-range=\(Self.range)", "--ipalloc-init=consensus=2"]
            try pair.launch(Pairing(oursDials: true, password: nil), ourFlags: flags, theirFlags: flags)
            for host in [heir, dead] { _ = try host.allocates("c\(host.number)") }
            #expect(try Self.agreement([heir, dead]))
            dead.kill()
            #expect(try LabShell.poll(seconds: 30) { try heir.status("ipam").contains("unreachable") })
            let taken = try heir.http("/peer/\(dead.nickname)", method: "DELETE").output
            #expect(taken.hasSuffix(" IPs taken over from \(dead.nickname)\n") && !taken.hasPrefix("0 "), "\(taken)")
            #expect(try heir.status("ipam").contains("(100.0% of total)"))
        }

        @Test("either kind restarted keeps its part and what it gave out", arguments: [true, false])
        func restart(_ ours: Bool) throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            let host = ours ? pair.ours : pair.theirs
            let other = ours ? pair.theirs : pair.ours
            let flags = ["--ipalloc-range=\(Self.range)", "--ipalloc-init=consensus=2"]
            try pair.launch(Pairing(oursDials: true, password: nil), ourFlags: flags, theirFlags: flags)
            let before = try host.allocates("c1")
            let there = try other.allocates("c2")
            host.kill()
            try host.relaunch()
            #expect(try host.allocates("c1") == before)
            let later = try host.allocates("c3")
            #expect(later != before && later != there)
            #expect(try Self.agreement([host, other]), "\(Self.rings([host, other]))")
        }

        @Test(
            "another range is refused on both sides with the same words, and nobody is harmed",
            arguments: [true, false])
        func otherRange(_ oursDials: Bool) throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            // Of the same seeds, so that the range is all there is to complain of.
            let start = "--ipalloc-init=seed=\(pair.ours.peerName),\(pair.theirs.peerName)"
            try pair.launch(
                Pairing(oursDials: oursDials, password: nil), ourFlags: ["--ipalloc-range=10.32.0.0/24", start],
                theirFlags: ["--ipalloc-range=10.32.0.0/25", start])
            for host in [pair.ours, pair.theirs] { _ = try host.allocates("c") }
            let words = "Incompatible IP allocation ranges (received: 10.32.0.0/25, ours: 10.32.0.0/24)"
            #expect(
                try LabShell.poll(seconds: 40) { try pair.ours.http("/ipam/explain").output.contains(words) },
                "\(pair.ours.log)")
            #expect(pair.theirs.log.contains("Incompatible IP allocation ranges"))
            #expect(try pair.ours.status().contains("contradicts our ring"))
        }

        // MARK: Helpers

        private static func launch(_ setting: Setting, _ cluster: LabCluster) throws -> [LabHost] {
            let hosts = try setting.kinds.map { try cluster.addHost($0) }
            try cluster.link(hosts[0], hosts[1])
            try cluster.link(hosts[1], hosts[2])
            let names = hosts.map(\.peerName).joined(separator: ",")
            for (index, host) in hosts.enumerated() {
                var flags = ["--ipalloc-range=\(range)"]
                let mode = setting.modes[index].replacingOccurrences(of: "NAMES", with: names)
                if !mode.isEmpty { flags.append("--ipalloc-init=\(mode)") }
                let peers = index == 0 ? [] : [index == 1 ? hosts[0].addresses[0] : hosts[1].addresses[1]]
                try host.launch(peers: peers, flags: flags)
            }
            #expect(try hosts[1].isConnected(2), "\(hosts[1].shown)")
            return hosts
        }

        /// Whether all say the same of who owns how much, after at most a gossip round.
        static func agreement(_ hosts: [LabHost]) throws -> Bool {
            try LabShell.poll(seconds: 40, every: 0.5) { Set(try hosts.map { try ring($0) }).count == 1 }
        }

        static func rings(_ hosts: [LabHost]) -> [[String]] { hosts.map { (try? ring($0)) ?? [] } }

        /// The lines of `status ipam` without what only one host can know.
        private static func ring(_ host: LabHost) throws -> [String] {
            try host.status("ipam").split(separator: "\n").map {
                String($0.replacing(/\ (?:\(\d+\ active\)|-\ unreachable!)?$/, with: ""))
            }.sorted()
        }
    }
}

extension LabHost {
    /// The address that the router gives for a name.
    func allocates(_ ident: String) throws -> String {
        // A request may wait for the peers to agree, or for a neighbour to give.
        var answer = ""
        for _ in 0..<6 {
            let outcome = try http("/ip/\(ident)", method: "POST")
            answer = outcome.output.trimmingCharacters(in: .whitespacesAndNewlines)
            if outcome.status == 0 { return answer }
        }
        Issue.record("\(kind) gives \(ident) no address: \(answer)\n\(log.suffix(2000))")
        return answer
    }
}
