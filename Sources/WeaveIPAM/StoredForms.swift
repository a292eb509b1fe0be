public import WeaveCore
import WeaveGob

/// What one container, or whatever else a name stands for, has.
public struct OwnedAddresses: Sendable, Hashable {
    /// Whether the addresses go when the container of this name does.
    public var isContainer: Bool
    /// The addresses, each with the prefix of the subnet it was asked for in; in the order in which they came.
    public var cidrs: [IPv4CIDR]

    /// Makes a record.
    public init(isContainer: Bool, cidrs: [IPv4CIDR]) {
        self.isContainer = isContainer
        self.cidrs = cidrs
    }
}

/// The records as 2.8.1 stores them, for taking over a state it has left and for stores that keep bytes.
public enum StoredForms {
    /// The most names, and addresses of one name, that a record is believed to hold.
    static let maximumOwners = 1 << 20
    static let maximumAddresses = 1 << 12

    private static let ringShape = GobShape(IPAMWire.ring)
    private static let ownedShape = GobShape(
        .map(
            nil, .string,
            .structure(
                "ownedData",
                [
                    GobFieldType("IsContainer", .bool),
                    GobFieldType(
                        "Cidrs",
                        .slice(
                            .spelled("[]address.CIDR"),
                            .structure(
                                "CIDR",
                                [GobFieldType("Addr", .uint(bits: 32)), GobFieldType("PrefixLen", .int(bits: 64))]))),
                ])))

    /// The value of `peername`.
    public static func encode(peerName: PeerName) -> [UInt8] {
        var out: [UInt8] = []
        var encoder = GobEncoder()
        try? encoder.encode(peerName.rawValue, into: &out)
        return out
    }

    /// Reads the value of `peername`.
    public static func decodePeerName(_ bytes: [UInt8]) throws(IPAMError) -> PeerName {
        try IPAMWire.decode(bytes, as: .uint) { (reader) throws(GobError) in try IPAMWire.readPeer(&reader) }
    }

    /// The value of `ring`.
    public static func encode(ring: Ring) -> [UInt8] {
        var out: [UInt8] = []
        var encoder = GobEncoder()
        try? encoder.encode(as: ringShape, into: &out) { IPAMWire.write(ring, &$0) }
        return out
    }

    /// Reads the value of `ring`.
    public static func decodeRing(_ bytes: [UInt8]) throws(IPAMError) -> Ring {
        try IPAMWire.decode(bytes, as: ringShape) { (reader) throws(GobError) in try IPAMWire.readRing(&reader) }
    }

    /// The value of `ownedAddresses`.
    public static func encode(owned: [String: OwnedAddresses]) -> [UInt8] {
        var out: [UInt8] = []
        var encoder = GobEncoder()
        try? encoder.encode(as: ownedShape, into: &out) { writer in
            writer.map(owned.sorted { $0.key < $1.key }) { writer, pair in
                writer.string(pair.key)
                writer.structure { writer in
                    writer.bool(pair.value.isContainer, at: 0)
                    writer.list(pair.value.cidrs, at: 1) { writer, cidr in
                        writer.structure { writer in
                            writer.uint(UInt64(cidr.address.rawValue), at: 0)
                            writer.int(Int64(cidr.prefixLength), at: 1)
                        }
                    }
                }
            }
        }
        return out
    }

    /// Reads the value of `ownedAddresses`.
    public static func decodeOwned(_ bytes: [UInt8]) throws(IPAMError) -> [String: OwnedAddresses] {
        try IPAMWire.decode(bytes, as: ownedShape) { (reader) throws(GobError) in
            var owned: [String: OwnedAddresses] = [:]
            try reader.map { (reader) throws(GobError) in
                guard owned.count < maximumOwners else { throw IPAMWire.tooMany("names with addresses") }
                let ident = try reader.string()
                owned[ident] = try readOwned(&reader)
            }
            return owned
        }
    }

    private static func readOwned(_ reader: inout GobReader) throws(GobError) -> OwnedAddresses {
        var owned = OwnedAddresses(isContainer: false, cidrs: [])
        try reader.structure { (reader, field) throws(GobError) in
            if field == 0 {
                owned.isContainer = try reader.bool()
                return
            }
            try reader.list { (reader) throws(GobError) in
                guard owned.cidrs.count < maximumAddresses else { throw IPAMWire.tooMany("addresses of one name") }
                var (address, length): (IPv4Address, Int64) = (.any, 0)
                try reader.structure { (reader, field) throws(GobError) in
                    if field == 0 {
                        address = IPv4Address(rawValue: UInt32(truncatingIfNeeded: try reader.uint()))
                    } else {
                        length = try reader.int()
                    }
                }
                guard (0...32).contains(length), let cidr = IPv4CIDR(address, prefixLength: Int(length)) else {
                    throw GobError(.outOfRange, "prefix length \(length) of \(address)")
                }
                owned.cidrs.append(cidr)
            }
        }
        return owned
    }
}
