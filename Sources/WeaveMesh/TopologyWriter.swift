import WeaveCore

/// Writes topology updates byte for byte as 2.8.1 does: the type definitions once, then for each peer its summary and
/// its connections. The connections of a record are kept in their encoded form, so that writing is copying.
struct TopologyWriter {
    private(set) var bytes: [UInt8] = []

    private static let summaryID: UInt8 = 65
    private static let connectionID: UInt8 = 66
    private static let listID: UInt8 = 67

    private static let summaryDefinition = structure(
        "peerSummary", summaryID,
        [
            ("NameByte", MeshWireType.bytes), ("NickName", MeshWireType.string), ("UID", MeshWireType.uint),
            ("Version", MeshWireType.uint), ("ShortID", MeshWireType.uint), ("HasShortID", MeshWireType.bool),
        ])

    private static let listDefinitions =
        message(
            head(listID, negative: true) + [2, 1, 2] + positive(listID) + [0, 1] + positive(connectionID) + [0, 0])
        + structure(
            "connectionSummary", connectionID,
            [
                ("NameByte", MeshWireType.bytes), ("RemoteTCPAddr", MeshWireType.string),
                ("Outbound", MeshWireType.bool), ("Established", MeshWireType.bool),
            ])

    private static let summaryHead = head(summaryID, negative: false)
    private static let listHead = head(listID, negative: false)

    /// Adds a record. `connections` are elements as `appendConnection` writes them, without their count.
    mutating func append(
        name: PeerName, nickname: String, uid: UInt64, version: UInt64, shortID: ShortID?, connections: [UInt8],
        count: Int
    ) {
        let isFirst = bytes.isEmpty
        if isFirst { bytes += Self.summaryDefinition }
        var body = Self.summaryHead + [1, UInt8(PeerName.byteCount)]
        body += name.bytes
        var delta: UInt64 = 1
        func field(_ isPresent: Bool) -> Bool {
            if isPresent {
                body.appendWireUnsigned(delta)
                delta = 1
            } else {
                delta += 1
            }
            return isPresent
        }
        let nick = Array(nickname.utf8)
        if field(!nick.isEmpty) {
            body.appendWireUnsigned(UInt64(nick.count))
            body += nick
        }
        if field(uid != 0) { body.appendWireUnsigned(uid) }
        if field(version != 0) { body.appendWireUnsigned(version) }
        if field((shortID?.rawValue ?? 0) != 0) { body.appendWireUnsigned(UInt64(shortID?.rawValue ?? 0)) }
        if field(shortID != nil) { body.append(1) }
        body.append(0)
        bytes.appendWireUnsigned(UInt64(body.count))
        bytes += body
        if isFirst { bytes += Self.listDefinitions }
        let length = Self.listHead.count + 1 + [UInt8].wireUnsignedLength(UInt64(count)) + connections.count
        bytes.reserveCapacity(bytes.count + length + 9)
        bytes.appendWireUnsigned(UInt64(length))
        bytes += Self.listHead
        bytes.append(0)
        bytes.appendWireUnsigned(UInt64(count))
        bytes += connections
    }

    /// Appends one element of a connection list.
    static func appendConnection(
        to out: inout [UInt8], name: PeerName, address: ArraySlice<UInt8>, outbound: Bool, established: Bool
    ) {
        out.append(1)
        out.append(UInt8(PeerName.byteCount))
        for shift in stride(from: 40, through: 0, by: -8) {
            out.append(UInt8(truncatingIfNeeded: name.rawValue >> UInt64(shift)))
        }
        var delta: UInt8 = 1
        if address.isEmpty {
            delta += 1
        } else {
            out.append(delta)
            out.appendWireUnsigned(UInt64(address.count))
            out += address
        }
        if outbound {
            out.append(delta)
            out.append(1)
            delta = 1
        } else {
            delta += 1
        }
        if established {
            out.append(delta)
            out.append(1)
        }
        out.append(0)
    }

    /// A type number at the head of a message. Those from 64 on take two bytes.
    private static func head(_ id: UInt8, negative: Bool) -> [UInt8] { [0xff, id << 1 - (negative ? 1 : 0)] }

    private static func positive(_ id: UInt8) -> [UInt8] { [0xff, id << 1] }

    private static func message(_ body: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        out.appendWireUnsigned(UInt64(body.count))
        return out + body
    }

    private static func structure(_ name: String, _ id: UInt8, _ fields: [(String, Int)]) -> [UInt8] {
        func text(_ text: String) -> [UInt8] { [1, UInt8(text.utf8.count)] + Array(text.utf8) }
        var body = head(id, negative: true) + [3, 1] + text(name) + [1] + positive(id) + [0, 1, UInt8(fields.count)]
        for (name, type) in fields { body += text(name) + [1, UInt8(type << 1), 0] }
        return message(body + [0, 0])
    }
}
