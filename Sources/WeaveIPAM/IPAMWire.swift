import WeaveCore
import WeaveGob

/// The parts of messages and records, in the shapes that 2.8.1 gives them.
enum IPAMWire {
    /// What a message may cost to read: a ring at its limit, and little beside it.
    static let limits = GobLimits(messageBytes: 10 << 20, depth: 16, elements: 1 << 21, types: 64)

    static let nodeID = GobType.structure(
        "NodeID", [GobFieldType("Name", .uint(bits: 64)), GobFieldType("UID", .uint(bits: 64))])
    static let proposalID = GobType.structure(
        "ProposalID", [GobFieldType("Round", .uint(bits: 64)), GobFieldType("Proposer", nodeID)])
    static let nodeClaims = GobType.structure(
        "NodeClaims",
        [
            GobFieldType("Promise", proposalID), GobFieldType("Accepted", proposalID),
            GobFieldType(
                "AcceptedVal",
                .structure(
                    "AcceptedValue",
                    [
                        GobFieldType("Value", .slice(.defined("Value"), .uint(bits: 64))),
                        GobFieldType("Origin", proposalID),
                    ])),
        ])
    static let ring = GobType.structure(
        "Ring",
        [
            GobFieldType("Start", .uint(bits: 32)), GobFieldType("End", .uint(bits: 32)),
            GobFieldType("Peer", .uint(bits: 64)),
            GobFieldType(
                "Entries",
                .slice(
                    .defined("entries"),
                    .pointer(
                        .structure(
                            "entry",
                            [
                                GobFieldType("Token", .uint(bits: 32)), GobFieldType("Peer", .uint(bits: 64)),
                                GobFieldType("Version", .uint(bits: 32)), GobFieldType("Free", .uint(bits: 32)),
                            ])))),
            GobFieldType("Seeds", .slice(.spelled("[]mesh.PeerName"), .uint(bits: 64))),
        ])
    static let rangeShape = GobShape(
        .structure("Range", [GobFieldType("Start", .uint(bits: 32)), GobFieldType("End", .uint(bits: 32))]))

    static func encoder(for shape: GobShape) -> GobEncoder {
        var encoder = GobEncoder()
        try? encoder.prepare(shape)
        return encoder
    }

    /// Reads one value from complete bytes.
    static func decode<Value>(
        _ bytes: some Collection<UInt8>, as shape: GobShape,
        _ body: (inout GobReader) throws(GobError) -> Value
    ) throws(IPAMError) -> Value {
        var decoder = GobDecoder(Array(bytes), limits: limits)
        do throws(GobError) {
            guard let value = try decoder.decode(as: shape, body) else { throw GobError(.truncated, "EOF") }
            return value
        } catch {
            // Go says which package a type is of; here, as in 2.8.1's own types, it is left out.
            let text = error.message.split(separator: " ", omittingEmptySubsequences: false)
                .map { $0.hasPrefix("main.") ? $0.dropFirst(5) : $0 }.joined(separator: " ")
            throw IPAMError(error.code == .limit ? .limit : .malformed, text)
        }
    }

    static func tooMany(_ what: String) -> GobError { GobError(.limit, "too many \(what)") }

    // MARK: Ranges

    private static let rangeEncoder = encoder(for: rangeShape)

    static func encode(_ range: AddressRange) -> [UInt8] {
        var encoder = rangeEncoder
        var out: [UInt8] = []
        try? encoder.encode(as: rangeShape, into: &out) { writer in
            writer.structure { writer in
                writer.uint(UInt64(range.start), at: 0)
                // The top of the address space does not fit 32 bits; nobody owns its last address.
                writer.uint(UInt64(min(range.end, AddressRange.top - 1)), at: 1)
            }
        }
        return out
    }

    static func decodeRange(_ bytes: some Collection<UInt8>) throws(IPAMError) -> AddressRange {
        let (start, end) = try decode(bytes, as: rangeShape) { (reader) throws(GobError) in
            var bounds = (0, 0)
            try reader.structure { (reader, field) throws(GobError) in
                let value = Int(try reader.uint())
                if field == 0 { bounds.0 = value } else { bounds.1 = value }
            }
            return bounds
        }
        guard let range = AddressRange(start: start, end: end) else {
            throw IPAMError(.malformed, "a range from \(IPv4Address(start)) to \(IPv4Address(end)) is none")
        }
        return range
    }

    // MARK: Peers and proposals

    static func readPeer(_ reader: inout GobReader) throws(GobError) -> PeerName {
        let value = try reader.uint()
        guard let peer = PeerName(exactly: value) else {
            throw GobError(.outOfRange, "peer name \(value) has more than 48 bits")
        }
        return peer
    }

    static func write(_ node: NodeID, _ writer: inout GobWriter, at field: Int? = nil) {
        writer.structure(at: field) { writer in
            writer.uint(node.peer.rawValue, at: 0)
            writer.uint(node.uid, at: 1)
        }
    }

    static func readNodeID(_ reader: inout GobReader) throws(GobError) -> NodeID {
        var node = NodeID(peer: .unknown, uid: 0)
        try reader.structure { (reader, field) throws(GobError) in
            if field == 0 { node.peer = try readPeer(&reader) } else { node.uid = try reader.uint() }
        }
        return node
    }

    private static func write(_ proposal: ProposalID, _ writer: inout GobWriter, at field: Int) {
        writer.structure(at: field) { writer in
            writer.uint(proposal.round, at: 0)
            write(proposal.proposer, &writer, at: 1)
        }
    }

    private static func readProposal(_ reader: inout GobReader) throws(GobError) -> ProposalID {
        var proposal = ProposalID.none
        try reader.structure { (reader, field) throws(GobError) in
            if field == 0 { proposal.round = try reader.uint() } else { proposal.proposer = try readNodeID(&reader) }
        }
        return proposal
    }

    static func write(_ claims: NodeClaims, _ writer: inout GobWriter) {
        writer.structure { writer in
            write(claims.promise, &writer, at: 0)
            write(claims.accepted, &writer, at: 1)
            writer.structure(at: 2) { writer in
                writer.list(claims.value, at: 0) { $0.uint($1.rawValue) }
                write(claims.origin, &writer, at: 1)
            }
        }
    }

    static func readClaims(_ reader: inout GobReader) throws(GobError) -> NodeClaims {
        var claims = NodeClaims()
        try reader.structure { (reader, field) throws(GobError) in
            switch field {
            case 0: claims.promise = try readProposal(&reader)
            case 1: claims.accepted = try readProposal(&reader)
            default:
                try reader.structure { (reader, field) throws(GobError) in
                    if field == 0 {
                        claims.value = try readPeers(&reader, atMost: Consensus.maximumNodes)
                    } else {
                        claims.origin = try readProposal(&reader)
                    }
                }
            }
        }
        return claims
    }

    private static func readPeers(_ reader: inout GobReader, atMost limit: Int) throws(GobError) -> [PeerName] {
        var peers: [PeerName] = []
        try reader.list { (reader) throws(GobError) in
            guard peers.count < limit else { throw tooMany("peer names") }
            peers.append(try readPeer(&reader))
        }
        return peers
    }

    // MARK: Rings

    static func write(_ ring: Ring, _ writer: inout GobWriter, at field: Int? = nil) {
        writer.structure(at: field) { writer in
            writer.uint(UInt64(ring.universe.start), at: 0)
            writer.uint(UInt64(ring.universe.end), at: 1)
            writer.uint(ring.peer.rawValue, at: 2)
            writer.list(ring.entries, at: 3) { writer, entry in
                writer.structure { writer in
                    writer.uint(UInt64(entry.token.rawValue), at: 0)
                    writer.uint(entry.peer.rawValue, at: 1)
                    writer.uint(UInt64(entry.version), at: 2)
                    writer.uint(UInt64(entry.free), at: 3)
                }
            }
            writer.list(ring.seeds, at: 4) { $0.uint($1.rawValue) }
        }
    }

    static func readRing(_ reader: inout GobReader) throws(GobError) -> Ring {
        var (start, end) = (0, 0)
        var (peer, entries, seeds): (PeerName, [RingEntry], [PeerName]) = (.unknown, [], [])
        try reader.structure { (reader, field) throws(GobError) in
            switch field {
            case 0: start = Int(try reader.uint())
            case 1: end = Int(try reader.uint())
            case 2: peer = try readPeer(&reader)
            case 3:
                try reader.list { (reader) throws(GobError) in
                    guard entries.count < RingLimits.entries else { throw tooMany("entries in a ring") }
                    entries.append(try readEntry(&reader))
                }
            default: seeds = try readPeers(&reader, atMost: RingLimits.seeds)
            }
        }
        guard let universe = AddressRange(start: start, end: end) else {
            throw GobError(.outOfRange, "a ring from \(IPv4Address(start)) to \(IPv4Address(end)) is none")
        }
        return Ring(universe: universe, peer: peer, entries: entries, seeds: seeds)
    }

    private static func readEntry(_ reader: inout GobReader) throws(GobError) -> RingEntry {
        var entry = RingEntry(token: .any, peer: .unknown, free: 0)
        try reader.structure { (reader, field) throws(GobError) in
            switch field {
            case 0: entry.token = IPv4Address(rawValue: UInt32(truncatingIfNeeded: try reader.uint()))
            case 1: entry.peer = try readPeer(&reader)
            case 2: entry.version = UInt32(truncatingIfNeeded: try reader.uint())
            default: entry.free = UInt32(truncatingIfNeeded: try reader.uint())
            }
        }
        return entry
    }
}
