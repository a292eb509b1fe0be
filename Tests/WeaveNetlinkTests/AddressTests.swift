import NetLab
import Testing
import WeaveCore
import WeaveNetlink

@Suite("Addresses, routes and neighbours", .enabled(if: LabShell.canMakeNamespaces))
struct AddressTests {
    /// Runs `body` in a fresh namespace with a veth pair `a`, `b`, both on.
    private func withPair(_ body: @Sendable (RouteNetlink, Link) throws -> Void) throws {
        let lab = try LabCluster()
        try NetworkNamespace(named: lab.addContainer().namespace).run {
            let netlink = try RouteNetlink()
            try netlink.createVeth(.init("a"), .init("b"))
            try netlink.set(netlink.existingLink(named: "b"), up: true)
            let a = try netlink.existingLink(named: "a")
            try netlink.set(a, up: true)
            try body(netlink, a)
        }
    }

    @Test("Addresses of both families come and go, and doing it twice is no error")
    func addresses() throws {
        try withPair { netlink, a in
            for text in ["10.32.0.1/12", "10.32.0.2/31", "fd00::1/64"] {
                let prefix = try #require(IPPrefix(text))
                #expect(try netlink.add(prefix, to: a))
                #expect(try !netlink.add(prefix, to: a))
                #expect(try netlink.addresses(of: a).contains { $0.prefix == prefix })
            }
            #expect(try netlink.addresses().contains { $0.prefix == IPPrefix("127.0.0.1/8") })
            // The kernel gives it when it has noticed the carrier.
            #expect(
                try LabShell.poll(seconds: 5) {
                    try netlink.addresses(of: a).contains { $0.isLinkScope && $0.prefix.address.v4 == nil }
                })
            for text in ["10.32.0.1/12", "10.32.0.2/31", "fd00::1/64"] {
                let prefix = try #require(IPPrefix(text))
                #expect(try netlink.remove(prefix, from: a))
                #expect(try !netlink.remove(prefix, from: a))
            }
            #expect(try netlink.addresses(of: a).allSatisfy(\.isLinkScope))
        }
    }

    @Test("A subnet's broadcast address is set as the kernel's own tools set it")
    func broadcast() throws {
        let lab = try LabCluster()
        let name = try lab.addContainer().namespace
        try NetworkNamespace(named: name).run {
            let netlink = try RouteNetlink()
            try netlink.createBridge("br0")
            let prefix = try #require(IPPrefix("10.2.3.4/20"))
            try netlink.add(prefix, to: netlink.existingLink(named: "br0"))
        }
        #expect(try LabShell.run("ip", "-n", name, "address", "show", "br0").contains("brd 10.2.15.255"))
    }

    @Test("Routes: on the link, by a gateway, default, and both families")
    func routes() throws {
        try withPair { netlink, a in
            try netlink.add(#require(IPPrefix("10.32.0.1/16")), to: a)
            try netlink.add(#require(IPPrefix("fd00::1/64")), to: a)
            let routes = [
                Route(destination: IPPrefix("224.0.0.0/4"), index: a.index),
                Route(destination: nil, gateway: IPAddress("10.32.0.9"), index: a.index),
                Route(destination: IPPrefix("10.50.0.0/16"), gateway: IPAddress("10.32.0.9"), index: a.index),
                Route(destination: nil, gateway: IPAddress("fd00::9"), index: a.index, priority: 7),
            ]
            for route in routes {
                #expect(try netlink.add(route))
                #expect(try !netlink.add(route))
                let found = try netlink.routes().contains {
                    $0.destination == route.destination && $0.gateway == route.gateway && $0.index == a.index
                        && $0.isIPv6 == route.isIPv6
                }
                #expect(found, "\(route)")
            }
            for route in routes {
                #expect(try netlink.remove(route))
                #expect(try !netlink.remove(route))
            }
            let lost = #expect(throws: NetlinkError.self) {
                try netlink.add(Route(destination: nil, gateway: IPAddress("192.0.2.1"), index: a.index))
            }
            #expect(lost?.message.contains("add the route to everywhere") == true)
        }
    }

    @Test("A neighbour is set, replaced and forgotten")
    func neighbours() throws {
        try withPair { netlink, a in
            try netlink.add(#require(IPPrefix("10.32.0.1/16")), to: a)
            let address = try #require(IPAddress("10.32.0.7"))
            for value in [UInt64(0x0200_0000_0001), 0x0200_0000_0002] {
                let neighbour = Neighbour(address: address, mac: MACAddress(truncating: value), index: a.index)
                try netlink.set(neighbour)
                #expect(try netlink.neighbours(of: a).contains(neighbour))
            }
            let neighbour = Neighbour(address: address, mac: nil, index: a.index)
            #expect(try netlink.remove(neighbour))
            #expect(try netlink.neighbours(of: a).allSatisfy { $0.address != address || $0.mac == nil })
        }
    }
}
