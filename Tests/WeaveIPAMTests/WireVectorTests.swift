import Testing
import WeaveCore
import WeaveGob
import WeaveTestKit

@testable import WeaveIPAM

@Suite("Recordings of messages and stored records") struct WireVectorTests {
    @Test(
        "state messages are read as recorded, and written with the same bytes",
        arguments: recorded("ipam-ring", "gossip"))
    func gossip(_ recording: Vectors.Case) throws {
        let bytes = try hexBytes(recording["bytes"])
        let expected = try stateMessage(recording["decoded"])
        let message = try StateMessage.decode(bytes)
        #expect(sorted(message) == expected)
        #expect(try StateMessage.decode(message.encode()) == message)
        // Maps have no order on the wire, and the recorded process may have numbered its types from elsewhere.
        let isOrdered = expected.nicknames.count <= 1 && (expected.consensus?.count ?? 0) <= 1
        if isOrdered, !expected.nicknames.isEmpty, recording["first_type_id"] as? Int == 65 {
            #expect(message.encode().hex == bytes.hex)
        }
    }

    @Test(
        "messages for one peer are read as recorded, and written with the same bytes",
        arguments: recorded("ipam-ring", "unicast"))
    func unicast(_ recording: Vectors.Case) throws {
        let bytes = try hexBytes(recording["bytes"])
        let expected = try peerMessage(recording["decoded"])
        let message = try PeerMessage.decode(bytes)
        #expect(message == expected)
        let written = try #require(expected.encode())
        if case .ringUpdate = expected {
            #expect(try PeerMessage.decode(written) == expected)
        } else {
            #expect(written.hex == bytes.hex)
        }
    }

    @Test(
        "damaged messages give the recorded errors and nothing else",
        arguments: recorded("ipam-ring", "gossip-malformed"))
    func malformed(_ recording: Vectors.Case) throws {
        let peer = try peerName(recording["peer"])
        var allocator = try Allocator(
            AllocatorConfiguration(
                peer: peer, uid: 1, nickname: "n0", universe: try IPv4CIDR.parse(try field(recording.json, "universe"))),
            generator: SeededGenerator(seed: 1))
        let now = AllocatorTime(.zero, unixSeconds: 0)
        _ = allocator.onStart(stored: nil, now: now)
        let bytes = try hexBytes(recording["bytes"])
        let error = errorText {
            let message = try StateMessage.decode(bytes)
            if let error = allocator.onState(message, from: nil, now: now).error { throw error }
        }
        #expect(error == recording["error"] as? String)
        #expect(allocator.ring.entries == (try entries(recording["entries_after"])))
        var nicknames: [PeerName: String] = [:]
        for pair in recording["nicknames_after"] as? [[String]] ?? [] { nicknames[try peerName(pair[0])] = pair[1] }
        #expect(allocator.nicknames == nicknames)
    }

    @Test(
        "stored records are read as recorded, and written with the same bytes",
        arguments: recorded("ipam-ring", "saved"))
    func saved(_ recording: Vectors.Case) throws {
        let bytes = try hexBytes(recording["bytes"])
        switch try field(recording.json, "key", as: String.self) {
        case "peername":
            let name = try peerName(recording["value"])
            #expect(try StoredForms.decodePeerName(bytes) == name)
            #expect(StoredForms.encode(peerName: name).hex == bytes.hex)
        case "ring":
            let stored = try ring(recording["value"])
            #expect(try StoredForms.decodeRing(bytes) == stored)
            #expect(StoredForms.encode(ring: stored).hex == bytes.hex)
        case "ownedAddresses":
            var owned: [String: OwnedAddresses] = [:]
            for json in try field(recording.json, "value", as: [[String: Any]].self) {
                owned[try field(json, "ident")] = OwnedAddresses(
                    isContainer: try field(json, "is_container"),
                    cidrs: try field(json, "cidrs", as: [String].self).map { try IPv4CIDR.parse($0) })
            }
            #expect(try StoredForms.decodeOwned(bytes) == owned)
            let written = StoredForms.encode(owned: owned)
            #expect(try StoredForms.decodeOwned(written) == owned)
            if owned.count <= 1 { #expect(written.hex == bytes.hex) } else { #expect(written.count == bytes.count) }
        case let other: Issue.record("\(other) is not tested")
        }
    }

    @Test("every cut of a message is an error, never a crash")
    func truncation() throws {
        for recording in recorded("ipam-ring", "gossip") + recorded("ipam-ring", "unicast") {
            let bytes = try hexBytes(recording["bytes"])
            for count in 0..<bytes.count {
                let cut = Array(bytes.prefix(count))
                if recording.kind == "gossip" {
                    #expect(throws: IPAMError.self) { try StateMessage.decode(cut) }
                } else {
                    #expect(throws: IPAMError.self) { try PeerMessage.decode(cut) }
                }
            }
        }
    }

    @Test("a message with a tag of the future is told apart from a bad one")
    func unknownTag() throws {
        #expect(try PeerMessage.decode([3, 1, 2, 3]) == .unknown(tag: 3))
        #expect(try PeerMessage.decode([255]) == .unknown(tag: 255))
        #expect(throws: IPAMError(.malformed, "EOF")) { try PeerMessage.decode([]) }
    }
}
