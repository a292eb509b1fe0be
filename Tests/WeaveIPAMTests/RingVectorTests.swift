import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveIPAM

@Suite("Recordings of the ring") struct RingVectorTests {
    @Test("there is a test for each kind of recording")
    func complete() throws {
        let known = Set([
            "claim-for-peers", "operations", "merge", "gossip-run", "paxos", "gossip", "unicast", "gossip-malformed",
            "saved", "normalize-consensus", "parse-subnet",
        ])
        let all = try Vectors.load("ipam-ring")
        #expect(all.count >= 185)
        #expect(all.allSatisfy { known.contains($0.kind) })
    }

    private func emptyRing(_ json: [String: Any], peer: PeerName) throws -> Ring {
        let universe = try #require(AddressRange(try address(json["start"]), try address(json["end"])))
        return try Ring(universe: universe, peer: peer)
    }

    private func expectOwned(_ ring: Ring, _ list: Any?, _ place: String) throws {
        let pairs = try #require(list as? [[Any]])
        #expect(ring.owners == Set(try pairs.map { try peerName($0[0]) }), "\(place)")
        for pair in pairs {
            #expect(ring.ranges(of: try peerName(pair[0])) == (try ranges(pair[1])), "\(place)")
        }
    }

    @Test("an empty ring is divided as recorded", arguments: recorded("ipam-ring", "claim-for-peers"))
    func divide(_ recording: Vectors.Case) throws {
        let peers = try peerNames(recording["peers"])
        var ring = try emptyRing(recording.json, peer: peers[0])
        #expect(ring.universe == (try IPv4CIDR.parse(try field(recording.json, "universe"))).range)
        #expect((errorText { try ring.divide(among: peers) } != nil) == (recording["panic"] != nil))
        #expect(ring.entries == (try entries(recording["entries"])))
        #expect(ring.seeds == (try peerNames(recording["seeds"])))
        #expect(ring.description == recording["text"] as? String)
        try expectOwned(ring, recording["owned_ranges"], recording.description)
        try ring.checkInvariants()
    }

    @Test(
        "a ring changes as recorded; where 2.8.1 panics there is an error",
        arguments: recorded("ipam-ring", "operations"))
    func operations(_ recording: Vectors.Case) throws {
        let peer = try peerName(recording["peer"])
        var ring = try emptyRing(recording.json, peer: peer)
        for (number, step) in try field(recording.json, "steps", as: [[String: Any]].self).enumerated() {
            let place = "step \(number) of \(recording)"
            let before = ring
            let error = try run(step, &ring, place)
            #expect((error != nil) == (step["panic"] is String), "\(place): \(error ?? "")")
            if error != nil { #expect(ring == before, "\(place)") }
            #expect(ring.entries == (try entries(step["entries"])), "\(place)")
            if let owned = step["owned_ranges"] { try expectOwned(ring, owned, place) }
            if let updates = step["owned_range_updates"] as? [[String: Any]] {
                let local = updates.filter { $0["local"] as? Bool == true }.last
                if let local {
                    #expect(before.ranges(of: peer) == (try ranges(local["before"])), "\(place)")
                    #expect(ring.ranges(of: peer) == (try ranges(local["after"])), "\(place)")
                }
            }
        }
    }

    private func run(_ step: [String: Any], _ ring: inout Ring, _ place: String) throws -> String? {
        switch try field(step, "op", as: String.self) {
        case "claim":
            let peers = try peerNames(step["peers"])
            return errorText { try ring.divide(among: peers) }
        case "grant":
            let (range, peer) = (try range(step["range"]), try peerName(step["to"]))
            return errorText { try ring.grant(range, to: peer) }
        case "transfer":
            let moved = ring.transfer(from: try peerName(step["from"]), to: try peerName(step["to"]))
            #expect(moved == (try ranges(step["new_ranges"])), "\(place)")
        case "report-free":
            var counts: [(start: Int, count: Int)] = []
            for pair in try field(step, "free", as: [[Any]].self) {
                counts.append((Int(try address(pair[0]).rawValue), try #require(pair[1] as? Int)))
            }
            return errorText {
                let isUpdated = try ring.reportFree(counts)
                #expect(isUpdated == step["updated"] as? Bool, "\(place)")
            }
        case "owner":
            for question in try field(step, "owners", as: [[String: Any]].self) {
                let wanted = try address(question["address"])
                #expect(ring.contains(wanted) == question["contains"] as? Bool)
                if question["panic"] is String {
                    #expect(errorText { _ = try ring.owner(of: wanted) } != nil)
                } else {
                    #expect(try ring.owner(of: wanted) == (try peerName(question["owner"])))
                }
            }
        case "peers-to-ask":
            var generator = SeededGenerator(seed: 1)
            let donors = ring.donors(for: try range(step["range"]), weighing: .wholeSpans, using: &generator)
            #expect(Set(donors) == Set(try peerNames(step["peers_any_order"])), "\(place)")
        case "set": ring.entries = try entries(step["entries"])
        case "pick-heir", "merge", "restore": Issue.record("not expected here: \(place)")
        case let other: Issue.record("\(other) is not tested: \(place)")
        }
        return nil
    }

    @Test("rings merge as recorded", arguments: recorded("ipam-ring", "merge"))
    func merge(_ recording: Vectors.Case) throws {
        var ours = try ring(recording["ours"])
        let used = try ranges(recording["in_use"])
        let received = try ring(recording["received"])
        var isUpdated = false
        let error = errorText {
            isUpdated = try ours.merge(received, policy: .weave281) { $0.contains { $0.overlapsAny(used) } }.isUpdated
        }
        #expect(error == recording["error"] as? String)
        #expect(isUpdated == recording["updated"] as? Bool)
        #expect(ours.entries == (try entries(recording["entries"])))
        #expect(ours.seeds == (try peerNames(recording["seeds"])))
        try expectOwned(ours, recording["owned_ranges"], recording.description)
    }

    @Test(
        "this library's own merge differs from 2.8.1 only where that is meant",
        arguments: recorded("ipam-ring", "merge"))
    func standardMerge(_ recording: Vectors.Case) throws {
        let used = try ranges(recording["in_use"])
        let received = try ring(recording["received"])
        var old = try ring(recording["ours"])
        var new = old
        let oldError = errorText {
            try old.merge(received, policy: .weave281) { $0.contains { $0.overlapsAny(used) } }
        }
        var result = Ring.MergeResult()
        let newError = errorText {
            result = try new.merge(received) { $0.contains { $0.overlapsAny(used) } }
        }
        if newError == nil { try new.checkInvariants() }
        let isTailMeant = oldError?.hasPrefix("Peer ") == true && newError?.hasPrefix("Peer ") != true
        let isMeant = !result.ties.isEmpty || isTailMeant
        if !isMeant {
            #expect(newError == oldError)
            #expect(new.entries == old.entries)
        }
    }

    @Test("rings that grant and merge go through the recorded states", arguments: recorded("ipam-ring", "gossip-run"))
    func gossipRun(_ recording: Vectors.Case) throws {
        var rings = try peerNames(recording["peers"]).map { try emptyRing(recording.json, peer: $0) }
        for (number, step) in try field(recording.json, "steps", as: [[String: Any]].self).enumerated() {
            let place = "step \(number) of \(recording)"
            let index = try field(step, "ring", as: Int.self)
            switch try field(step, "op", as: String.self) {
            case "claim": try rings[index].divide(among: try peerNames(step["peers"]))
            case "grant": try rings[index].grant(try range(step["range"]), to: try peerName(step["to"]))
            case "merge":
                let other = rings[try field(step, "from", as: Int.self)]
                var isUpdated = false
                let error = errorText {
                    isUpdated = try rings[index].merge(other, policy: .weave281) { _ in false }.isUpdated
                }
                #expect(error == step["error"] as? String, "\(place)")
                #expect(isUpdated == step["updated"] as? Bool, "\(place)")
            case let other: Issue.record("\(other) is not tested: \(place)")
            }
            #expect(rings[index].entries == (try entries(step["entries"])), "\(place)")
        }
    }

    @Test("agreements are made tidy as recorded", arguments: recorded("ipam-ring", "normalize-consensus"))
    func normalize(_ recording: Vectors.Case) throws {
        #expect(Consensus.normalized(try peerNames(recording["value"])) == (try peerNames(recording["peers"])))
    }

    @Test("subnets are read and refused as recorded", arguments: recorded("ipam-ring", "parse-subnet"))
    func parseSubnet(_ recording: Vectors.Case) throws {
        let text = try field(recording.json, "input", as: String.self)
        var found: AddressRange?
        #expect(errorText { found = try IPv4CIDR.parseSubnet(text).range } == recording["error"] as? String)
        #expect(found == (try recording["range"].map { try range($0) }))
    }
}

extension AddressRange {
    func overlapsAny(_ others: [AddressRange]) -> Bool { others.contains { overlaps($0) } }
}
