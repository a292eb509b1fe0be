import Foundation
import NetLab
import Testing

/// Against a real 2.8.1 `weaver`, given by path in `REFERENCE_WEAVER`. Every suite nests in this one, so that labs run
/// one at a time.
@Suite(.serialized)
struct InteropTests {
    /// False, with a line that says why, when there is no reference or no root.
    static let isPossible: Bool = {
        guard LabRouterKind.reference.binary != nil else {
            print("interop: skipped, give a 2.8.1 weaver with REFERENCE_WEAVER=/path/to/weaver")
            return false
        }
        return LabShell.canMakeNamespaces
    }()

    @Test("the interop lab says whether it runs")
    func announces() {
        #expect(Self.isPossible || LabRouterKind.reference.binary == nil || getuid() != 0)
    }
}

/// Who dials whom in a pair.
struct Pairing: CustomStringConvertible, Sendable {
    var oursDials: Bool
    var password: String?

    var description: String { "\(oursDials ? "ours" : "2.8.1") dials, \(password == nil ? "plain" : "encrypted")" }

    static let all = [
        Pairing(oursDials: true, password: nil), Pairing(oursDials: false, password: nil),
        Pairing(oursDials: true, password: "wEaVe"), Pairing(oursDials: false, password: "wEaVe"),
    ]
}

/// One host of each kind, linked; `ours` is host 1.
struct MixedPair {
    let cluster: LabCluster
    let ours: LabHost
    let theirs: LabHost

    init(mtu: Int = 1500) throws {
        cluster = try LabCluster()
        ours = try cluster.addHost(.weaver)
        theirs = try cluster.addHost(.reference)
        try cluster.link(ours, theirs, mtu: mtu)
    }

    func launch(_ pairing: Pairing, ourFlags: [String] = [], theirFlags: [String] = []) throws {
        if pairing.oursDials {
            try theirs.launch(flags: theirFlags, password: pairing.password)
            try ours.launch(peers: [theirs.addresses[0]], flags: ourFlags, password: pairing.password)
        } else {
            try ours.launch(flags: ourFlags, password: pairing.password)
            try theirs.launch(peers: [ours.addresses[0]], flags: theirFlags, password: pairing.password)
        }
    }

    /// A container on each host, `10.40.0.1` on ours and `10.40.0.2` on theirs.
    func attachContainers() throws -> (ours: LabContainer, theirs: LabContainer) {
        let mine = try cluster.addContainer()
        try mine.attach(to: ours, "10.40.0.1")
        let other = try cluster.addContainer()
        try other.attach(to: theirs, "10.40.0.2")
        return (mine, other)
    }

    /// Lets each router dial the other within the same instant, so that the dials cross.
    func dialAtOnce() throws {
        let dial = { (from: LabHost, to: LabHost) in
            "ip netns exec \(from.namespace) curl -s -m 5 --data-urlencode peer=\(to.addresses[0])"
                + " --data-urlencode replace=true http://127.0.0.1:6784/connect"
        }
        try LabShell.run("sh", "-c", "\(dial(ours, theirs)) & \(dial(theirs, ours)) & wait")
    }

    /// Removes the targets and cuts every connection between the routers, and waits until both have noticed.
    func breakConnections() throws {
        for (host, other) in [(ours, theirs), (theirs, ours)] { _ = try host.forget([other.addresses[0]]) }
        try ours.run("ss", "-K", "dst", theirs.addresses[0])
        for host in [ours, theirs] {
            try #require(
                try LabShell.poll(seconds: 10) { try !host.connections().contains { $0.contains(" established ") } },
                "a cut connection stays: \(host.shown)")
        }
    }

    /// The ports of the TCP connections between the routers, as seen by `host`: who dialled and from where.
    func connectionPorts(_ host: LabHost) throws -> Set<Int> {
        let words = try host.run("ss", "-Htn", "state", "established").split(whereSeparator: \.isWhitespace)
        let ends = words.filter { $0.contains("10.99.") }
        return Set(ends.compactMap { $0.split(separator: ":").last.flatMap { Int($0) } }.filter { $0 != 6783 })
    }
}
