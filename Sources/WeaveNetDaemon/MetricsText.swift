import WeaveIPAM
import WeaveMesh

/// The body of `/metrics`, in the text format of Prometheus. The first two names and their labels are those of 2.8.1.
struct MetricsText {
    let status: DaemonStatus
    let process: ProcessUsage

    static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    var body: String {
        var text = Body()
        let mesh = status.mesh
        if !mesh.connections.isEmpty {
            text.family("weave_connections", "gauge", "Number of peer-to-peer connections.", connectionSeries)
        }
        text.single(
            "weave_connection_terminations_total", "counter", "Number of peer-to-peer connections terminated.",
            mesh.terminationCount)
        text.single("weave_peers", "gauge", "Number of known peers, ourself included.", mesh.peers.count)
        text.single("weave_targets", "gauge", "Number of addresses given to connect to.", mesh.targets.count)
        text.single("weave_macs", "gauge", "Number of Ethernet addresses learned.", status.macs.count)
        if let addresses = status.addresses?.allocator { Self.write(addresses, &text) }
        Self.write(status.meshCounters, &text)
        for counter in status.counters {
            text.single(
                "weave_datapath_\(counter.name)_total", "counter",
                "Datapath: \(counter.name.replacing("_", with: " ")).", counter.value)
        }
        text.single("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", process.residentBytes)
        text.single(
            "process_cpu_seconds_total", "counter", "User and system time spent in seconds.", process.cpuSeconds)
        text.single("process_open_fds", "gauge", "Number of open file descriptors.", process.openDescriptors)
        return text.value
    }

    /// Members of a family stand together, as the format wants it.
    private static func write(_ counters: [MeshStatistics.Series], _ text: inout Body) {
        var rest = counters[...]
        while let first = rest.first {
            let family = rest.prefix { $0.name == first.name }
            rest = rest.dropFirst(family.count)
            guard !first.labels.isEmpty else {
                text.single(first.name, "counter", first.help, first.value)
                continue
            }
            text.family(
                first.name, "counter", first.help,
                family.map { series in
                    (series.labels.map { "\($0.name)=\"\($0.value)\"" }.joined(separator: ","), series.value)
                })
        }
    }

    private static func write(_ addresses: AllocatorStatus, _ text: inout Body) {
        text.family(
            "weave_ips", "gauge", "Number of IP addresses.", [("state=\"local-used\"", addresses.activeCount)])
        text.single("weave_max_ips", "gauge", "Size of IP address space used by allocator.", addresses.universeCount)
        text.single(
            "weave_ipam_unreachable_count", "gauge", "Number of unreachable peers.",
            addresses.unreachableOwners.count)
        text.single(
            "weave_ipam_unreachable_percentage", "gauge",
            "Percentage of IP addresses owned  by unreachable peers.", addresses.unreachableShare * 100)
        text.single(
            "weave_ipam_pending_allocates", "gauge", "Number of pending allocates.",
            addresses.pendingAllocations.count)
        text.single(
            "weave_ipam_pending_claims", "gauge", "Number of pending claims.", addresses.pendingClaims.count)
        text.single(
            "weave_ipam_conflicts", "gauge", "Number of peers whose ring contradicts ours.",
            Set(addresses.conflicts.map(\.source)).count)
        text.single(
            "weave_ipam_unknown_messages_total", "counter", "Number of messages of an unknown kind.",
            addresses.unknownMessages)
    }

    /// One pair of series for each state and overlay seen.
    private var connectionSeries: [(labels: String, value: Int)] {
        var counts: [String: (yes: Int, no: Int)] = [:]
        for connection in status.mesh.connections {
            let overlay = connection.isLive ? connection.overlay?.name ?? "unknown" : "unknown"
            let key = "state=\"\(connection.state.rawValue)\",type=\"\(escaped(overlay))\""
            let sealed = connection.isLive && connection.overlay?.encrypted == true
            counts[key, default: (0, 0)].yes += sealed ? 1 : 0
            counts[key, default: (0, 0)].no += sealed ? 0 : 1
        }
        return counts.sorted { $0.key < $1.key }.flatMap { key, count in
            [("encryption=\"\",\(key)", count.no), ("encryption=\"yes\",\(key)", count.yes)]
        }
    }

    private func escaped(_ label: String) -> String {
        label.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
    }

    private struct Body {
        var value = ""

        mutating func family(
            _ name: String, _ type: String, _ help: String, _ series: [(labels: String, value: Int)]
        ) {
            value += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
            for one in series { value += "\(name){\(one.labels)} \(one.value)\n" }
        }

        mutating func single(_ name: String, _ type: String, _ help: String, _ number: some CustomStringConvertible) {
            value += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n\(name) \(number)\n"
        }
    }
}
