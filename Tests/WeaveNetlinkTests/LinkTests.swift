import NetLab
import Testing
import WeaveCore
import WeaveNetlink

@Suite("Links", .enabled(if: LabShell.canMakeNamespaces))
struct LinkTests {
    @Test("A veth pair spans two namespaces and its near end becomes a bridge port")
    func vethAndBridge() throws {
        let lab = try LabCluster()
        let host = try NetworkNamespace(named: lab.addContainer().namespace)
        let container = try NetworkNamespace(named: lab.addContainer().namespace)
        let mac = try #require(MACAddress("7a:00:00:00:00:07"))

        let inner = try host.run { () throws in
            let netlink = try RouteNetlink()
            try netlink.createBridge("br0")
            try netlink.createVeth(.init("near"), .init("far", mac: mac), in: container, mtu: 9000)
            let bridge = try netlink.existingLink(named: "br0")
            let near = try netlink.existingLink(named: "near")
            try netlink.set(near, master: bridge)
            try netlink.set(near, .hairpin, true)
            try netlink.set(near, .isolated, true)
            try netlink.set(near, up: true)
            try netlink.set(bridge, up: true)
            #expect(bridge.kind == "bridge" && near.kind == "veth")
            let again = try netlink.existingLink(named: "near")
            #expect(again.master == bridge.index && again.isUp && again.mtu == 9000)
            #expect(try netlink.hairpin(again) == true)
            try netlink.set(near, .hairpin, false)
            #expect(try netlink.hairpin(again) == false)
            #expect(try netlink.hairpin(bridge) == nil, "it is no port itself")
            #expect(again.peerNamespace != nil)
            return again.peerIndex
        }
        let far = try container.run { try RouteNetlink().existingLink(named: "far") }
        #expect(far.mac == mac && far.mtu == 9000 && far.index == inner)
        let details = try LabShell.run(
            "ip", "netns", "exec", lab.namespace(of: host), "ip", "-d", "link", "show", "near")
        #expect(details.contains("isolated on"))
    }

    @Test("A device is renamed, addressed, resized, moved and deleted")
    func changes() throws {
        let lab = try LabCluster()
        let here = try NetworkNamespace(named: lab.addContainer().namespace)
        let there = try NetworkNamespace(named: lab.addContainer().namespace)
        try here.run {
            let netlink = try RouteNetlink()
            try netlink.createVeth(.init("a"), .init("b"))
            let a = try netlink.existingLink(named: "a")
            try netlink.rename(a, to: "c")
            try netlink.set(a, mtu: 1234)
            try netlink.set(a, mac: MACAddress(truncating: 0x0200_0000_0099))
            let c = try netlink.existingLink(named: "c")
            #expect(c.index == a.index && c.mtu == 1234 && c.mac == MACAddress(truncating: 0x0200_0000_0099))
            #expect(try netlink.link(named: "a") == nil)
            #expect(try netlink.link(index: c.index)?.name == "c")
            #expect(Set(try netlink.links().map(\.name)).isSuperset(of: ["lo", "b", "c"]))
            try netlink.move(c, to: there)
            #expect(try netlink.link(named: "c") == nil)
            try netlink.delete(netlink.existingLink(named: "b"))
            #expect(try netlink.links().allSatisfy { $0.name != "b" })
        }
        #expect(try there.run { try RouteNetlink().link(named: "c") } == nil, "the other end goes too")
    }

    @Test("What goes wrong is told by code and by words")
    func errors() throws {
        let lab = try LabCluster()
        let here = try NetworkNamespace(named: lab.addContainer().namespace)
        try here.run {
            let netlink = try RouteNetlink()
            try netlink.createBridge("br0")
            let twice = #expect(throws: NetlinkError.self) { try netlink.createBridge("br0") }
            #expect(twice?.code == .exists && twice?.message.contains("create bridge \"br0\"") == true)
            let missing = #expect(throws: NetlinkError.self) { try netlink.existingLink(named: "nothing") }
            #expect(missing?.code == .notFound && missing?.message.contains("nothing") == true)
            let huge = #expect(throws: NetlinkError.self) {
                try netlink.set(netlink.existingLink(named: "br0"), mtu: 70_000)
            }
            #expect(huge?.message.contains("MTU of \"br0\" to 70000") == true)
        }
    }

    @Test("Offloads are read and set")
    func offloads() throws {
        let lab = try LabCluster()
        let here = try NetworkNamespace(named: lab.addContainer().namespace)
        try here.run {
            try RouteNetlink().createVeth(.init("a"), .init("b"))
            #expect(try Offload.txChecksum.isOn("a"))
            try Offload.txChecksum.set("a", on: false)
            #expect(try !Offload.txChecksum.isOn("a"))
            #expect(try Offload.gso.isOn("b"))
            let missing = #expect(throws: NetlinkError.self) { try Offload.tso.isOn("nothing") }
            #expect(missing?.code == .notFound)
        }
    }
}

extension LabCluster {
    /// The name `ip netns` has for a namespace opened by name.
    func namespace(of namespace: NetworkNamespace) -> String {
        String(namespace.path.dropFirst(NetworkNamespace.namedDirectory.count + 1))
    }
}
