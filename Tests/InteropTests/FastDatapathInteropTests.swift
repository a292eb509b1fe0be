import Foundation
import NetLab
import Testing

extension InteropTests {
    /// Whether this kernel has what the fast datapath of 2.8.1 needs; says so when it does not.
    static let hasOpenvSwitch: Bool = {
        guard isPossible else { return false }
        guard FileManager.default.fileExists(atPath: "/sys/module/openvswitch") else {
            print("interop: a 2.8.1 with its fast datapath is skipped, this kernel has no Open vSwitch")
            return false
        }
        return true
    }()

    @Suite("Beside a fast datapath of 2.8.1", .serialized, .enabled(if: InteropTests.hasOpenvSwitch))
    struct FastDatapath {
        @Test(
            "2.8.1 uses sleeve with us and its fast datapath with its like, at one time",
            arguments: [nil, "wEaVe"] as [String?])
        func both(_ password: String?) throws {
            let cluster = try LabCluster()
            defer { cluster.takeDown() }
            let hosts = try [LabRouterKind.weaver, .reference, .reference].map { try cluster.addHost($0) }
            var dials: [[String]] = [[], [], []]
            for (a, b) in [(0, 1), (0, 2), (1, 2)] { dials[b].append(try cluster.link(hosts[a], hosts[b]).a) }
            for (host, peers) in zip(hosts, dials) {
                // Frames above the MTU of its fast datapath do not reach the containers of 2.8.1, by whatever overlay they
                // came: ours gets the same. The last of two equal flags counts, so --no-fastdp of the lab is taken back.
                let flags = host.kind == .weaver ? ["--mtu=1376"] : ["--no-fastdp=false", "--datapath=datapath"]
                try host.launch(peers: peers, flags: flags, password: password)
            }
            for host in hosts { #expect(try host.isConnected(2, within: 40), "\(host.shown)\n\(host.log)") }
            let containers = try hosts.map { host in
                let container = try cluster.addContainer()
                try container.attach(to: host, "10.40.0.\(host.number)")
                try container.run("ip", "link", "set", "ethwe", "mtu", "1376")
                return container
            }
            // Who uses what: by the name of the peer at the other end.
            for host in hosts {
                #expect(try LabShell.poll(seconds: 20) { try Self.uses(host) == Self.expected(host) }, "\(host.shown)")
            }
            for from in containers {
                for to in containers where to !== from {
                    let address = to.address ?? ""
                    #expect(try from.reaches(address, within: 30), "\(from.address ?? "") to \(address)")
                    #expect(try from.reaches(address, size: 1300), "\(from.address ?? "") to \(address)")
                    #expect(try from.reaches(address, size: 9000), "\(from.address ?? "") to \(address)")
                }
            }
            // Traffic has changed nothing.
            for host in hosts { #expect(try Self.uses(host) == Self.expected(host), "\(host.shown)") }
            for host in hosts { print("interop: \(host.shown.split(separator: ";")[0])") }
        }

        /// The overlay towards each peer.
        static func uses(_ host: LabHost) throws -> [String: String] {
            let lines = try host.connections().compactMap { $0.firstMatch(of: /(sleeve|fastdp) ([0-9a-f:]{17})\(/) }
            return Dictionary(lines.map { (String($0.2), String($0.1)) }, uniquingKeysWith: { first, _ in first })
        }

        static func expected(_ host: LabHost) -> [String: String] {
            let ours = "7a:00:00:00:00:01"
            return switch host.number {
            case 1: ["7a:00:00:00:00:02": "sleeve", "7a:00:00:00:00:03": "sleeve"]
            case 2: [ours: "sleeve", "7a:00:00:00:00:03": "fastdp"]
            default: [ours: "sleeve", "7a:00:00:00:00:02": "fastdp"]
            }
        }
    }
}
