import WeaveCore

/// The connections of a peer, packed: in a full mesh the records of all peers list each connection once for every peer,
/// and are most of what a peer remembers. An IPv4 address and port take six bytes instead of a text of up to 21.
struct ConnectionList: Sendable {
    struct Element: Equatable {
        var name: PeerName
        var address: Address
        var outbound: Bool
        var established: Bool
    }

    enum Address: Equatable {
        case v4(IPv4Address, port: UInt16)
        /// Anything else, as it came.
        case text(ArraySlice<UInt8>)
    }

    private(set) var count = 0
    /// A sum over all connections, whatever their order: packed ones are equal when they say the same.
    private(set) var sum: UInt64 = 0
    private var bytes: [UInt8] = []

    private static let outbound: UInt8 = 1
    private static let established: UInt8 = 2
    private static let isV4: UInt8 = 4

    /// Bytes of memory.
    var byteCount: Int { bytes.count }

    var isEmpty: Bool { count == 0 }

    mutating func reserve(_ count: Int) { bytes.reserveCapacity(count * (1 + PeerName.byteCount + 6)) }

    /// Adds a connection; `address` is the text of its record.
    mutating func append(name: PeerName, address: ArraySlice<UInt8>, outbound: Bool, established: Bool) {
        count += 1
        let first = bytes.count
        defer { sum &+= Fingerprint.of(bytes[first...]) }
        let flags = (outbound ? Self.outbound : 0) | (established ? Self.established : 0)
        let endpoint = Self.endpoint(address)
        bytes.append(flags | (endpoint == nil ? 0 : Self.isV4))
        bytes.appendInteger(name.rawValue, byteCount: PeerName.byteCount)
        if let endpoint {
            bytes.appendInteger(endpoint.address, byteCount: 4)
            bytes.appendInteger(endpoint.port, byteCount: 2)
        } else {
            bytes.appendInteger(UInt16(truncatingIfNeeded: address.count), byteCount: 2)
            bytes += address.prefix(Int(UInt16.max))
        }
    }

    /// What a connection adds to the sum of its list.
    static func fingerprint(
        name: PeerName, address: ArraySlice<UInt8>, outbound: Bool, established: Bool
    ) -> UInt64 {
        var list = ConnectionList()
        list.append(name: name, address: address, outbound: outbound, established: established)
        return list.sum
    }

    func forEach(_ body: (Element) -> Void) {
        var position = 0
        func integer(_ count: Int) -> UInt64 {
            var value: UInt64 = 0
            for index in position..<position + count { value = value << 8 | UInt64(bytes[index]) }
            position += count
            return value
        }
        while position < bytes.count {
            let flags = UInt8(truncatingIfNeeded: integer(1))
            let name = PeerName(truncating: integer(PeerName.byteCount))
            let address: Address
            if flags & Self.isV4 != 0 {
                let number = UInt32(truncatingIfNeeded: integer(4))
                address = .v4(IPv4Address(rawValue: number), port: UInt16(truncatingIfNeeded: integer(2)))
            } else {
                let count = Int(integer(2))
                address = .text(bytes[position..<position + count])
                position += count
            }
            body(
                Element(
                    name: name, address: address, outbound: flags & Self.outbound != 0,
                    established: flags & Self.established != 0))
        }
    }

    /// The connections as they travel (`TopologyWriter.appendConnection`).
    var encoded: [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(count * 33)
        var text: [UInt8] = []
        forEach { element in
            let address: ArraySlice<UInt8>
            switch element.address {
            case .text(let slice): address = slice
            case .v4(let host, let port):
                text.removeAll(keepingCapacity: true)
                Self.write(host, port, to: &text)
                address = text[...]
            }
            TopologyWriter.appendConnection(
                to: &out, name: element.name, address: address, outbound: element.outbound,
                established: element.established)
        }
        return out
    }

    // MARK: Addresses

    /// Reads `a.b.c.d:port`, written as we would write it.
    private static func endpoint(_ text: ArraySlice<UInt8>) -> (address: UInt32, port: UInt16)? {
        var address: UInt32 = 0
        var number: UInt32 = 0
        var digits = 0
        var dots = 0
        for byte in text {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                guard digits == 0 || number > 0 && digits < 5 else { return nil }
                number = number * 10 + UInt32(byte - UInt8(ascii: "0"))
                digits += 1
            case UInt8(ascii: "."), UInt8(ascii: ":"):
                guard digits > 0, number <= 255, (byte == UInt8(ascii: ":")) == (dots == 3), dots < 4 else {
                    return nil
                }
                address = address << 8 | number
                (number, digits, dots) = (0, 0, dots + 1)
            default: return nil
            }
        }
        guard dots == 4, digits > 0, let port = UInt16(exactly: number) else { return nil }
        return (address, port)
    }

    private static func write(_ host: IPv4Address, _ port: UInt16, to out: inout [UInt8]) {
        for shift in stride(from: 24, through: 0, by: -8) {
            write(host.rawValue >> UInt32(shift) & 255, to: &out)
            out.append(shift > 0 ? UInt8(ascii: ".") : UInt8(ascii: ":"))
        }
        write(UInt32(port), to: &out)
    }

    private static func write(_ number: UInt32, to out: inout [UInt8]) {
        var unit: UInt32 = 1
        while number / unit >= 10 { unit *= 10 }
        while unit > 0 {
            out.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: number / unit % 10))
            unit /= 10
        }
    }
}

extension ConnectionList.Address: CustomStringConvertible {
    /// The text of the record.
    var description: String {
        switch self {
        case .v4(let host, let port): "\(host):\(port)"
        case .text(let bytes): String(decoding: bytes, as: UTF8.self)
        }
    }

    /// Nil when it is none.
    var endpoint: Endpoint? {
        switch self {
        case .v4(let host, let port): Endpoint(.v4(host), port: port)
        case .text(let bytes): Endpoint(String(decoding: bytes, as: UTF8.self))
        }
    }
}
