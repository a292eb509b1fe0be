import Foundation
import NetLab
import Testing

/// Addresses that nobody chose, on real hosts.
@Suite(.serialized, .enabled(if: LabShell.canMakeNamespaces))
struct AddressLabTests {
    private static let range = "--ipalloc-range=10.32.0.0/24"

    /// Two linked hosts that allocate, in one mesh.
    private static func pair(_ flags: [String] = [range]) throws -> (LabCluster, LabHost, LabHost) {
        let cluster = try LabCluster()
        let hosts = try (cluster.addHost(), cluster.addHost())
        try cluster.link(hosts.0, hosts.1)
        try hosts.0.launch(flags: flags)
        try hosts.1.launch(peers: [hosts.0.addresses[0]], flags: flags)
        #expect(try hosts.0.isConnected())
        return (cluster, hosts.0, hosts.1)
    }

    /// Waits for what may take a gossip round or a tick.
    private static func soon(_ seconds: Double = 20, _ attempt: () throws -> Bool) throws -> Bool {
        try LabShell.poll(seconds: seconds, every: 0.2, attempt)
    }

    @Test("containers on two hosts get different addresses and reach each other; a killed daemon keeps them")
    func automatic() throws {
        let (cluster, first, second) = try Self.pair()
        defer { cluster.takeDown() }
        let containers = try (0..<4).map { _ in try cluster.addContainer() }
        var addresses: [String] = []
        for (index, container) in containers.enumerated() {
            addresses.append(try container.attachAnywhere(to: index < 2 ? first : second))
        }
        #expect(Set(addresses).count == 4, "\(addresses)")
        #expect(try containers[0].reaches(addresses[3]) && containers[2].reaches(addresses[1]))
        #expect(try containers[0].attachAnywhere(to: first) == addresses[0])

        first.kill()
        try first.relaunch()
        #expect(try containers[1].attachAnywhere(to: first) == addresses[1])
        let late = try cluster.addContainer()
        let another = try late.attachAnywhere(to: first)
        #expect(!addresses.contains(another), "\(another) is in use")

        // A subnet of its own, and one address by hand beside it.
        #expect(try late.attachAnywhere(to: first, "net:10.32.0.64/26", "192.0.2.9/24").hasSuffix(" 192.0.2.9"))
        #expect(try late.run("ip", "-o", "-4", "address", "show", "ethwe").split(separator: "\n").count == 3)
        let status = try first.status("ipam")
        #expect(status.contains("(3 active)") || status.contains("(4 active)"), "\(status)")
        #expect(try first.status().contains("Service: ipam\n         Status: ready\n"))
    }

    @Test("detached addresses are free at once, those of containers that are gone after half a minute")
    func reclaimed() throws {
        let (cluster, host, _) = try Self.pair()
        defer { cluster.takeDown() }
        let containers = try (0..<2).map { _ in try cluster.addContainer() }
        let gone = try containers[0].attachAnywhere(to: host)
        let kept = try containers[1].attachAnywhere(to: host)
        try LabShell.run("ip", "netns", "delete", containers[0].namespace)
        #expect(try host.http("/ip").output.contains("\"\(gone)/"))
        #expect(try Self.soon(50) { try !host.http("/ip").output.contains("\"\(gone)/") }, "\(host.log)")
        #expect(try host.http("/ip").output.contains("\"\(kept)/"))
        let detached = try host.http("/detach", method: "POST", form: ["container=\(containers[1].namespace)"])
        #expect(detached.output == "\(kept)\n")
        #expect(try host.http("/ip").output == "{\"owned\":null}\n")
    }

    @Test("a lost database does not give out what containers have")
    func lostDatabase() throws {
        let (cluster, first, second) = try Self.pair()
        defer { cluster.takeDown() }
        let container = try cluster.addContainer()
        let address = try container.attachAnywhere(to: first)
        first.kill()
        for name in try FileManager.default.contentsOfDirectory(atPath: first.directory.path)
        where name.hasPrefix("wdata.sqlite") {
            try FileManager.default.removeItem(at: first.directory.appendingPathComponent(name))
        }
        try first.launch(peers: [second.addresses[0]], flags: [Self.range])
        #expect(try first.isConnected())
        let others = try (0..<3).map { _ in try cluster.addContainer().attachAnywhere(to: first) }
        #expect(!others.contains(address), "\(address) again: \(others)")
        #expect(try container.attachAnywhere(to: first) == address)
    }

    @Test("the ranges of a dead peer are taken over, those of a live one only by force")
    func takeover() throws {
        let (cluster, first, second) = try Self.pair()
        defer { cluster.takeDown() }
        for host in [first, second] { _ = try cluster.addContainer().attachAnywhere(to: host) }
        let refused = try first.http("/peer/\(second.nickname)", method: "DELETE")
        #expect(refused.status != 0 && refused.output.contains("is connected"), "\(refused)")
        second.kill()
        #expect(try Self.soon { try first.status("ipam").contains("unreachable") }, "\(first.log)")
        let taken = try first.http("/peer/\(second.nickname)", method: "DELETE").output
        #expect(taken.wholeMatch(of: /\d+ IPs taken over from host2\n/) != nil && !taken.hasPrefix("0 "), "\(taken)")
        #expect(try first.status("ipam").contains("256 IPs (100.0% of total)"))
        // The dead one comes back, keeps what it has given out, and goes on living.
        try second.relaunch()
        #expect(try second.http("/status").status == 0)
    }

    @Test("a full subnet waits; a client that leaves takes its request with it")
    func full() throws {
        let cluster = try LabCluster()
        defer { cluster.takeDown() }
        let host = try cluster.addHost()
        try host.launch(flags: ["--ipalloc-range=10.32.0.0/30"])
        let containers = try (0..<3).map { _ in try cluster.addContainer() }
        let first = try containers[0].attachAnywhere(to: host)
        _ = try containers[1].attachAnywhere(to: host)
        let leaving = try host.run(
            "sh", "-c",
            "curl -s -m 2 -d container=\(containers[2].namespace) http://127.0.0.1:6784/attach; echo ended $?")
        #expect(leaving == "ended 28\n", "\(leaving)")
        #expect(try Self.soon(5) { try !host.status().contains("waiting for IP(s)") })

        let waiting = try host.start(
            "curl", "-s", "-m", "60", "-d", "container=\(containers[2].namespace)", "http://127.0.0.1:6784/attach")
        #expect(try Self.soon(5) { try host.status().contains("waiting for IP(s) to become available") })
        #expect(try host.http("/ipam/explain").output.contains("every address of the subnet is in use"))
        _ = try host.http("/detach", method: "POST", form: ["container=\(containers[0].namespace)"])
        let outcome = waiting.outcome(within: 45)
        #expect(outcome?.status == 0 && outcome?.output == "\(first)\n", "\(String(describing: outcome))")
    }

    @Test("a waiting request does not hold up the end of the daemon")
    func stopping() throws {
        let cluster = try LabCluster()
        defer { cluster.takeDown() }
        let host = try cluster.addHost()
        try host.launch(flags: ["--ipalloc-range=10.32.0.0/30", "--ipalloc-init=observer"])
        let waiting = try host.start("curl", "-s", "-m", "30", "-X", "POST", "http://127.0.0.1:6784/ip/c")
        #expect(try Self.soon(5) { try host.status().contains("priming") }, "\(host.log)")
        let started = Date()
        #expect(host.stop() == 0)
        #expect(Date().timeIntervalSince(started) < 3)
        let outcome = waiting.outcome(within: 5)
        #expect(outcome?.output.contains("cancelled") == true, "\(String(describing: outcome))")
    }

    @Test("an exposed host reaches containers; its address and rules outlive flushes and restarts, and go when hidden")
    func exposed() throws {
        let (cluster, first, second) = try Self.pair()
        defer { cluster.takeDown() }
        let container = try cluster.addContainer()
        let address = try container.attachAnywhere(to: second)
        let exposed = try first.http("/expose", method: "POST", form: ["without-masquerade=true"])
        let own = exposed.output.trimmingCharacters(in: .newlines)
        #expect(exposed.status == 0 && own.hasPrefix("10.32.0."), "\(exposed)")
        let pings = {
            try first.run("sh", "-c", "ping -c 1 -W 1 \(address) >/dev/null && echo yes || echo no") == "yes\n"
        }
        #expect(try Self.soon { try pings() })
        func rules() throws -> [String] {
            try first.run("iptables-save").split(separator: "\n").map(String.init).filter { $0.hasPrefix("-A") }
                .sorted()
        }
        let before = try rules()
        #expect(before.contains { $0.contains("WEAVE-EXPOSE") } && !before.contains { $0.contains("MASQUERADE") })

        for table in ["filter", "nat"] { try first.run("iptables", "-t", table, "-F") }
        #expect(try rules() != before)
        #expect(try Self.soon(15) { try rules() == before }, "\(first.log)")
        first.kill()
        for table in ["filter", "nat"] { try first.run("iptables", "-t", table, "-F") }
        try first.run("ip", "address", "delete", "\(own)/24", "dev", "weave")
        try first.relaunch()
        #expect(try Self.soon(15) { try pings() && rules() == before }, "\(first.log)")
        #expect(try first.http("/ip").output.contains("weave:expose"))

        #expect(try first.http("/hide", method: "POST").output == "\(own)\n")
        #expect(try !first.run("ip", "-o", "address", "show", "weave").contains(own))
        #expect(try first.http("/ip").output == "{\"owned\":null}\n")
        #expect(try first.http("/hide", method: "POST").output.isEmpty)
    }

    @Test("a host that leaves hands everything over; one with another range starts anew")
    func leaving() throws {
        let (cluster, first, second) = try Self.pair()
        defer { cluster.takeDown() }
        for host in [first, second] { _ = try cluster.addContainer().attachAnywhere(to: host) }
        #expect(try second.http("/peer", method: "DELETE").status == 0)
        #expect(try Self.soon { try first.status("ipam").contains("256 IPs (100.0% of total)") })
        let late = try second.http("/ip/late", method: "POST")
        #expect(late.status != 0 && late.output.contains("cancelled"), "\(late)")

        first.stop()
        second.stop()
        try first.launch(flags: ["--ipalloc-range=10.64.0.0/24"])
        #expect(first.log.contains("Deleting persisted data for IPAM range 10.32.0.0-10.32.0.255"), "\(first.log)")
        #expect(try cluster.addContainer().attachAnywhere(to: first).hasPrefix("10.64.0."))
    }

    @Test("a host that waits for others attaches containers with addresses by hand, and files these when it has a ring")
    func byHandBeforeTheRing() throws {
        let cluster = try LabCluster()
        defer { cluster.takeDown() }
        let hosts = try (cluster.addHost(), cluster.addHost())
        try cluster.link(hosts.0, hosts.1)
        try hosts.0.launch(flags: [Self.range, "--ipalloc-init=consensus=2"])
        let (kept, given) = try (cluster.addContainer(), cluster.addContainer())
        #expect(try kept.attachAnywhere(to: hosts.0, "10.32.0.9/24") == "10.32.0.9")
        #expect(try kept.attachAnywhere(to: hosts.0, "10.32.0.9/24") == "10.32.0.9")
        #expect(try given.attachAnywhere(to: hosts.0, "10.32.0.10/24") == "10.32.0.10")
        #expect(throws: LabShell.Failure.self) { try given.attachAnywhere(to: hosts.0, "10.32.0.9/24") }
        try given.detach(from: hosts.0)

        try hosts.1.launch(peers: [hosts.0.addresses[0]], flags: [Self.range, "--ipalloc-init=consensus=2"])
        let page = "/ip/\(kept.namespace)"
        #expect(try Self.soon { try hosts.0.http(page).output.contains("10.32.0.9/24") }, "\(hosts.0.log)")
        #expect(try hosts.0.status("ipam").contains("(1 active)"))
    }
}
