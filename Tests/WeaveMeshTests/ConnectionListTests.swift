import Testing
import WeaveCore

@testable import WeaveMesh

@Suite("Packed connections")
struct ConnectionListTests {
    private func list(_ addresses: [String]) -> ConnectionList {
        var list = ConnectionList()
        for (index, address) in addresses.enumerated() {
            list.append(
                name: PeerName(truncating: UInt64(index + 1)), address: Array(address.utf8)[...],
                outbound: index % 2 == 0, established: index % 3 == 0)
        }
        return list
    }

    private static let addresses = [
        "10.0.0.1:6783", "255.255.255.255:65535", "0.0.0.0:0", "1.2.3.4:10", "", "[fe80::1%eth0]:6783", "host:80",
        // Addresses that others may write in their way come back as they came.
        "01.2.3.4:5", "1.2.3.4:05", "1.2.3.256:5", "1.2.3.4:65536", "1.2.3:4", "1.2.3.4.5:6", "1.2.3.4:", ":1",
        "1.2.3.4",
        "1.2.3.4:1x", " 1.2.3.4:1", "1..2.3:4", "00.0.0.0:1", "1.2.3.4:000", "1:2:3:4:5", "1.2.3.4:1:",
        String(repeating: "9", count: 256),
    ]

    @Test("come back as they were")
    func roundTrip() {
        var found: [String] = []
        let list = list(Self.addresses)
        list.forEach { connection in
            let index = found.count
            #expect(connection.name == PeerName(truncating: UInt64(index + 1)))
            #expect(connection.outbound == (index % 2 == 0))
            #expect(connection.established == (index % 3 == 0))
            found.append(connection.address.description)
        }
        #expect(found == Self.addresses)
        #expect(list.count == found.count)
    }

    @Test("travel byte for byte as if they had never been packed")
    func encoding() {
        var expected: [UInt8] = []
        for (index, address) in Self.addresses.enumerated() {
            TopologyWriter.appendConnection(
                to: &expected, name: PeerName(truncating: UInt64(index + 1)), address: Array(address.utf8)[...],
                outbound: index % 2 == 0, established: index % 3 == 0)
        }
        #expect(list(Self.addresses).encoded == expected)
    }

    @Test("take 13 bytes each, with an address as it usually is")
    func size() {
        #expect(list(["10.0.0.1:6783", "255.255.255.255:65535"]).byteCount == 26)
        #expect(ConnectionList().encoded.isEmpty)
    }

    @Test("tell endpoints", arguments: [("10.0.0.1:6783", "10.0.0.1:6783"), ("[::1]:7", "[::1]:7"), ("x", nil)])
    func endpoints(_ text: String, _ expected: String?) {
        list([text]).forEach { #expect($0.address.endpoint?.description == expected) }
    }
}
