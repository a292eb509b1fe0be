import Foundation
import NetLab

extension WeaveBench {
    /// Other ways between the same two hosts, for comparison only. Those that are not installed are said to be missing.
    static var neighbours: [Benchmark] {
        [
            neighbour("kernel.vxlan.tcp", programs: [], arrange: Neighbour.vxlan),
            neighbour("wireguard-go.tcp", programs: ["wireguard-go", "wg"], arrange: Neighbour.wireGuard),
            neighbour("nebula.tcp", programs: ["nebula", "nebula-cert"], arrange: Neighbour.nebula),
            neighbour("tinc.tcp", programs: ["tincd"], arrange: Neighbour.tinc),
        ]
    }

    private static func neighbour(
        _ name: String, programs: [String], arrange: @escaping (Neighbour) throws -> Traffic
    ) -> Benchmark {
        Benchmark(name: name) { options in
            let missing = try programs.filter { try LabShell.outcome(["which", $0]).status != 0 }
            guard missing.isEmpty else {
                say("\(name): not measured, \(missing.joined(separator: " and ")) not installed")
                return []
            }
            do {
                let figures = try (0..<options.rounds).map { _ in
                    let neighbour = try Neighbour()
                    defer { neighbour.takeDown() }
                    return try arrange(neighbour).tcp(seconds: options.seconds).megabitsPerSecond
                }
                return [Row(name: name, unit: "Mbit/s", ours: Row.median(figures), reference: nil)]
            } catch {
                say("\(name): no figure: \(error)")
                return []
            }
        }
    }
}

/// Two linked hosts without a router. Tunnels end on the hosts, overlays in a container of each.
struct Neighbour {
    let cluster: LabCluster
    let hosts: [LabHost]
    let addresses: [String]
    static let inner = ["10.41.0.1", "10.41.0.2"]

    init() throws {
        cluster = try LabCluster()
        do {
            hosts = try [cluster.addHost(), cluster.addHost()]
            let link = try cluster.link(hosts[0], hosts[1])
            addresses = [link.a, link.b]
        } catch {
            cluster.takeDown()
            throw error
        }
    }

    /// Removes all that was made.
    func takeDown() {
        cluster.takeDown()
        // What wireguard-go leaves when it is killed.
        for index in 0...1 {
            try? FileManager.default.removeItem(atPath: "/var/run/wireguard/\(wireGuardDevice(index)).sock")
        }
    }

    private func wireGuardDevice(_ index: Int) -> String { "\(cluster.tag)w\(index)" }

    /// The kernel's VXLAN in a bridge, with a container on each.
    static func vxlan(_ pair: Neighbour) throws -> Traffic {
        let containers = [try pair.cluster.addContainer(), try pair.cluster.addContainer()]
        for (index, host) in pair.hosts.enumerated() {
            let inside = containers[index].namespace
            try host.run("ip", "link", "add", "br0", "type", "bridge")
            try host.run(
                "ip", "link", "add", "vx0", "type", "vxlan", "id", "7", "dstport", "4789", "local",
                pair.addresses[index], "remote", pair.addresses[1 - index])
            try LabShell.run(
                "ip", "link", "add", "port0", "netns", host.namespace, "type", "veth", "peer", "name", "eth0", "netns",
                inside)
            for device in ["vx0", "port0"] { try host.run("ip", "link", "set", device, "master", "br0", "up") }
            try host.run("ip", "link", "set", "br0", "up")
            // What VXLAN leaves of the link's 1,500 bytes.
            try LabShell.run("ip", "-n", inside, "link", "set", "eth0", "mtu", "1450", "up")
            try LabShell.run("ip", "-n", inside, "address", "add", inner[index] + "/24", "dev", "eth0")
        }
        return try pair.traffic(from: containers[0].namespace, to: containers[1].namespace)
    }

    static func wireGuard(_ pair: Neighbour) throws -> Traffic {
        var keys: [(file: String, shared: String)] = []
        for host in pair.hosts {
            let file = host.directory.appendingPathComponent("wg.key").path
            let key = try host.run("wg", "genkey")
            try key.write(toFile: file, atomically: true, encoding: .utf8)
            let shared = try host.run("sh", "-c", "wg pubkey < '\(file)'")
            keys.append((file, shared.trimmingCharacters(in: .whitespacesAndNewlines)))
        }
        for (index, host) in pair.hosts.enumerated() {
            // Its control socket is named after the interface, for all network namespaces alike.
            let device = pair.wireGuardDevice(index)
            _ = try host.start("wireguard-go", "-f", device)
            try pair.waitForDevice(device, on: host)
            try host.run(
                "wg", "set", device, "private-key", keys[index].file, "listen-port", "51820", "peer",
                keys[1 - index].shared, "endpoint", pair.addresses[1 - index] + ":51820", "allowed-ips", "10.41.0.0/24")
            try host.run("ip", "address", "add", inner[index] + "/24", "dev", device)
            try host.run("ip", "link", "set", device, "mtu", "1420", "up")
        }
        return try pair.trafficBetweenHosts()
    }

    static func nebula(_ pair: Neighbour) throws -> Traffic {
        let directory = pair.hosts[0].directory.path
        let authority = ["-ca-crt", directory + "/ca.crt", "-ca-key", directory + "/ca.key"]
        try LabShell.run(
            ["nebula-cert", "ca", "-name", "bench", "-out-crt", authority[1], "-out-key", authority[3]])
        for (index, host) in pair.hosts.enumerated() {
            let own = host.directory.path + "/own"
            try LabShell.run(
                ["nebula-cert", "sign"] + authority
                    + [
                        "-name", host.nickname, "-ip", inner[index] + "/24", "-out-crt", own + ".crt", "-out-key",
                        own + ".key",
                    ])
            let other = 1 - index
            let configuration = """
                pki: {ca: "\(authority[1])", cert: "\(own).crt", key: "\(own).key"}
                static_host_map: {"\(inner[other])": ["\(pair.addresses[other]):4242"]}
                lighthouse: {am_lighthouse: false, hosts: []}
                listen: {host: 0.0.0.0, port: 4242}
                tun: {dev: nebula0, mtu: 1300}
                firewall:
                  outbound: [{port: any, proto: any, host: any}]
                  inbound: [{port: any, proto: any, host: any}]
                """
            try configuration.write(toFile: own + ".yml", atomically: true, encoding: .utf8)
            _ = try host.start("nebula", "-config", own + ".yml")
            try pair.waitForDevice("nebula0", on: host)
        }
        return try pair.trafficBetweenHosts()
    }

    static func tinc(_ pair: Neighbour) throws -> Traffic {
        var published: [String] = []
        for (index, host) in pair.hosts.enumerated() {
            let (directory, other) = (host.directory.path, pair.hosts[1 - index].nickname)
            try FileManager.default.createDirectory(
                atPath: directory + "/hosts", withIntermediateDirectories: true)
            try
                "Name = \(host.nickname)\nInterface = tinc0\nDeviceType = tun\nAddressFamily = ipv4\nConnectTo = \(other)\n"
                .write(toFile: directory + "/tinc.conf", atomically: true, encoding: .utf8)
            try "ip link set tinc0 up\nip address add \(inner[index])/24 dev tinc0\n".write(
                toFile: directory + "/tinc-up", atomically: true, encoding: .utf8)
            try LabShell.run("chmod", "+x", directory + "/tinc-up")
            let own = directory + "/hosts/" + host.nickname
            try "Address = \(pair.addresses[index])\nSubnet = \(inner[index])/32\n".write(
                toFile: own, atomically: true, encoding: .utf8)
            // Without a terminal it asks nothing, and adds the key to the file.
            try LabShell.run("tincd", "-c", directory, "-K2048")
            published.append(try String(contentsOfFile: own, encoding: .utf8))
        }
        for (index, host) in pair.hosts.enumerated() {
            let directory = host.directory.path
            try published[1 - index].write(
                toFile: directory + "/hosts/" + pair.hosts[1 - index].nickname, atomically: true, encoding: .utf8)
            _ = try host.start("tincd", "-c", directory, "-D", "--pidfile=\(directory)/pid")
            try pair.waitForDevice("tinc0", on: host)
        }
        return try pair.trafficBetweenHosts()
    }

    private func waitForDevice(_ device: String, on host: LabHost) throws {
        let found = try LabShell.poll(seconds: 10) {
            try LabShell.outcome(["ip", "-n", host.namespace, "link", "show", device]).status == 0
        }
        guard found else { throw LabShell.Failure(description: "\(device) did not appear on \(host.nickname)") }
    }

    private func trafficBetweenHosts() throws -> Traffic {
        try traffic(from: hosts[0].namespace, to: hosts[1].namespace)
    }

    private func traffic(from client: String, to server: String) throws -> Traffic {
        let reached = try LabShell.poll(seconds: 15) {
            try LabShell.outcome(["ip", "netns", "exec", client, "ping", "-c", "1", "-W", "1", Self.inner[1]]).status
                == 0
        }
        guard reached else { throw LabShell.Failure(description: "the two ends do not reach each other") }
        return try Traffic(cluster, from: client, to: server, at: Self.inner[1])
    }
}
