import Testing
import WeaveCore
import WeaveDatapath
import WeaveNetlink

@Suite("Planning the bridge")
struct BridgePlanTests {
    let mac = MACAddress(truncating: 0x7a00_0000_0001)

    private func whole(mtu: Int = 65535, portMTU: Int = 65521) -> [Link] {
        [
            Link(index: 2, name: "weave", kind: "bridge", mac: mac, mtu: mtu, isUp: true),
            Link(index: 3, name: "vethwe-tap", kind: "tun", mtu: portMTU, isUp: true, master: 2),
        ]
    }

    private func changes(_ configuration: BridgeConfiguration, _ links: [Link]) throws -> [BridgeStep] {
        try BridgePlan.steps(for: configuration, from: BridgeObservation(links: links)).filter {
            if case .apply = $0 { false } else { true }
        }
    }

    @Test("From nothing: bridge, address, port, sizes, on")
    func fromNothing() throws {
        let steps = try changes(BridgeConfiguration(mac: mac), [])
        #expect(
            steps == [
                .createBridge("weave"), .setMAC("weave", mac), .createTAP("vethwe-tap"), .setMTU("vethwe-tap", 65521),
                .setMaster("vethwe-tap", "weave"), .setMTU("weave", 65535), .switchOn("vethwe-tap"), .switchOn("weave"),
            ])
    }

    @Test("A bridge that is as it should be is left alone")
    func nothingToDo() throws {
        #expect(try changes(BridgeConfiguration(mac: mac), whole()) == [])
        #expect(try changes(BridgeConfiguration(mac: mac, mtu: 1376), whole(mtu: 1376, portMTU: 1376)) == [])
    }

    @Test("An adopted bridge keeps its MTU unless another is asked for")
    func adoptedMTU() throws {
        let old = [Link(index: 2, name: "weave", kind: "bridge", mac: mac, mtu: 1376, isUp: true)]
        #expect(try changes(BridgeConfiguration(mac: mac), old).contains(.setMTU("vethwe-tap", 1376)))
        #expect(try changes(BridgeConfiguration(mac: mac), old).contains(.setMTU("weave", 1376)))
        #expect(try changes(BridgeConfiguration(mac: mac, mtu: 8900), old).contains(.setMTU("weave", 8900)))
    }

    @Test("What 2.8.1 left behind is cut off, so that no frame is carried twice")
    func leftovers() throws {
        let links =
            whole() + [
                Link(index: 5, name: "vethwe-bridge", kind: "veth", master: 2),
                Link(index: 6, name: "vethwe-pcap", kind: "veth"),
                Link(index: 7, name: "vethweplabc", kind: "veth", master: 2),
            ]
        #expect(
            try changes(BridgeConfiguration(mac: mac), links) == [.delete("vethwe-bridge"), .delete("vethwe-pcap")])
    }

    @Test(
        "A device of another kind in the bridge's place is an error that says what to do",
        arguments: ["openvswitch", ""])
    func otherKind(kind: String) {
        let links = [Link(index: 2, name: "weave", kind: kind)]
        let error = #expect(throws: NetlinkError.self) { try changes(BridgeConfiguration(mac: mac), links) }
        #expect(error?.code == .exists && error?.message.contains("weave reset") == true)
    }

    @Test(
        "MTUs at the limits pass, those past them do not",
        arguments: [(68, true), (65535, true), (67, false), (65536, false), (0, false)])
    func limits(mtu: Int, isGood: Bool) throws {
        let configuration = BridgeConfiguration(mac: mac, mtu: mtu)
        if isGood {
            #expect(try changes(configuration, []).contains(.setMTU("weave", mtu)))
        } else {
            let error = #expect(throws: NetlinkError.self) { try changes(configuration, []) }
            #expect(error?.code == .invalid)
        }
    }

    @Test("Names the kernel would not take are refused before anything is touched")
    func names() {
        var configuration = BridgeConfiguration(mac: mac)
        configuration.name = "much-too-long-a-name"
        #expect(throws: NetlinkError.self) { try changes(configuration, []) }
    }
}
