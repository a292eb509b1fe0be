import WeaveCore

/// The payload of a message of tag 4, 5 or 6: a channel, one or two names, and data.
struct GossipEnvelope: Sendable, Equatable {
    var channel: String
    /// Tag 4: the neighbour. Tags 5 and 6: where the message began.
    var source: PeerName
    /// Tag 5: where it goes.
    var destination: PeerName?
    /// Where the data lies in the payload; nil when it was not looked for.
    var data: Range<Int>?

    /// The longest name of a channel. Those of 2.8.1 have up to twelve bytes.
    static let maximumChannelBytes = 256

    /// Reads a payload. The data of a unicast for somebody else is not looked at, as it is passed on as it came.
    static func read(
        _ payload: [UInt8], tag: MessageTag, ourself: PeerName
    ) throws(MeshWireError) -> GossipEnvelope {
        var cursor = MeshWireCursor(payload)
        var channel = try value(&cursor, MeshWireType.string, local: "*string")
        let nameBytes = try channel.range("string")
        guard nameBytes.count <= maximumChannelBytes else {
            throw MeshWireError("gossip channel name of \(nameBytes.count) bytes; at most \(maximumChannelBytes)")
        }
        // Bytes that are no UTF-8 grow when they are repaired, and the next peer must be able to read what we pass on.
        let channelName = String(decoding: payload[nameBytes], as: UTF8.self)
        guard channelName.utf8.count <= maximumChannelBytes else {
            throw MeshWireError("gossip channel name of \(nameBytes.count) bytes that are not UTF-8")
        }
        var envelope = GossipEnvelope(channel: channelName, source: try name(&cursor))
        if tag == .gossipUnicast {
            let destination = try name(&cursor)
            envelope.destination = destination
            if destination != ourself { return envelope }
        }
        var data = try value(&cursor, MeshWireType.bytes, local: "*[]uint8")
        envelope.data = try data.range("[]uint8")
        return envelope
    }

    /// Where the data of a unicast lies that is looked at after all.
    private static func name(_ cursor: inout MeshWireCursor) throws(MeshWireError) -> PeerName {
        var value = try value(&cursor, MeshWireType.uint, local: "*mesh.PeerName")
        return PeerName(truncating: try value.unsigned())
    }

    /// The value of the next message, which must be of the given type.
    private static func value(
        _ cursor: inout MeshWireCursor, _ type: Int, local: StaticString
    ) throws(MeshWireError) -> MeshWireCursor {
        guard var message = try cursor.message() else { throw MeshWireError.ended }
        let id = try message.signed()
        guard id == Int64(type) else {
            throw MeshWireError(
                "gob: decoding into local type \(local), received remote type \(MeshWireType.name(id))")
        }
        guard try message.unsigned() == 0 else {
            throw MeshWireError("gob: decode: corrupted data: non-zero delta for singleton")
        }
        return message
    }

    /// The payload of a message of tag 4 or 6.
    static func encode(channel: String, source: PeerName, data: [UInt8]) -> [UInt8] {
        write(channel, [source], data)
    }

    /// The payload of a message of tag 5.
    static func encode(channel: String, source: PeerName, destination: PeerName, data: [UInt8]) -> [UInt8] {
        write(channel, [source, destination], data)
    }

    private static func write(_ channel: String, _ names: [PeerName], _ data: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(data.count + channel.utf8.count + 64)
        append(counted: Array(channel.utf8), type: MeshWireType.string, to: &out)
        for name in names {
            out.appendWireUnsigned(UInt64(2 + [UInt8].wireUnsignedLength(name.rawValue)))
            out.append(UInt8(MeshWireType.uint << 1))
            out.append(0)
            out.appendWireUnsigned(name.rawValue)
        }
        append(counted: data, type: MeshWireType.bytes, to: &out)
        return out
    }

    private static func append(counted bytes: [UInt8], type: Int, to out: inout [UInt8]) {
        let count = UInt64(bytes.count)
        out.appendWireUnsigned(UInt64(2 + [UInt8].wireUnsignedLength(count)) + count)
        out.append(UInt8(type << 1))
        out.append(0)
        out.appendWireUnsigned(count)
        out += bytes
    }
}
