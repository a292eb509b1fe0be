import Foundation
import NetLab

extension WeaveBench {
    /// One TCP flow between containers of two hosts.
    static func sleeve(_ name: String, password: String?) -> Benchmark {
        Benchmark(name: name) { options in
            try Row.alternating([(name, "Mbit/s")], options) { kind in
                let pair = try ContainerPair(kind, password: password)
                defer { pair.cluster.takeDown() }
                return [try pair.tcpThroughput(seconds: options.seconds)]
            }
        }
    }
}

/// Two linked hosts with a router of one kind and a container each.
struct ContainerPair {
    let cluster: LabCluster
    let containers: [LabContainer]
    static let addresses = ["10.40.0.1", "10.40.0.2"]

    init(_ kind: LabRouterKind, password: String?) throws {
        cluster = try LabCluster()
        do {
            let hosts = try [cluster.addHost(kind), cluster.addHost(kind)]
            let link = try cluster.link(hosts[0], hosts[1])
            try hosts[0].launch(password: password)
            try hosts[1].launch(peers: [link.a], password: password)
            containers = [try cluster.addContainer(), try cluster.addContainer()]
            for index in 0...1 { try containers[index].attach(to: hosts[index], Self.addresses[index]) }
            guard try containers[0].reaches(Self.addresses[1], within: 30) else {
                throw LabShell.Failure(description: "\(kind): the containers do not reach each other:\n\(hosts[0].log)")
            }
            // The path MTU search begins when the link is up; what it finds is what is measured.
            Thread.sleep(forTimeInterval: 1)
        } catch {
            cluster.takeDown()
            throw error
        }
    }

    /// Mbit/s received by the second container from the first.
    func tcpThroughput(seconds: Int) throws -> Double {
        let server = try cluster.start(["ip", "netns", "exec", containers[1].namespace, "iperf3", "-s", "-1"])
        guard try LabShell.poll(seconds: 5, { try containers[1].run("ss", "-ltn").contains(":5201") }) else {
            throw LabShell.Failure(description: "iperf3 does not listen: \(server.output)")
        }
        let json = try containers[0].run(
            "iperf3", "-c", Self.addresses[1], "-t", String(seconds), "-J", seconds: seconds + 20)
        guard let report = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any],
            let end = report["end"] as? [String: Any], let sum = end["sum_received"] as? [String: Any],
            let bits = sum["bits_per_second"] as? Double
        else { throw LabShell.Failure(description: "iperf3 gave no result: \(json.prefix(500))") }
        return bits / 1e6
    }
}
