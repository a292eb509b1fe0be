import Testing
import WeaveCore
import WeaveDatapath
import WeaveNetlink

@Suite("The host's network")
struct BridgeHostNetworkTests {
    private let network = HostNetwork(
        links: [
            Link(index: 1, name: "lo", kind: ""), Link(index: 2, name: "eth0", kind: ""),
            Link(index: 3, name: "docker0", kind: "bridge"), Link(index: 4, name: "weave", kind: "bridge"),
        ],
        routes: [
            Route(destination: nil, gateway: IPAddress("192.168.1.1"), index: 2),
            Route(destination: IPPrefix("192.168.1.0/24"), index: 2),
            Route(destination: IPPrefix("172.17.0.0/16"), index: 3),
            Route(destination: IPPrefix("10.32.0.0/12"), index: 4),
            Route(destination: IPPrefix("fd00::/8"), index: 2),
        ],
        addresses: [(1, "127.0.0.1/8"), (2, "192.168.1.7/24"), (2, "fd00::7/8"), (3, "172.17.0.1/16")].compactMap {
            (index, text) in IPPrefix(text).map { InterfaceAddress(prefix: $0, index: index) }
        })

    @Test(
        "A range that shares addresses with a route is refused, either way round; the default route does not count",
        arguments: [
            ("192.168.0.0/16", "192.168.1.0/24"), ("172.17.5.0/24", "172.17.0.0/16"), ("10.32.0.0/12", nil),
            ("10.200.0.0/16", nil), ("192.168.2.0/24", nil),
        ] as [(String, String?)])
    func ranges(range: String, route: String?) throws {
        let conflict = try network.conflict(of: #require(IPv4CIDR(range)))
        #expect(conflict == route.map { "Network \(range) overlaps with existing route \($0) on host" })
    }

    @Test("The bridge's own route counts when it is not excepted")
    func notIgnored() throws {
        #expect(try network.conflict(of: #require(IPv4CIDR("10.40.0.0/16")), ignoring: []) != nil)
    }

    @Test("An address inside a route is refused")
    func addresses() throws {
        let address = try #require(IPv4Address("172.17.9.9"))
        #expect(
            network.conflict(of: address) == "Address 172.17.9.9 overlaps with existing route 172.17.0.0/16 on host")
        #expect(try network.conflict(of: #require(IPv4Address("10.32.0.1"))) == nil)
    }

    @Test("Others are told the addresses of neither bridges nor loopback")
    func local() {
        #expect(network.localAddresses.map(\.description) == ["192.168.1.7/24"])
    }
}
