import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveMesh

func name(_ text: String) throws -> PeerName { try PeerName(parsing: text) }

func number(_ value: Any?) throws -> UInt64 {
    if let text = value as? String { return try #require(UInt64(text)) }
    return UInt64(try #require(value as? Int))
}

func bytes(_ value: Any?) throws -> [UInt8] {
    let text = try #require(value as? String)
    return try #require([UInt8](hex: text))
}

/// A peer as the recordings describe it.
struct DescribedPeer: Equatable, CustomStringConvertible {
    struct Link: Hashable {
        var name: PeerName
        var address: String
        var outbound: Bool
        var established: Bool
    }

    var name: PeerName
    var nickname: String
    var uid: UInt64
    var version: UInt64?
    var shortID: Int?
    var links: Set<Link>

    var description: String {
        "\(name) \(nickname) uid \(uid) version \(version ?? 0) short id \(shortID ?? -1) \(links.map(\.name))"
    }

    init(_ json: [String: Any]) throws {
        name = try WeaveMeshTests.name(try #require(json["name"] as? String))
        nickname = json["nickname"] as? String ?? ""
        uid = try number(json["uid"])
        version = try number(json["version"])
        shortID = json["has_short_id"] as? Bool == true ? json["short_id"] as? Int : nil
        links = []
        for link in json["connections"] as? [[String: Any]] ?? [] {
            links.insert(
                Link(
                    name: try WeaveMeshTests.name(try #require(link["name"] as? String)),
                    address: try #require(link["remote_tcp_addr"] as? String),
                    outbound: try #require(link["outbound"] as? Bool),
                    established: try #require(link["established"] as? Bool)))
        }
    }

    init(_ record: PeerRecord) {
        name = record.name
        nickname = record.nickname
        uid = record.uid
        version = record.version
        shortID = record.shortID.map { Int($0.rawValue) }
        links = []
        var links: Set<Link> = []
        record.connections.forEach { connection in
            links.insert(
                Link(
                    name: connection.name, address: connection.address.description, outbound: connection.outbound,
                    established: connection.established))
        }
        self.links = links
    }

    init(_ record: TopologyUpdate.Record, of update: TopologyUpdate) {
        name = record.name
        nickname = record.nickname
        uid = record.uid
        version = record.version
        shortID = record.shortID.map { Int($0.rawValue) }
        links = Set(
            update.entries[record.entries].map { entry in
                let range = Int(entry.address.lowerBound)..<Int(entry.address.upperBound)
                return Link(
                    name: entry.name, address: String(decoding: update.bytes[range], as: UTF8.self),
                    outbound: entry.outbound, established: entry.established)
            })
    }
}

extension PeerTable {
    /// All peers in the order of names.
    var described: [DescribedPeer] {
        var copy = self
        copy.refreshOwnConnections()
        return copy.sortedSlots.compactMap { copy.record($0) }.map { DescribedPeer($0) }
    }
}

/// A record to be encoded.
struct SampleRecord {
    var name: UInt64
    var nickname = ""
    var uid: UInt64 = 1
    var version: UInt64 = 1
    var shortID: Int?
    var links: [(to: UInt64, established: Bool)] = []
    var address = "10.0.0.1:6783"
    var outbound = true
}

func encodeUpdate(_ records: [SampleRecord]) -> [UInt8] {
    var writer = TopologyWriter()
    for record in records {
        var connections: [UInt8] = []
        for link in record.links {
            TopologyWriter.appendConnection(
                to: &connections, name: PeerName(truncating: link.to), address: Array(record.address.utf8)[...],
                outbound: record.outbound, established: link.established)
        }
        writer.append(
            name: PeerName(truncating: record.name), nickname: record.nickname, uid: record.uid,
            version: record.version, shortID: record.shortID.flatMap { ShortID(exactly: $0) },
            connections: connections, count: record.links.count)
    }
    return writer.bytes
}

func endpoint(_ text: String) -> Endpoint { Endpoint(text) ?? Endpoint(.v4(.any), port: 0) }

func introduction(
    _ name: UInt64, uid: UInt64 = 7, connectionUID: UInt64 = 100, digests: Bool = false, nickname: String = "",
    shortID: Int? = nil
) -> RemoteIntroduction {
    RemoteIntroduction(
        name: PeerName(truncating: name), nickname: nickname.isEmpty ? "host\(name)" : nickname, uid: uid,
        connectionUID: connectionUID, shortID: shortID.flatMap { ShortID(exactly: $0) },
        features: digests ? MeshCore.announcedFeatures : [:])
}

extension [MeshDirective] {
    var closed: [(id: ConnectionID, reason: String)] {
        compactMap { if case .close(let id, let reason) = $0 { (id, reason) } else { nil } }
    }

    var accepted: [ConnectionID] { compactMap { if case .accepted(let id) = $0 { id } else { nil } } }

    var dials: [(id: ConnectionID, endpoint: Endpoint, acceptAnyName: Bool)] {
        compactMap { if case .dial(let id, let endpoint, let any) = $0 { (id, endpoint, any) } else { nil } }
    }

    var resolutions: [(target: String, host: String, service: String)] {
        compactMap {
            if case .resolve(let target, let host, let service) = $0 { (target, host, service) } else { nil }
        }
    }

    var deliveries: [MeshDelivery] { compactMap { if case .deliver(let delivery) = $0 { delivery } else { nil } } }

    var stateRequests: [MeshStateRequest] {
        compactMap { if case .requestState(let request) = $0 { request } else { nil } }
    }

    var woken: [ConnectionID] { compactMap { if case .wake(let id) = $0 { id } else { nil } } }

    var logged: [String] { compactMap { if case .log(_, let text) = $0 { text } else { nil } } }

    var removed: [PeerName] { compactMap { if case .peerRemoved(let name) = $0 { name } else { nil } } }
}

extension MeshCore {
    static func sample(
        _ name: UInt64 = 0x10, uid: UInt64 = 1000, limit: Int = 200, discovery: Bool = true, shortID: Int? = nil,
        seed: UInt64 = 1
    ) -> MeshCore {
        MeshCore(
            configuration: MeshCoreConfiguration(
                name: PeerName(truncating: name), nickname: "us", uid: uid, connectionLimit: limit,
                discovery: discovery, shortID: shortID.flatMap { ShortID(exactly: $0) }),
            seed: seed, now: .zero)
    }

    /// Adds a connection that was accepted from a listener.
    @discardableResult
    mutating func addInbound(
        _ introduction: RemoteIntroduction, from remote: String = "10.0.0.9:40000", at now: MonotonicTime = .zero
    ) -> (id: ConnectionID, directives: [MeshDirective]) {
        let id = makeConnectionID()
        let directives = onConnectionReady(
            id, introduction, local: endpoint("10.0.0.1:6783"), remote: endpoint(remote), outbound: false, now: now)
        return (id, directives)
    }

    /// Everything that waits to be sent on a connection.
    mutating func drain(_ id: ConnectionID, now: MonotonicTime = .zero) -> [MeshMessage] {
        var messages: [MeshMessage] = []
        while let message = nextMessage(for: id, now: now) { messages.append(message) }
        return messages
    }

    /// Lets time pass, timer by timer.
    mutating func advance(to end: MonotonicTime) -> [MeshDirective] {
        var directives: [MeshDirective] = []
        while let due = nextDeadline, due <= end { directives += onTimer(now: due) }
        return directives
    }
}

extension MeshMessage {
    func envelope(at reader: PeerName = PeerName(truncating: 1)) throws -> GossipEnvelope {
        try GossipEnvelope.read(payload, tag: tag, ourself: reader)
    }

    func data() throws -> [UInt8] {
        var envelope = try envelope()
        if envelope.data == nil, let destination = envelope.destination {
            envelope = try GossipEnvelope.read(payload, tag: tag, ourself: destination)
        }
        return Array(payload[try #require(envelope.data)])
    }
}

func gossip(
    _ channel: String, _ data: [UInt8], from source: UInt64
) -> [UInt8] { GossipEnvelope.encode(channel: channel, source: PeerName(truncating: source), data: data) }
