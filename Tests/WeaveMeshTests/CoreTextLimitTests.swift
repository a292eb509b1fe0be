import Testing
import WeaveCore

@testable import WeaveMesh

/// Texts at the limit that are not UTF-8: each bad byte becomes three when it is repaired. Whoever takes one and passes it
/// on makes honest neighbours refuse an honest peer.
@Suite("Texts that grow")
struct CoreTextLimitTests {
    @Test("a channel is taken only if the next peer can read it, repaired or not", arguments: [85, 86, 256, 257])
    func channel(_ count: Int) throws {
        var payload = GossipEnvelope.encode(
            channel: String(repeating: "x", count: count), source: PeerName(truncating: 0x20), data: [1])
        let place = try #require(payload.firstIndex(of: 0x78))
        func read() throws -> GossipEnvelope {
            try GossipEnvelope.read(payload, tag: .gossip, ourself: PeerName(truncating: 0x10))
        }
        if count <= GossipEnvelope.maximumChannelBytes {
            #expect(try read().channel.utf8.count == count)
        } else {
            #expect(throws: MeshWireError.self) { try read() }
        }
        for index in place..<place + count { payload[index] = 0xff }
        guard count * 3 <= GossipEnvelope.maximumChannelBytes else {
            #expect(throws: MeshWireError.self) { try read() }
            return
        }
        let channel = try read().channel
        let again = GossipEnvelope.encode(channel: channel, source: PeerName(truncating: 0x20), data: [1])
        #expect(try GossipEnvelope.read(again, tag: .gossip, ourself: PeerName(truncating: 0x10)).channel == channel)
    }

    @Test("a nickname is taken only if others take it from us", arguments: [341, 342, 1024])
    func nickname(_ count: Int) throws {
        var bytes = encodeUpdate([SampleRecord(name: 0x20, nickname: String(repeating: "~", count: count))])
        let place = try #require(bytes.firstIndex(of: 0x7e))
        #expect(try TopologyReader.read(bytes).refused == 0)
        for index in place..<place + count { bytes[index] = 0xff }
        let update = try TopologyReader.read(bytes)
        let fits = count * 3 <= TopologyUpdate.maximumNicknameBytes
        #expect(update.refused == (fits ? 0 : 1))
        #expect(update.records.count == (fits ? 1 : 0))
        var table = PeerTable(name: PeerName(truncating: 0x10), nickname: "us", uid: 1, shortID: nil)
        _ = table.apply(update)
        var slots = table.sortedSlots
        #expect(try TopologyReader.read(table.encode(&slots, limit: .max)).refused == 0)
    }
}
