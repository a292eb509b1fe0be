import WeaveCore
import WeaveIPAM

/// The flags of address allocation, checked.
struct AddressConfiguration: Sendable, Equatable {
    /// How the first ring comes about.
    enum Start: Sendable, Equatable {
        /// By agreement; of more than half of `peers`, or of those that are targets when it begins.
        case consensus(peers: Int?)
        case seed([PeerName])
        case observer
    }

    var universe: IPv4CIDR
    var defaultSubnet: IPv4CIDR
    var start: Start

    /// Peers that can be named in a seed.
    static let maximumSeed = 4096

    /// - Returns: nil when allocation is off, which an empty range asks for.
    /// - Throws: `DaemonError` (usage) with 2.8.1's words.
    static func make(range: String, defaultSubnet: String, start: String) throws(DaemonError) -> AddressConfiguration? {
        guard !range.isEmpty else {
            for (flag, value) in [("--ipalloc-default-subnet", defaultSubnet), ("--ipalloc-init", start)]
            where !value.isEmpty {
                throw DaemonError(.usage, "\(flag) specified without --ipalloc-range.")
            }
            return nil
        }
        let universe = try subnet(range, "--ipalloc-range")
        let given = try defaultSubnet.isEmpty ? universe : subnet(defaultSubnet, "--ipalloc-default-subnet")
        guard given.range.overlaps(universe.range) else {
            throw DaemonError(
                .usage,
                "IP address allocation default subnet \(given) does not overlap with allocation range \(universe)")
        }
        return AddressConfiguration(universe: universe, defaultSubnet: given, start: try self.start(start))
    }

    private static func subnet(_ text: String, _ flag: String) throws(DaemonError) -> IPv4CIDR {
        do {
            return try IPv4CIDR.parseSubnet(text)
        } catch {
            throw DaemonError(.usage, "\(flag): \(printable(error.message))")
        }
    }

    private static func start(_ text: String) throws(DaemonError) -> Start {
        let halves = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let mode = halves.first.map(String.init) ?? ""
        let value = halves.count > 1 ? String(halves[1]) : nil
        let failed = "Unable to parse --ipalloc-init: "
        switch (mode, value) {
        case ("", nil), ("consensus", nil): return .consensus(peers: nil)
        case ("consensus", let value?):
            guard let count = Int(value) else {
                throw DaemonError(.usage, failed + "bad consensus parameter: '\(printable(value))' is no number")
            }
            return .consensus(peers: count > 0 ? count : nil)
        case ("observer", nil): return .observer
        case ("observer", _): throw DaemonError(.usage, failed + "observer mode takes no parameter")
        case ("seed", nil): throw DaemonError(.usage, failed + "seed mode requires peer name list")
        case ("seed", let value?): return .seed(try seed(value, failed))
        default: throw DaemonError(.usage, failed + "unknown mode: \(printable(mode))")
        }
    }

    private static func seed(_ text: String, _ failed: String) throws(DaemonError) -> [PeerName] {
        let names = text.split(separator: ",")
        guard names.count <= maximumSeed else {
            throw DaemonError(.usage, failed + "bad seed parameter: more than \(maximumSeed) peers")
        }
        var peers: [PeerName] = []
        for name in names {
            guard let peer = try? PeerName(parsing: String(name)), peer != .unknown else {
                throw DaemonError(
                    .usage, failed + "bad seed parameter: error parsing peer names: '\(printable(String(name)))'")
            }
            peers.append(peer)
        }
        return peers
    }
}
