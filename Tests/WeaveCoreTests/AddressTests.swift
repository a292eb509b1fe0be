import Testing
import WeaveCore

@Suite("Addresses") struct AddressTests {
    @Test(
        "a dotted quad is an address",
        arguments: [
            ("0.0.0.0", 0), ("10.32.0.1", 0x0a20_0001), ("255.255.255.255", 0xffff_ffff), ("1.2.3.4", 0x0102_0304),
        ] as [(String, UInt32)])
    func quad(_ text: String, _ number: UInt32) throws {
        let address = try #require(IPv4Address(text))
        #expect(address.rawValue == number)
        #expect(address.description == text)
        #expect(address.bytes.reduce(0) { $0 << 8 | UInt32($1) } == number)
    }

    @Test(
        "anything else is no IPv4 address",
        arguments: [
            "", ".", "1", "1.2.3", "1.2.3.", ".1.2.3", "1..2.3", "1.2.3.4.", "1.2.3.4.5", "256.1.1.1", "01.2.3.4",
            "1.2.3.04", "00.0.0.0", "1.2.3.4 ", " 1.2.3.4", "1.2.3.x", "1.2.3.-4", "1.2.3.4294967297", "١.2.3.4",
        ])
    func noQuad(_ text: String) { #expect(IPv4Address(text) == nil) }

    @Test("every random address survives its own text")
    func roundTrip() {
        var generator = SeededGenerator(seed: 11)
        for _ in 0..<2000 {
            let v4 = IPv4Address(rawValue: UInt32.random(in: 0 ... .max, using: &generator))
            #expect(IPv4Address(v4.description) == v4)
            let mask = UInt64.random(in: 0 ... .max, using: &generator) & .random(in: 0 ... .max, using: &generator)
            let v6 = IPv6Address(high: generator.next() & mask, low: generator.next() & ~mask)
            #expect(IPv6Address(v6.description) == v6)
            #expect(IPv6Address(bytes: v6.bytes) == v6)
            let endpoint = Endpoint(.v6(v6), port: UInt16.random(in: 0 ... .max, using: &generator))
            if v6.mappedIPv4 == nil { #expect(Endpoint(endpoint.description) == endpoint) }
        }
    }

    @Test(
        "IPv6 addresses print in their canonical form",
        arguments: [
            ("::", "::"), ("::1", "::1"), ("fd00:0:0:0:0:0:0:1", "fd00::1"), ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
            ("FE80::ABCD", "fe80::abcd"), ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
            ("1:0:3:4:5:6:7:8", "1:0:3:4:5:6:7:8"),
            ("::1.2.3.4", "::102:304"),
        ])
    func v6(_ text: String, _ canonical: String) {
        #expect(IPv6Address(text)?.description == canonical)
    }

    @Test(
        "anything else is no IPv6 address",
        arguments: [
            "", ":", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "12345::", "g::", "1:2:3:4:5:6:7::8",
            "1.2.3.4",
        ])
    func noV6(_ text: String) { #expect(IPv6Address(text) == nil) }

    @Test("scope and mapping of IPv6 addresses are seen")
    func v6Kinds() {
        #expect(IPv6Address("fe80::1")?.isLinkLocal == true)
        #expect(IPv6Address("febf::1")?.isLinkLocal == true)
        #expect(IPv6Address("fec0::1")?.isLinkLocal == false)
        #expect(IPv6Address("::ffff:10.0.0.1")?.mappedIPv4 == IPv4Address("10.0.0.1"))
        #expect(IPAddress("::ffff:10.0.0.1")?.description == "10.0.0.1")
        #expect(IPAddress("fd00::1")?.v4 == nil)
        #expect(IPAddress("hello") == nil)
        #expect(IPv6Address(bytes: [1, 2, 3]) == nil)
    }

    @Test(
        "endpoints are read in each form that is on the wire",
        arguments: [
            ("10.0.0.1:6783", "10.0.0.1:6783"), ("[fd00::1]:6783", "[fd00::1]:6783"),
            ("fd00::1:6783", "[fd00::1]:6783"),
        ])
    func endpoints(_ text: String, _ canonical: String) { #expect(Endpoint(text)?.description == canonical) }

    @Test(
        "anything else is no endpoint",
        arguments: ["", "10.0.0.1", "10.0.0.1:", "10.0.0.1:65536", ":1", "host:1", "[]:1"])
    func noEndpoint(_ text: String) { #expect(Endpoint(text) == nil) }

    @Test("a CIDR knows its range")
    func cidr() throws {
        let cidr = try #require(IPv4CIDR("10.32.5.7/12"))
        #expect(cidr.description == "10.32.5.7/12")
        #expect(cidr.masked.description == "10.32.0.0/12")
        #expect(cidr.last.description == "10.47.255.255")
        #expect(cidr.contains(IPv4Address(rawValue: 0x0a28_0001)))
        #expect(!cidr.contains(IPv4Address(rawValue: 0x0a30_0000)))
        let whole = try #require(IPv4CIDR("0.0.0.0/0"))
        #expect(whole.mask == 0)
        #expect(whole.contains(IPv4Address(rawValue: 0xff01_0101)))
        #expect(IPv4CIDR("1.2.3.4/32")?.last == IPv4Address("1.2.3.4"))
        #expect(whole.overlaps(cidr) && cidr.overlaps(whole))
        let next = try #require(IPv4CIDR("10.48.0.0/12"))
        #expect(!cidr.overlaps(next))
    }

    @Test(
        "anything else is no CIDR",
        arguments: ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "/8", "10.0.0.0/8/8", "10.0.0.0/08"])
    func noCIDR(_ text: String) {
        #expect(IPv4CIDR(text) == nil)
        #expect(IPv4CIDR(.any, prefixLength: 33) == nil)
        #expect(IPv4CIDR(.any, prefixLength: -1) == nil)
    }

    @Test("Ethernet addresses are read, printed and told apart")
    func mac() throws {
        let mac = try #require(MACAddress("0a:1B:2c:3d:4e:5f"))
        #expect(mac.description == "0a:1b:2c:3d:4e:5f")
        #expect(MACAddress(bytes: mac.bytes) == mac)
        #expect(!mac.isGroup)
        #expect(MACAddress.broadcast.isGroup)
        #expect(MACAddress.spanningTree.description == "01:80:c2:00:00:00")
        #expect(MACAddress(PeerName(truncating: mac.rawValue)) == mac)
        #expect(MACAddress(truncating: 0) < mac)
        for text in [
            "", "0a::1", "0a:1b:2c:3d:4e", "0a:1b:2c:3d:4e:5f:60", "0a:1b:2c:3d:4e:zz", "::1:2:3:4",
            " 0a:1b:2c:3d:4e:5f", "0a:1b:2c:3d:4e:5f:",
        ] {
            #expect(MACAddress(text) == nil)
        }
        #expect(MACAddress(bytes: [1, 2, 3]) == nil)
    }
}
