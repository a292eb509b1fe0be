import Testing
import WeaveCore
import WeaveNetlink

@testable import WeaveDatapath

@Suite("Planning an attachment")
struct AttachPlanTests {
    private let host = [
        Link(index: 2, name: "weave", kind: "bridge", mtu: 65535),
        Link(index: 3, name: "vethwe-tap", kind: "tun", mtu: 65521, master: 2),
    ]

    private func prefixes(_ texts: String...) -> [IPPrefix] { texts.compactMap { IPPrefix($0) } }

    /// A container that is attached already.
    private func attached(master: Int? = 2, kind: String = "veth", namespace: Int? = 5, routes: [Route] = [])
        -> AttachObservation
    {
        AttachObservation(
            host: host + [
                Link(
                    index: 9, name: "vethweplold", kind: kind, isUp: true, master: master, peerIndex: 4,
                    peerNamespace: 5)
            ],
            container: [Link(index: 4, name: "ethwe", kind: kind, isUp: true, peerIndex: 9, peerNamespace: 0)],
            namespaceNumber: namespace,
            addresses: prefixes("10.32.0.1/12"), routes: routes)
    }

    @Test("A new container gets a pair named after it, as large as the overlay takes")
    func fresh() throws {
        let request = AttachRequest(id: "1234567890", addresses: prefixes("10.32.0.1/12", "10.32.0.1/12", "fd00::1/64"))
        let plan = try AttachPlan.make(request, from: AttachObservation(host: host, container: []))
        #expect(plan.hostDevice == "vethwepl1234567")
        #expect(plan.pair == .init(hostDevice: "vethwepl1234567", interface: "ethwe", mtu: 65521, mac: nil))
        #expect(plan.joinsBridge)
        #expect(plan.newAddresses == prefixes("10.32.0.1/12", "fd00::1/64"))
        #expect(plan.newRoutes == [ContainerRoute(destination: IPPrefix("224.0.0.0/4"), gateway: nil)])
        #expect(plan.subnets == prefixes("10.32.0.0/12"))
    }

    @Test("Attaching again adds only what is new")
    func again() throws {
        let multicast = Route(destination: IPPrefix("224.0.0.0/4"), index: 4)
        let request = AttachRequest(id: "x", addresses: prefixes("10.32.0.1/12", "10.40.0.1/16"))
        let plan = try AttachPlan.make(request, from: attached(routes: [multicast]))
        #expect(plan.hostDevice == "vethweplold")
        #expect(plan.pair == nil && !plan.joinsBridge)
        #expect(plan.newAddresses == prefixes("10.40.0.1/16"))
        #expect(plan.newRoutes == [])
        #expect(plan.subnets == prefixes("10.32.0.0/12", "10.40.0.0/16"))
    }

    @Test("An attachment cut short before it joined the bridge is completed")
    func completes() throws {
        let plan = try AttachPlan.make(AttachRequest(id: "x", addresses: []), from: attached(master: nil))
        #expect(plan.pair == nil && plan.joinsBridge)
    }

    @Test("Two containers whose ids start alike get different devices, the same each time")
    func collision() throws {
        let first = try AttachPlan.deviceName(for: "container-1", taken: [])
        #expect(first == "vethweplcontain")
        let second = try AttachPlan.deviceName(for: "container-2", taken: [first])
        #expect(second != first && second.utf8.count == 15 && second.hasPrefix("vethwepl"))
        #expect(try AttachPlan.deviceName(for: "container-2", taken: [first]) == second)
        let third = try AttachPlan.deviceName(for: "container-2", taken: [first, second])
        #expect(third != second)
    }

    @Test(
        "Any id makes a device name that the kernel takes",
        arguments: ["a/b:c d", "ü", "/", String(repeating: "n", count: 300)])
    func strangeIDs(id: String) throws {
        try checkDeviceName(AttachPlan.deviceName(for: id, taken: []))
    }

    @Test("A gateway outside the subnets is made reachable first, and multicast comes last")
    func gateways() throws {
        var request = AttachRequest(id: "x", addresses: prefixes("10.32.0.1/12"))
        request.routes = [
            ContainerRoute(destination: nil, gateway: IPAddress("10.32.0.9")),
            ContainerRoute(destination: IPPrefix("10.50.0.0/16"), gateway: IPAddress("192.0.2.1")),
        ]
        let plan = try AttachPlan.make(request, from: AttachObservation(host: host, container: []))
        #expect(
            plan.newRoutes == [
                request.routes[0],
                ContainerRoute(destination: IPPrefix("192.0.2.1/32"), gateway: nil),
                request.routes[1],
                ContainerRoute(destination: IPPrefix("224.0.0.0/4"), gateway: nil),
            ])
    }

    @Test("Without the bridge the error asks whether the router runs")
    func noBridge() {
        let error = #expect(throws: NetlinkError.self) {
            try AttachPlan.make(AttachRequest(id: "x", addresses: []), from: AttachObservation(host: [], container: []))
        }
        #expect(error?.code == .notFound && error?.message.contains("is the router running") == true)
    }

    @Test("An interface that is not ours is left alone")
    func foreign() {
        for observation in [
            attached(kind: "macvlan"), attached(master: 77), attached(namespace: 6), attached(namespace: nil),
        ] {
            let error = #expect(throws: NetlinkError.self) {
                try AttachPlan.make(AttachRequest(id: "x", addresses: []), from: observation)
            }
            #expect(error?.code == .exists || error?.code == .busy)
        }
    }

    @Test(
        "Addresses no host can have are refused",
        arguments: ["10.32.0.0/12", "10.47.255.255/12", "224.0.0.1/24", "10.0.0.1/0"])
    func badAddresses(text: String) {
        let error = #expect(throws: NetlinkError.self) {
            try AttachPlan.make(
                AttachRequest(id: "x", addresses: prefixes(text)), from: AttachObservation(host: host, container: []))
        }
        #expect(error?.code == .invalid && error?.message.contains(text) == true)
    }

    @Test(
        "A pair of addresses and a single one are hosts' addresses",
        arguments: ["10.0.0.0/31", "10.0.0.1/31", "10.0.0.0/32"])
    func smallSubnets(text: String) throws {
        let request = AttachRequest(id: "x", addresses: prefixes(text))
        let plan = try AttachPlan.make(request, from: AttachObservation(host: host, container: []))
        #expect(plan.newAddresses == prefixes(text))
    }

    @Test("Detaching takes what is named and there; all takes all")
    func detach() {
        let present = prefixes("10.32.0.1/12", "10.40.0.1/16")
        let one = DetachPlan.make(addresses: prefixes("10.40.0.1/16", "10.41.0.1/16"), present: present)
        #expect(one.removed == prefixes("10.40.0.1/16") && one.remaining == prefixes("10.32.0.1/12"))
        #expect(DetachPlan.make(addresses: nil, present: present).remaining == [])
        #expect(DetachPlan.make(addresses: [], present: present).remaining == present)
    }

    @Test("The announcement is the broadcast request of 42 bytes that 2.8.1 sends")
    func announcement() {
        let mac = MACAddress(truncating: 0x0200_0000_0005)
        let frame = GratuitousARP.frame(IPv4Address(rawValue: 0x0a20_0001), mac: mac)
        #expect(
            frame == [
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 5, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 5,
                10,
                32, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 10, 32, 0, 1,
            ])
    }

    @Test("What people type is taken as path, process or name")
    func references() {
        #expect(ContainerReference("/proc/7/ns/net") == .path("/proc/7/ns/net"))
        #expect(ContainerReference("4711") == .process(4711))
        #expect(ContainerReference("web-1") == .name("web-1"))
        #expect(ContainerReference("99999999999") == .name("99999999999"))
    }
}
