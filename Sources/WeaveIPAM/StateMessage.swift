public import WeaveCore
import WeaveGob

/// Everything an allocator tells others: its ring, or, while there is none, what it knows of the first agreement.
public struct StateMessage: Sendable, Hashable {
    /// Seconds since 1970; old peers look at it, this one does not.
    public var unixSeconds: Int64
    /// What peers are called by people.
    public var nicknames: [PeerName: String]
    /// Claims of the first agreement: nil once there is a ring, and from an observer. None at all is something else than nil.
    public var consensus: [NodeID: NodeClaims]?
    /// The ring, when there is one.
    public var ring: Ring?

    /// Makes a message.
    public init(
        unixSeconds: Int64, nicknames: [PeerName: String], consensus: [NodeID: NodeClaims]? = nil, ring: Ring? = nil
    ) {
        self.unixSeconds = unixSeconds
        self.nicknames = nicknames
        self.consensus = consensus
        self.ring = ring
    }

    /// The most nicknames read, and the most bytes of one: those of a mesh, with room for the past.
    public static let maximumNicknames = 1 << 14
    public static let maximumNicknameBytes = 256

    /// The message as gob.
    public func encode() -> [UInt8] {
        var encoder = Self.encoder
        var out: [UInt8] = []
        // The shape is fixed and fits what is written, so this cannot fail; an empty payload would be refused, not believed.
        try? encoder.encode(as: Self.shape, into: &out) { write(&$0) }
        return out
    }

    /// Reads a message. Bytes after it are not looked at.
    ///
    /// - Throws: `IPAMError` of code `malformed`, or `limit` when it is larger than is taken.
    public static func decode(_ bytes: some Collection<UInt8>) throws(IPAMError) -> StateMessage {
        try IPAMWire.decode(bytes, as: shape) { (reader) throws(GobError) in try read(&reader) }
    }

    static let shape = GobShape(
        .structure(
            "gossipState",
            [
                GobFieldType("Now", .int(bits: 64)),
                GobFieldType("Nicknames", .map(.spelled("map[mesh.PeerName]string"), .uint(bits: 64), .string)),
                GobFieldType("Paxos", .map(.defined("GossipState"), IPAMWire.nodeID, IPAMWire.nodeClaims)),
                GobFieldType("Ring", .pointer(IPAMWire.ring)),
            ]))

    private static let encoder = IPAMWire.encoder(for: shape)

    private func write(_ writer: inout GobWriter) {
        writer.structure { writer in
            writer.int(unixSeconds, at: 0)
            writer.map(nicknames.sorted { $0.key < $1.key }, at: 1) { writer, pair in
                writer.uint(pair.key.rawValue)
                writer.string(pair.value)
            }
            if let consensus {
                writer.map(consensus.sorted { $0.key < $1.key }, at: 2) { writer, pair in
                    IPAMWire.write(pair.key, &writer)
                    IPAMWire.write(pair.value, &writer)
                }
            }
            if let ring { IPAMWire.write(ring, &writer, at: 3) }
        }
    }

    private static func read(_ reader: inout GobReader) throws(GobError) -> StateMessage {
        var message = StateMessage(unixSeconds: 0, nicknames: [:])
        try reader.structure { (reader, field) throws(GobError) in
            switch field {
            case 0: message.unixSeconds = try reader.int()
            case 1: message.nicknames = try readNicknames(&reader)
            case 2:
                var claims: [NodeID: NodeClaims] = [:]
                try reader.map { (reader) throws(GobError) in
                    guard claims.count < Consensus.maximumNodes else { throw IPAMWire.tooMany("participants") }
                    let node = try IPAMWire.readNodeID(&reader)
                    claims[node] = try IPAMWire.readClaims(&reader)
                }
                message.consensus = claims
            default: message.ring = try IPAMWire.readRing(&reader)
            }
        }
        return message
    }

    private static func readNicknames(_ reader: inout GobReader) throws(GobError) -> [PeerName: String] {
        var nicknames: [PeerName: String] = [:]
        try reader.map { (reader) throws(GobError) in
            guard nicknames.count < maximumNicknames else { throw IPAMWire.tooMany("nicknames") }
            let peer = try IPAMWire.readPeer(&reader)
            let bytes = try reader.stringBytes()
            guard bytes.count <= maximumNicknameBytes else { throw IPAMWire.tooMany("bytes in a nickname") }
            // Bytes that are no UTF-8 grow when they are repaired, and others must be able to read what we pass on.
            let nickname = String(decoding: bytes, as: UTF8.self)
            guard nickname.utf8.count <= maximumNicknameBytes else {
                throw IPAMWire.tooMany("bytes in a nickname that is not UTF-8")
            }
            nicknames[peer] = nickname
        }
        return nicknames
    }
}

/// A message for one peer: a tag and what it is about.
public enum PeerMessage: Sendable, Hashable {
    /// Please give me addresses of this range.
    case spaceRequest(AddressRange)
    /// This is what I know.
    case ringUpdate(StateMessage)
    /// I have nothing free in the range you asked for.
    case denied(AddressRange)
    /// A tag of a version to come: to be passed over. 2.8.1 hangs on one.
    case unknown(tag: UInt8)

    /// The bytes to send; nil for a message that is never sent.
    public func encode() -> [UInt8]? {
        switch self {
        case .spaceRequest(let range): [0] + IPAMWire.encode(range)
        case .ringUpdate(let state): [1] + state.encode()
        case .denied(let range): [2] + IPAMWire.encode(range)
        case .unknown: nil
        }
    }

    /// Reads a message.
    ///
    /// - Throws: `IPAMError` of code `malformed` or `limit`.
    public static func decode(_ bytes: [UInt8]) throws(IPAMError) -> PeerMessage {
        guard let tag = bytes.first else { throw IPAMError(.malformed, "EOF") }
        switch tag {
        case 0: return .spaceRequest(try IPAMWire.decodeRange(bytes.dropFirst()))
        case 1: return .ringUpdate(try StateMessage.decode(bytes.dropFirst()))
        case 2: return .denied(try IPAMWire.decodeRange(bytes.dropFirst()))
        default: return .unknown(tag: tag)
        }
    }
}
