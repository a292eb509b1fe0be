import Testing
import WeaveCore

@testable import WeaveNetDaemon

struct AddressFlagTests {
    private func make(_ range: String, _ subnet: String = "", _ start: String = "") throws -> AddressConfiguration? {
        try AddressConfiguration.make(range: range, defaultSubnet: subnet, start: start)
    }

    @Test("an empty range is no allocation, and needs no other flag")
    func off() throws {
        #expect(try make("") == nil)
        #expect(throws: DaemonError(.usage, "--ipalloc-init specified without --ipalloc-range.")) {
            try make("", "", "observer")
        }
        #expect(throws: DaemonError(.usage, "--ipalloc-default-subnet specified without --ipalloc-range.")) {
            try make("", "10.0.0.0/8")
        }
    }

    @Test("range, subnet and mode are read")
    func reading() throws {
        let plain = try #require(try make("10.32.0.0/12"))
        #expect(plain.defaultSubnet == plain.universe && plain.start == .consensus(peers: nil))
        let full = try #require(try make("10.32.0.0/12", "10.32.4.0/24", "consensus=3"))
        #expect("\(full.defaultSubnet)" == "10.32.4.0/24" && full.start == .consensus(peers: 3))
        // A subnet may reach beyond the range: what lies above is for addresses by hand.
        #expect(try make("10.32.0.0/16", "10.0.0.0/8")?.defaultSubnet.prefixLength == 8)
        #expect(try make("10.32.0.0/12", "", "observer")?.start == .observer)
        #expect(try make("10.32.0.0/12", "", "consensus=0")?.start == .consensus(peers: nil))
        let seeds = [PeerName(truncating: 1), PeerName(truncating: 0x0200_0000_0003)]
        #expect(try make("10.32.0.0/12", "", "seed=::1,02:00:00:00:00:03")?.start == .seed(seeds))
        #expect(try make("10.32.0.0/12", "", "seed=")?.start == .seed([]))
    }

    @Test(
        "wrong values are refused with the reason",
        arguments: [
            ("10.32.0.1/12", "", "", "bits after network prefix"), ("10.32.0.0/31", "", "", "smaller than minimum"),
            ("nonsense", "", "", "invalid CIDR address"), ("0.0.0.0/0", "", "", "smaller than"),
            ("10.32.0.0/12", "10.48.0.0/12", "", "does not overlap"), ("10.32.0.0/12", "x", "", "--ipalloc-default"),
            ("10.32.0.0/12", "", "consensus=x", "bad consensus parameter"),
            ("10.32.0.0/12", "", "seed", "requires peer name list"),
            ("10.32.0.0/12", "", "seed=x", "bad seed parameter"),
            ("10.32.0.0/12", "", "observer=1", "takes no parameter"),
            ("10.32.0.0/12", "", "votes", "unknown mode: votes"),
        ])
    func wrong(_ range: String, _ subnet: String, _ start: String, _ reason: String) throws {
        let error = #expect(throws: DaemonError.self) { try make(range, subnet, start) }
        #expect(error?.code == .usage && error?.message.contains(reason) == true, "\(String(describing: error))")
    }

    @Test("the flags reach the configuration")
    func flags() throws {
        guard
            case .run(let options, let notes) = CommandLineRequest([
                "-ipalloc-range", "10.1.0.0/16", "--ipalloc-init=observer",
            ])
        else {
            Issue.record("refused")
            return
        }
        #expect(notes.isEmpty)
        let configuration = try DaemonConfiguration(options, environment: [:], hostname: "h")
        #expect(configuration.addresses?.start == .observer)
        #expect(configuration.addresses.map { "\($0.universe)" } == "10.1.0.0/16")
    }
}
