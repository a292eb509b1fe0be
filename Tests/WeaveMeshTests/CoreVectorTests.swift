import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveMesh

@Suite("Topology, gossip, routes and short ids as recorded from 2.8.1")
struct CoreVectorTests {
    @Test("reads recorded topology", arguments: try Vectors.load("mesh-gossip", kind: "topology"))
    func readsTopology(_ vector: Vectors.Case) throws {
        let update = try TopologyReader.read(try bytes(vector["bytes"]))
        let peers = try #require(vector["peers"] as? [[String: Any]]).map { try DescribedPeer($0) }
        #expect(update.records.map { DescribedPeer($0, of: update) } == peers)
        #expect(update.refused == 0)
    }

    @Test("writes topology byte for byte", arguments: try Vectors.load("mesh-gossip", kind: "topology"))
    func writesTopology(_ vector: Vectors.Case) throws {
        let recorded = try bytes(vector["bytes"])
        let update = try TopologyReader.read(recorded)
        var writer = TopologyWriter()
        for record in update.records {
            var connections: [UInt8] = []
            for entry in update.entries[record.entries] {
                TopologyWriter.appendConnection(
                    to: &connections, name: entry.name,
                    address: recorded[Int(entry.address.lowerBound)..<Int(entry.address.upperBound)],
                    outbound: entry.outbound, established: entry.established)
            }
            writer.append(
                name: record.name, nickname: record.nickname, uid: record.uid, version: record.version,
                shortID: record.shortID, connections: connections, count: record.entries.count)
        }
        if vector["first_type_id"] as? Int == 65 { #expect(writer.bytes.hex == recorded.hex) }
        let again = try TopologyReader.read(writer.bytes)
        #expect(
            again.records.map { DescribedPeer($0, of: again) } == update.records.map { DescribedPeer($0, of: update) })
    }

    @Test(
        "treats malformed topology as recorded", arguments: try Vectors.load("mesh-gossip", kind: "topology-malformed"))
    func malformedTopology(_ vector: Vectors.Case) throws {
        var table = try table(try #require(vector["ourself"] as? [String: Any]))
        let before = table.described
        let recorded = vector["error"] as? String
        do {
            _ = table.apply(try TopologyReader.read(try bytes(vector["bytes"])))
            #expect(recorded == nil)
        } catch let error as MeshWireError {
            #expect(error.message == recorded)
            #expect(table.described == before)
        }
        switch vector.name {
        case "name of 8 bytes", "name empty":
            // 2.8.1 makes a peer of it. Nobody has such a name, so the record is refused.
            #expect(table.described == before)
        case "short id over 12 bits":
            // 2.8.1 takes it. It cannot be a tunnel number, so it counts as absent.
            #expect(table.described.last?.shortID == nil)
            #expect(table.count == 2)
        default:
            let after = try #require(vector["peers_after"] as? [[String: Any]]).map { try DescribedPeer($0) }
            #expect(table.described == after)
        }
    }

    private func table(_ ourself: [String: Any]) throws -> PeerTable {
        PeerTable(
            name: try name(try #require(ourself["name"] as? String)),
            nickname: try #require(ourself["nickname"] as? String), uid: try number(ourself["uid"]),
            shortID: ShortID(exactly: try #require(ourself["short_id"] as? Int)),
            version: try number(ourself["version"]))
    }

    @Test("applies updates as recorded", arguments: try Vectors.load("mesh-gossip", kind: "apply-update"))
    func appliesUpdates(_ vector: Vectors.Case) throws {
        var table = try table(try #require(vector["ourself"] as? [String: Any]))
        var ownIsUndefined = false
        let steps = try #require(vector["steps"] as? [[String: Any]])
        #expect(!steps.isEmpty)
        for (index, step) in steps.enumerated() {
            let effect = try apply(step, to: &table, index)
            if let invalidated = step["short_ids_invalidated"] as? Int {
                #expect(effect.invalidations == invalidated, "step \(index)")
            }
            #expect(effect.mustReassignOwn == (step["own_short_id_reassigned"] as? Bool ?? false), "step \(index)")
            if effect.mustReassignOwn {
                ownIsUndefined = true
                var generator = SeededGenerator(seed: 1)
                let isReassigned = table.reassignOwnShortID(using: &generator)
                #expect(isReassigned)
            }
            try compare(table, step, ownIsUndefined, index)
        }
    }

    private struct Effect {
        var invalidations = 0
        var mustReassignOwn = false
    }

    private func apply(_ step: [String: Any], to table: inout PeerTable, _ index: Int) throws -> Effect {
        switch step["op"] as? String {
        case "connect":
            let described = try #require(step["peer"] as? [String: Any])
            let peer = try DescribedPeer(described.merging(["version": "0"]) { old, _ in old })
            let (slot, _, effect) = table.neighbour(
                RemoteIntroduction(
                    name: peer.name, nickname: peer.nickname, uid: peer.uid, connectionUID: 1,
                    shortID: peer.shortID.flatMap { ShortID(exactly: $0) }))
            table.connect(
                slot,
                PeerTable.OwnLink(
                    address: try #require(step["remote_tcp_addr"] as? String),
                    outbound: try #require(step["outbound"] as? Bool), established: false))
            return Effect(invalidations: effect.invalidated ? 1 : 0, mustReassignOwn: effect.mustReassignOwn)
        case "establish":
            let peer = try name(try #require(step["name"] as? String))
            table.establish(try #require(table.slot(of: peer)))
            return Effect()
        case "gc":
            let (removed, effect) = table.collect()
            #expect(removed.map(\.name.description) == step["removed"] as? [String], "step \(index)")
            return Effect(invalidations: effect.invalidated ? 1 : 0, mustReassignOwn: false)
        case "update":
            let recorded = step["error"] as? String
            do {
                let held = table
                let update = try TopologyReader.read(try bytes(step["bytes"])) {
                    held.holds($0, uid: $1, version: $2)
                }
                let outcome = table.apply(update)
                #expect(recorded == nil, "step \(index)")
                func names(_ slots: [Int]) -> [String] {
                    slots.compactMap { table.record($0)?.name }.sorted().map(\.description)
                }
                #expect(names(outcome.named) == (step["update_names"] as? [String] ?? []), "step \(index)")
                #expect(names(outcome.improved) == (step["new_names"] as? [String] ?? []), "step \(index)")
                return Effect(
                    invalidations: outcome.invalidated ? 1 : 0, mustReassignOwn: outcome.mustReassignOwn)
            } catch let error as MeshWireError {
                #expect(error.message == recorded, "step \(index)")
                return Effect()
            }
        default:
            Issue.record("unknown step \(step)")
            return Effect()
        }
    }

    private func compare(_ table: PeerTable, _ step: [String: Any], _ ownIsUndefined: Bool, _ index: Int) throws {
        var expected = try #require(step["peers"] as? [[String: Any]]).map { try DescribedPeer($0) }
        var actual = table.described
        var shortIDs = try #require(step["short_ids"] as? [[Any]]).map { pair in
            "\(try #require(pair[0] as? Int)) \(try #require(pair[1] as? String))"
        }
        var actualShortIDs = table.shortIDs.principals.map { "\($0.id) \($0.peer)" }
        if ownIsUndefined {
            let own = table.own.name
            for index in expected.indices where expected[index].name == own {
                (expected[index].version, expected[index].shortID) = (nil, nil)
            }
            for index in actual.indices where actual[index].name == own {
                (actual[index].version, actual[index].shortID) = (nil, nil)
            }
            shortIDs.removeAll { $0.hasSuffix(own.description) }
            actualShortIDs.removeAll { $0.hasSuffix(own.description) }
        }
        #expect(actual == expected, "step \(index)")
        #expect(actualShortIDs == shortIDs, "step \(index)")
        for slot in table.graph.present.members {
            let isNeighbour = table.ownLinks[slot] != nil
            let peer = try #require(table.record(slot))
            let json = try #require(step["peers"] as? [[String: Any]]).first { $0["name"] as? String == "\(peer.name)" }
            #expect(json?["local_refs"] as? Int == (isNeighbour || slot == PeerTable.ourSlot ? 1 : 0), "step \(index)")
        }
    }

    @Test("encodes and decodes gossip messages", arguments: try Vectors.load("mesh-gossip", kind: "gossip-message"))
    func gossipMessage(_ vector: Vectors.Case) throws {
        let recorded = try bytes(vector["bytes"])
        let payload = try bytes(vector["payload"])
        let channel = try #require(vector["channel"] as? String)
        let source = try name(try #require(vector["source"] as? String))
        let tag = try #require((vector["tag"] as? Int).flatMap { MessageTag(rawValue: UInt8($0)) })
        #expect([tag.rawValue] + recorded == (try bytes(vector["tcp_message"])))
        let destination = try (vector["destination"] as? String).map { try name($0) }
        let encoded =
            if let destination {
                GossipEnvelope.encode(channel: channel, source: source, destination: destination, data: payload)
            } else { GossipEnvelope.encode(channel: channel, source: source, data: payload) }
        #expect(encoded.hex == recorded.hex)
        let envelope = try GossipEnvelope.read(recorded, tag: tag, ourself: destination ?? .unknown)
        #expect(envelope.channel == channel)
        #expect(envelope.source == source)
        #expect(envelope.destination == destination)
        #expect(Array(recorded[try #require(envelope.data)]) == payload)
    }

    @Test("dispatches as recorded", arguments: try Vectors.load("mesh-gossip", kind: "dispatch"))
    func dispatch(_ vector: Vectors.Case) throws {
        let ourself = try name(try #require(vector["ourself"] as? String))
        var core = MeshCore.sample(ourself.rawValue)
        try core.registerChannel(try #require(vector["channel"] as? String))
        let (id, _) = core.addInbound(introduction(7))
        _ = core.advance(to: moment(0.5))
        _ = core.drain(id)
        let directives = core.onMessage(
            id, tag: UInt8(try #require(vector["tag"] as? Int)), payload: try bytes(vector["bytes"]), now: moment(1))
        #expect(directives.closed.first?.reason == vector["error"] as? String)
        let calls = try #require(vector["calls"] as? [[String: Any]])
        #expect(directives.deliveries.count == calls.count)
        for (delivery, call) in zip(directives.deliveries, calls) {
            #expect("\(delivery.kind)" == call["call"] as? String)
            #expect(delivery.payload.hex == call["payload"] as? String)
            if let source = call["source"] as? String { #expect(delivery.source.description == source) }
        }
        for line in try #require(vector["logged"] as? [String]) { #expect(directives.logged.contains(line)) }
    }

    @Test("finds the recorded routes", arguments: try Vectors.load("mesh-routes", kind: "routes"))
    func routes(_ vector: Vectors.Case) throws {
        let names = try #require(vector["peers"] as? [String]).map { try name($0) }
        let links = try #require(vector["connections"] as? [[[Any]]]).map { list in
            try list.map { (to: try #require($0[0] as? Int), established: try #require($0[1] as? Bool)) }
        }
        let records = try #require(vector["routes"] as? [[String: Any]])
        #expect(records.count == names.count)
        for record in records {
            let own = try #require(record["ourself"] as? Int)
            let (table, index) = try graph(names, links, own: own)
            let ranks = table.ranks
            for (kind, suffix) in [(TopologyGraph.Kind.established, ""), (.all, "_all")] {
                let hops = table.graph.nextHops(from: PeerTable.ourSlot, kind, ranks: ranks)
                let unicast = try #require(record["unicast\(suffix)"] as? [Any])
                let broadcast = try #require(record["broadcast\(suffix)"] as? [[Int]])
                for (destination, slot) in index.enumerated() {
                    let expected = (unicast[destination] as? Int).flatMap { $0 < 0 ? nil : $0 }
                    let hop = hops[slot] < 0 ? nil : index.firstIndex(of: Int(hops[slot]))
                    #expect(hop == expected, "ourself \(own), to \(destination), \(kind)")
                    let next = table.graph.broadcastHops(at: PeerTable.ourSlot, from: slot, kind, ranks: ranks)
                    #expect(
                        next.compactMap { index.firstIndex(of: $0) }.sorted() == broadcast[destination],
                        "ourself \(own), from \(destination), \(kind)")
                }
            }
            let all = table.graph.nextHops(from: PeerTable.ourSlot, .all, ranks: ranks).filter { $0 >= 0 }
            #expect(
                MeshCore.neighbourCount(reached: UInt64(all.count + 1), neighbours: Set(all).count)
                    == record["random_neighbours"] as? Int)
        }
    }

    /// The table of one of the peers, and the slots of all.
    private func graph(
        _ names: [PeerName], _ links: [[(to: Int, established: Bool)]], own: Int
    ) throws -> (PeerTable, [Int]) {
        var table = PeerTable(name: names[own], nickname: "", uid: 1, shortID: nil)
        let others = names.indices.filter { $0 != own }.map { index in
            SampleRecord(
                name: names[index].rawValue, links: links[index].map { (names[$0.to].rawValue, $0.established) })
        }
        _ = table.apply(try TopologyReader.read(encodeUpdate(others)))
        let slots = try names.map { try #require(table.slot(of: $0)) }
        for link in links[own] {
            table.connect(slots[link.to], PeerTable.OwnLink(address: "", outbound: true, established: false))
            if link.established { table.establish(slots[link.to]) }
        }
        return (table, slots)
    }

    @Test("gives short ids to the recorded holders", arguments: try Vectors.load("shortid", kind: "short-id-table"))
    func shortIDs(_ vector: Vectors.Case) throws {
        let ourself = try name(try #require(vector["ourself"] as? String))
        var table = ShortIDTable(ourself: ourself)
        let own = try #require((vector["own_short_id"] as? Int).flatMap { ShortID(exactly: $0) })
        _ = table.add(ourself, own)
        for (index, step) in try #require(vector["steps"] as? [[String: Any]]).enumerated() {
            let peer = try name(try #require(step["peer"] as? String))
            let id = try #require((step["short_id"] as? Int).flatMap { ShortID(exactly: $0) })
            var effect = ShortIDTable.Effect()
            if step["has_short_id"] as? Bool == true {
                effect = step["op"] as? String == "add" ? table.add(peer, id) : table.remove(peer, id)
            }
            #expect(effect.invalidated == step["invalidate"] as? Bool, "step \(index)")
            #expect(effect.mustReassignOwn == step["reassign_own"] as? Bool, "step \(index)")
            let holders = (0..<3).map { ShortID(exactly: $0).flatMap { table.principal(of: $0) }?.description }
            #expect(holders == (try #require(step["holders"] as? [Any])).map { $0 as? String }, "step \(index)")
        }
    }

    @Test("keeps the recorded one of two connections", arguments: try Vectors.load("mesh-handshake", kind: "break-tie"))
    func breakTie(_ vector: Vectors.Case) throws {
        func uid(_ key: String) throws -> UInt64 {
            let side = try #require(vector[key] as? [String: Any])
            let halves = try #require(side["conn_ids"] as? [String]).map { try #require(UInt64($0)) }
            let uid = try number(side["conn_uid"])
            #expect(halves[0] ^ halves[1] == uid)
            return uid
        }
        var core = MeshCore.sample()
        let (old, _) = core.addInbound(introduction(7, connectionUID: try uid("old")))
        let (new, directives) = core.addInbound(introduction(7, connectionUID: try uid("new")))
        let loser = vector["result"] as? String == "old connection stays" ? new : old
        #expect(directives.closed.map(\.id) == [loser])
        #expect(
            directives.closed.first?.reason
                == "Multiple connections to 00:00:00:00:00:07(host7) added to 00:00:00:00:00:10(us)")
        #expect(directives.accepted == (loser == old ? [new] : []))
    }
}
