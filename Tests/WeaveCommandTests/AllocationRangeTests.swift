import Testing
import WeaveCore

@testable import WeaveCommand

/// Which range 'weave launch' gives the daemon, and what it thinks of the host's routes.
struct AllocationRangeTests {
    private let state = StateDirectory(environment: ["WEAVE_STATE_DIR": "/s"])

    private func plan(_ words: [String], _ environment: [String: String] = [:]) throws -> LaunchPlan {
        try LaunchPlan(words, environment: environment, state: state)
    }

    private func allocation(_ plan: LaunchPlan) -> [String] { plan.arguments.filter { $0.contains("ipalloc") } }

    @Test("launch gives the range of the flag, else of the environment, else the standard one")
    func ranges() throws {
        let standard = try plan([])
        #expect(allocation(standard) == ["--ipalloc-range=10.32.0.0/12"] && !standard.range.isGiven)
        for words in [
            ["--ipalloc-range", "10.2.0.0/16"], ["--ipalloc-range=10.2.0.0/16"], ["-iprange", "10.2.0.0/16"],
            ["--iprange=10.2.0.0/16"], ["--ipalloc-range=10.3.0.0/16", "--ipalloc-range=10.2.0.0/16"],
        ] {
            let given = try plan(words + ["peer"], ["IPALLOC_RANGE": "10.4.0.0/16"])
            #expect(allocation(given) == ["--ipalloc-range=10.2.0.0/16"] && given.range.isGiven, "\(words)")
            #expect(given.arguments.last == "peer" && !given.arguments.contains { $0.contains("iprange") }, "\(words)")
        }
        let environment = try plan([], ["IPALLOC_RANGE": "10.4.0.0/16", "IPALLOC_INIT": "consensus=3"])
        #expect(allocation(environment) == ["--ipalloc-range=10.4.0.0/16", "--ipalloc-init=consensus=3"])
        #expect(environment.range.isGiven)
        #expect(allocation(try plan([], ["IPALLOC_RANGE": ""])) == ["--ipalloc-range=10.32.0.0/12"])
    }

    @Test("an empty range switches allocation off, and what hangs on it stays out")
    func off() throws {
        for words in [["--ipalloc-range="], ["--ipalloc-range", ""]] {
            let plan = try plan(words, ["IPALLOC_RANGE": "10.4.0.0/16", "IPALLOC_INIT": "consensus=3"])
            #expect(allocation(plan) == ["--ipalloc-range="] && plan.range.isGiven)
            #expect(try plan.range.check([HostRoute(destination: #require(IPv4CIDR("0.0.0.0/1")), device: "a")]) == nil)
        }
        let error = #expect(throws: CommandError.self) { try plan(["--ipalloc-range"]) }
        #expect(error?.code == .usage)
    }

    @Test("the other flags of allocation go through as they are")
    func others() throws {
        let words = ["--ipalloc-default-subnet", "10.32.2.0/24", "--ipalloc-init", "seed=::1"]
        let plan = try plan(words, ["IPALLOC_INIT": "observer"])
        #expect(plan.arguments.suffix(4) == words[...] && !plan.arguments.contains { $0.contains("observer") })
    }

    @Test("the standard range is refused where the host has a route into it; a given one is warned about")
    func overlap() throws {
        let routes = try [("172.17.0.0/16", "docker0"), ("10.0.0.0/8", "eth0"), ("10.40.0.0/16", "eth1")].map {
            HostRoute(destination: try #require(IPv4CIDR($0)), device: $1)
        }
        let error = try #require(throws: CommandError.self) { try plan([]).range.check(routes) }
        #expect(error.code == .failed && error.message.contains("overlaps with existing route 10.0.0.0/8 of eth0"))
        #expect(error.message.contains("--ipalloc-range"))
        #expect(try plan([]).range.check([routes[0]]) == nil)
        #expect(throws: CommandError.self) { try plan([]).range.check([routes[2]]) }

        let warning = try plan(["--ipalloc-range=10.40.0.0/13"]).range.check([routes[2]])
        #expect(warning?.contains("overlaps with existing route 10.40.0.0/16 of eth1") == true)
        #expect(try plan(["--ipalloc-range=10.40.0.0/13"]).range.check([routes[0]]) == nil)
        #expect(try plan(["--ipalloc-range=nonsense"]).range.check(routes) == nil)
    }

    @Test("the network's own bridge is no obstacle")
    func bridge() throws {
        let route = HostRoute(destination: try #require(IPv4CIDR("10.32.0.0/12")), device: "weave")
        #expect(try plan([]).range.check([route]) == nil)
        #expect(throws: CommandError.self) { try plan(["--weave-bridge=net0"]).range.check([route]) }
        let other = HostRoute(destination: route.destination, device: "net0")
        #expect(try plan(["--weave-bridge", "net0"]).range.check([other]) == nil)
    }

    /// As the kernel prints it on a little-endian host.
    private static let table = """
        Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
        eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
        eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
        tun0\t0000200A\t00000000\t0001\t0\t0\t0\t0000F0FF\t0\t0\t0
        tun0\t0100200A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0
        *\t0000000A\t00000000\t0200\t0\t0\t0\t000000FF\t0\t0\t0
        *\t0000000A\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0
        down\t0000000A\t00000000\t0000\t0\t0\t0\t000000FF\t0\t0\t0
        holes\t0000000A\t00000000\t0001\t0\t0\t0\t00FF00FF\t0\t0\t0
        short\t0000000A\t00000000\t0001
        long\t000000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0
        hex\tX000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0

        """

    @Test(
        "the kernel's table is read; default routes, routes to nowhere and nonsense are left out",
        .enabled(if: UInt32(littleEndian: 1) == 1))
    func routes() {
        let routes = HostRoute.parse(Self.table).map(\.description)
        #expect(routes == ["192.168.0.0/24 of eth0", "10.32.0.0/12 of tun0", "10.32.0.1/32 of tun0"])
        #expect(HostRoute.parse("").isEmpty && HostRoute.parse("Iface\tDestination").isEmpty)
    }

    @Test("the table of this host is read without a default route in it")
    func current() {
        #expect(HostRoute.current().allSatisfy { $0.destination.prefixLength > 0 && !$0.device.isEmpty })
    }

    @Test("the state of allocation is found in the summary")
    func status() {
        let summary = """
                Version: 2.8.1

                Service: router
               Protocol: weave 1..2

                Service: ipam
                 Status: awaiting consensus (quorum: 2, known: 1)
                  Range: 10.32.0.0/12

                Service: dns
                 Status: x
            """
        #expect(AllocationStatus.text(in: summary) == "awaiting consensus (quorum: 2, known: 1)")
        #expect(AllocationStatus.text(in: "Service: dns\nStatus: x\n") == nil)
        #expect(AllocationStatus.text(in: "Service: ipam\n\nStatus: x\n") == nil)
        #expect(AllocationStatus.text(in: "") == nil)
    }
}

/// The lines of 'weave ps'.
struct OwnedAddressesTests {
    private static let id = String(repeating: "0123456789abcdef", count: 4)

    @Test("this host comes first, then the others by id; long ids are cut as 2.8.1 does")
    func lines() throws {
        let list = try OwnedAddresses(
            json: """
                {"owned":[{"containerid":"web","addrs":["10.32.0.2/12"],"mac":"6e:df:7d:28:a1:13"},
                {"containerid":"\(Self.id)","addrs":["10.32.0.3/12","10.2.1.4/24"]},
                {"containerid":"weave:expose","addrs":["10.32.0.1/12"]},{"containerid":"a","addrs":null}]}
                """)
        #expect(
            list.text(of: [], bridge: "00:00:00:00:00:04") == """
                weave:expose 00:00:00:00:00:04 10.32.0.1/12
                0123456789ab - 10.32.0.3/12 10.2.1.4/24
                a -
                web 6e:df:7d:28:a1:13 10.32.0.2/12

                """)
        #expect(list.text(of: ["0123"], bridge: nil) == "0123456789ab - 10.32.0.3/12 10.2.1.4/24\n")
        #expect(list.text(of: ["we", ""], bridge: nil) == "", "names are not abbreviated")
        #expect(list.text(of: ["weave:expose"], bridge: nil) == "weave:expose - 10.32.0.1/12\n")
    }

    @Test("a host with a bridge shows without addresses, one without shows nothing")
    func nothing() throws {
        let list = try OwnedAddresses(json: "{\"owned\":null}\n")
        #expect(list.owners.isEmpty && list.text(of: [], bridge: nil) == "")
        #expect(list.text(of: [], bridge: "00:00:00:00:00:04") == "weave:expose 00:00:00:00:00:04\n")
        for bad in ["", "[]", "{\"owned\":1}", "{\"owned\":[{\"addrs\":[]}]}"] {
            #expect(throws: CommandError.self) { try OwnedAddresses(json: bad) }
        }
    }
}
