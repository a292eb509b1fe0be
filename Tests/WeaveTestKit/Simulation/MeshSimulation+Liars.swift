public import WeaveCore
import WeaveGob
import WeaveMesh

/// Peers that lie. They are peers like the others, and besides tell their neighbours what is not so: about others, about
/// peers that do not exist, in others' names, or in no language at all.
extension MeshSimulation {
    /// What a liar says.
    public enum Lie: CaseIterable, Sendable {
        /// An honest peer has no connections any more, says its own incarnation, or another.
        case emptied, otherLife
        /// An honest peer has no connections, in the version that it has come to or comes to next.
        case tied
        /// The same at a version that nobody counts to.
        case absurd
        /// Peers that do not exist, with connections to everybody and short ids of others.
        case ghosts
        /// It is connected to everybody itself.
        case connections
        /// A broadcast and a unicast in somebody else's name.
        case origin
        /// Bytes, or versions, at random.
        case noise, announcement
    }

    /// The name of a peer that does not exist.
    public static func ghost(_ number: Int) -> PeerName { PeerName(truncating: 0x6600_0000_0000 | UInt64(number + 1)) }

    /// From now on these hosts lie, each about once in `interval`, until they are crashed or lies end.
    public mutating func beginLies(_ liars: [Int], interval: Duration) {
        self.liars = Set(liars)
        lieInterval = interval
        for liar in liars { scheduleLie(liar) }
    }

    /// From now on all tell the truth.
    public mutating func endLies() { liars = [] }

    private mutating func scheduleLie(_ host: Int) {
        let mean = Double(lieInterval.wholeNanoseconds)
        let wait = Int64(mean * Double.random(in: 0.2..<1.8, using: &generator))
        events.add(.lie(host), at: now + .nanoseconds(wait))
    }

    mutating func lie(_ host: Int) {
        guard liars.contains(host) else { return }
        scheduleLie(host)
        let sides = hosts[host].sides.values.filter { streams[$0.stream]?.sides[$0.end].isAccepted == true }
        guard hosts[host].core != nil,
            let side = sides.sorted(by: { $0.stream < $1.stream }).randomElement(using: &generator),
            let lie = Lie.allCases.randomElement(using: &generator)
        else { return }
        for message in messages(of: lie, by: host) {
            lies += 1
            streams[side.stream]?.sides[side.end].inFlight += 1
            transmit(message, from: side)
        }
    }

    private mutating func messages(of lie: Lie, by host: Int) -> [MeshMessage] {
        let honest = running.filter { !liars.contains($0) }
        guard let victim = honest.randomElement(using: &generator), let core = hosts[victim].core else { return [] }
        let own = Self.name(of: host)
        let everybody = hosts.indices.map { Self.name(of: $0) }
        var record = ForgedRecord(name: Self.name(of: victim), uid: core.configuration.uid)
        record.version = core.ownVersion + UInt64.random(in: 1...1000, using: &generator)
        switch lie {
        case .emptied: return topology([record])
        case .tied:
            record.version = core.ownVersion + UInt64.random(in: 0...2, using: &generator)
            return topology([record])
        case .otherLife:
            record.uid = generator.next()
            record.connections = [own]
            return topology([record])
        case .absurd:
            record.version = .max - UInt64.random(in: 0..<1000, using: &generator)
            return topology([record])
        case .ghosts:
            let ghosts = (0..<30).map { _ in Self.ghost(Int.random(in: 0..<500, using: &generator)) }
            var records = [ForgedRecord(name: own, uid: hosts[host].core?.configuration.uid ?? 1)]
            records[0].version = (hosts[host].core?.ownVersion ?? 0) + 1
            records[0].connections = everybody + ghosts
            for ghost in ghosts {
                var record = ForgedRecord(name: ghost, uid: 1)
                record.version = generator.next() >> 40
                record.shortID = UInt64(core.shortID?.rawValue ?? 0)
                record.connections = everybody
                records.append(record)
            }
            return topology(records)
        case .connections:
            var record = ForgedRecord(name: own, uid: hosts[host].core?.configuration.uid ?? 1)
            record.version = (hosts[host].core?.ownVersion ?? 0) + 3
            record.connections = everybody
            return topology([record])
        case .origin:
            let items = SimulatedItems(hosts[host].items).encode().first ?? []
            let name = Self.name(of: victim).rawValue
            let other = honest.randomElement(using: &generator) ?? victim
            return [
                envelope(.gossipBroadcast, Self.channel, [name], items),
                envelope(.gossipUnicast, Self.channel, [name, Self.name(of: other).rawValue], items),
            ]
        case .noise:
            let bytes = (0..<Int.random(in: 0..<300, using: &generator)).map { _ in
                UInt8.random(in: .min ... .max, using: &generator)
            }
            return [
                chance(0.5, &generator)
                    ? MeshMessage(tag: .gossip, payload: bytes)
                    : envelope(.gossip, "topology", [own.rawValue], bytes)
            ]
        case .announcement:
            // A kind, and then name, whether there is a short id, fingerprint, incarnation and version.
            var bytes: [UInt8] = [1]
            for _ in 0..<40 {
                bytes += Self.ghost(Int.random(in: 0..<100_000, using: &generator)).bytes + [0]
                bytes.appendInteger(UInt32.random(in: 0...3, using: &generator), byteCount: 4)
                bytes.appendInteger(generator.next(), byteCount: 8)
                bytes.append(UInt8.random(in: 0..<100, using: &generator))
            }
            return [envelope(.gossip, "topology-digest", [own.rawValue], bytes)]
        }
    }

    private func envelope(_ tag: MessageTag, _ channel: String, _ names: [UInt64], _ data: [UInt8]) -> MeshMessage {
        var payload: [UInt8] = []
        for (value, type) in [(GobValue.text(channel), GobType.string)]
            + names.map({ (GobValue.uint($0), GobType.uint(bits: 64)) }) + [(.bytes(data), .bytes)]
        {
            payload += ForgedRecord.encode([(value, type)])
        }
        return MeshMessage(tag: tag, payload: payload)
    }

    private func topology(_ records: [ForgedRecord]) -> [MeshMessage] {
        let data = ForgedRecord.encode(records.flatMap(\.values))
        return [envelope(.gossip, "topology", [Self.ghost(0).rawValue], data)]
    }
}

/// A record that its owner did not write.
private struct ForgedRecord {
    var name: PeerName
    var uid: UInt64
    var version: UInt64 = 1
    var shortID: UInt64?
    var connections: [PeerName] = []

    private static let summary = GobType.structure(
        "peerSummary",
        [
            GobFieldType("NameByte", .bytes), GobFieldType("NickName", .string), GobFieldType("UID", .uint(bits: 64)),
            GobFieldType("Version", .uint(bits: 64)), GobFieldType("ShortID", .uint(bits: 16)),
            GobFieldType("HasShortID", .bool),
        ])

    private static let list = GobType.slice(
        nil,
        .structure(
            "connectionSummary",
            [
                GobFieldType("NameByte", .bytes), GobFieldType("RemoteTCPAddr", .string),
                GobFieldType("Outbound", .bool), GobFieldType("Established", .bool),
            ]))

    var values: [(GobValue, GobType)] {
        let summary = GobValue.structure([
            .init("NameByte", .bytes(name.bytes)), .init("NickName", .text("forged")), .init("UID", .uint(uid)),
            .init("Version", .uint(version)), .init("ShortID", .uint(shortID ?? 0)),
            .init("HasShortID", .bool(shortID != nil)),
        ])
        let list = connections.map { name in
            GobValue.structure([
                .init("NameByte", .bytes(name.bytes)), .init("RemoteTCPAddr", .text("10.200.0.1:6783")),
                .init("Outbound", .bool(true)), .init("Established", .bool(true)),
            ])
        }
        return [(summary, Self.summary), (.list(list), Self.list)]
    }

    /// One stream of values.
    static func encode(_ values: [(GobValue, GobType)]) -> [UInt8] {
        var encoder = GobEncoder()
        var bytes: [UInt8] = []
        do throws(GobError) {
            for (value, type) in values { bytes += try encoder.encode(value, as: type) }
        } catch {
            preconditionFailure("\(error)")
        }
        return bytes
    }
}
