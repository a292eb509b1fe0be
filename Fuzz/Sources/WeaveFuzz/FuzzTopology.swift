import WeaveCore

@testable import WeaveMesh

/// What a record says, with texts in place of ranges.
private struct Described: Equatable {
    struct Link: Equatable {
        var name: PeerName
        var address: [UInt8]
        var outbound: Bool
        var established: Bool
    }

    var record: TopologyUpdate.Record
    var links: [Link]

    init(_ record: TopologyUpdate.Record, of update: TopologyUpdate) {
        links = update.entries[record.entries].map { entry in
            let range = Int(entry.address.lowerBound)..<Int(entry.address.upperBound)
            return Link(
                name: entry.name, address: Array(update.bytes[range]), outbound: entry.outbound,
                established: entry.established)
        }
        self.record = record
        self.record.entries = 0..<0
    }
}

/// A topology update: it is read again as it was written, and a table that took it says nothing others would refuse.
func fuzzTopology(_ input: FuzzInput) {
    var input = input
    let options = input.byte()
    let bytes = input.rest
    if options & 1 != 0 { return fuzzDigest(bytes) }
    guard let update = bounded(bytes.count, "topology", { try? TopologyReader.read(bytes) }) else { return }
    let records = update.records.map { Described($0, of: update) }
    var writer = TopologyWriter()
    for described in records {
        var connections: [UInt8] = []
        for link in described.links {
            TopologyWriter.appendConnection(
                to: &connections, name: link.name, address: link.address[...], outbound: link.outbound,
                established: link.established)
        }
        let record = described.record
        writer.append(
            name: record.name, nickname: record.nickname, uid: record.uid, version: record.version,
            shortID: record.shortID, connections: connections, count: described.links.count)
    }
    guard let again = try? TopologyReader.read(writer.bytes) else {
        return require(false, "what was read can be written and read")
    }
    require(again.refused == 0, "nothing is refused of what was accepted")
    require(again.records.map { Described($0, of: again) } == records, "the same records again")
    checkTable(update, maximumPeers: options & 2 != 0 ? 6 : 4096, maximumBytes: options & 4 != 0 ? 100 : 1 << 20)
}

private func checkTable(_ update: TopologyUpdate, maximumPeers: Int, maximumBytes: Int) {
    let ourself = PeerName(truncating: 0x10)
    var table = PeerTable(
        name: ourself, nickname: "us", uid: 1000, shortID: ShortID(exactly: 100), maximumPeers: maximumPeers,
        maximumBytes: maximumBytes)
    _ = table.apply(update)
    require(table.count <= maximumPeers, "\(table.count) peers; at most \(maximumPeers)")
    require(table.own.name == ourself && table.own.uid == 1000, "nobody takes our place")
    require(table.own.version < PeerTable.absurdVersion + 2, "our version stays sane")
    let held = table.sortedSlots.compactMap { table.record($0)?.connections.count }.reduce(0, +)
    require(held <= maximumBytes, "\(held) bytes of connections; at most \(maximumBytes)")
    if maximumBytes > 1000 {
        require(table.apply(update).improved.isEmpty, "an update is news once")
    }
    var slots = table.sortedSlots
    let count = slots.count
    let said = table.encode(&slots, limit: .max)
    guard let heard = try? TopologyReader.read(said) else { return require(false, "others can read what we say") }
    require(heard.refused == 0 && heard.records.count == count, "others refuse nothing of what we say")
    _ = table.collect()
    require(table.count == 1, "without connections we know ourself alone")
}

private func fuzzDigest(_ bytes: [UInt8]) {
    let message = bounded(bytes.count, "digest") {
        try? TopologyDigest.decode(bytes, from: 0, to: bytes.count)
    }
    guard let message else { return }
    let encoded = TopologyDigest.encode(message)
    require(
        (try? TopologyDigest.decode(encoded, from: 0, to: encoded.count)) == message, "the same digest again")
}
