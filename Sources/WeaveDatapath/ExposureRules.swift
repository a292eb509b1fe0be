import WeaveCore

/// The firewall rules a host should have, in the names and words of 2.8.1, so that a host that ran it finds its own. Rules
/// are written the way `iptables-save` shows them.
struct ExposureRules: Hashable, Sendable {
    typealias Rule = IPTablesRuleset.Rule

    /// How packets for containers of this host are kept from being masqueraded.
    enum LocalExclusion: Hashable, Sendable {
        case off
        /// By the set `setName`, which changes without touching the rules.
        case set
        /// By one rule for each range, where there are no sets.
        case ranges([IPv4CIDR])
    }

    static let natChain = "WEAVE"
    static let exposeChain = "WEAVE-EXPOSE"
    static let policyChain = "WEAVE-NPC"
    static let egressChain = "WEAVE-NPC-EGRESS"
    static let canaryChain = "WEAVE-CANARY"
    static let setName = "weaver-no-masq-local"
    static let controlComment = "Block non-local access to Weave Net control port"
    static let localComment = "Prevent SNAT to locally running containers"
    private static let orderComment = "NOTE: this must go before '-j KUBE-FORWARD'"

    let options: HostExposureOptions
    var exposures: [Exposure]
    var local: LocalExclusion

    private var bridge: String { options.bridge }

    /// The content of nat `WEAVE`.
    var nat: [Rule] {
        let masquerade = ["-j", "MASQUERADE"] + (options.randomizesPorts ? ["--random-fully"] : [])
        return localRules
            + Self.networks(exposures.filter(\.isMasqueraded)).flatMap { network in
                [
                    ["-s", network, "-d", "224.0.0.0/4", "-j", "RETURN"],
                    ["!", "-s", network, "-d", network] + masquerade,
                    ["-s", network, "!", "-d", network] + masquerade,
                ]
            }
    }

    private var localRules: [Rule] {
        let end = ["-m", "comment", "--comment", Self.localComment, "-j", "RETURN"]
        return switch local {
        case .off: []
        case .set: [["-m", "set", "--match-set", Self.setName, "dst"] + end]
        case .ranges(let ranges): IPv4CIDR.merged(ranges).map { ["-d", "\($0)"] + end }
        }
    }

    /// The content of filter `WEAVE-EXPOSE`.
    var expose: [Rule] { Self.networks(exposures).map { ["-d", $0, "-j", "ACCEPT"] } }

    /// Ordered and each once, whatever the order of the addresses, so that looking twice finds no difference.
    private static func networks(_ exposures: [Exposure]) -> [String] {
        Set(exposures.map(\.address.masked)).sorted {
            ($0.address, $0.prefixLength) < ($1.address, $1.prefixLength)
        }.map(\.description)
    }

    /// The rules at the top of filter `FORWARD`, in order.
    var forward: [Rule] {
        (options.expectsPolicy ? policyForward : exposeForward) + [
            ["-i", bridge, "!", "-o", bridge, "-j", "ACCEPT"],
            ["-o", bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"],
        ]
    }

    private var exposeForward: [Rule] {
        [["-i", bridge, "-o", bridge, "-j", "ACCEPT"], ["-o", bridge, "-j", Self.exposeChain]]
    }

    private var policyForward: [Rule] {
        let comment = ["-m", "comment", "--comment", Self.orderComment]
        return [
            ["-i", bridge] + comment + ["-j", Self.egressChain],
            ["-o", bridge] + comment + ["-j", Self.policyChain],
            ["-o", bridge, "-m", "state", "--state", "NEW", "-j", "NFLOG", "--nflog-group", "86"],
            ["-o", bridge, "-j", "DROP"],
        ]
    }

    /// The rules that filter `INPUT` has somewhere.
    var input: [Rule] {
        var rules: [Rule] = []
        if let port = options.controlPort { rules.append(Self.guardRule(port: port)) }
        if options.expectsPolicy { rules.append(egressInput) }
        return rules
    }

    private var egressInput: Rule { ["-i", bridge, "-j", Self.egressChain] }

    private static func guardRule(port: UInt16?) -> Rule {
        let narrowed = port.map { ["-m", "tcp", "--dport", "\($0)"] } ?? []
        let comment = port == nil ? [] : ["-m", "comment", "--comment", controlComment]
        return ["-d", "127.0.0.1/32", "-p", "tcp"] + narrowed
            + [
                "-m", "addrtype", "!", "--src-type", "LOCAL", "-m", "conntrack", "!", "--ctstate",
                "RELATED,ESTABLISHED",
            ]
            + comment + ["-j", "DROP"]
    }

    /// Whether a rule of filter `INPUT` is ours: of now, of another port, of 2.6.3 (which had no port), or of the other
    /// way to treat policies.
    func isOurInput(_ rule: Rule) -> Bool {
        rule == egressInput || rule == Self.guardRule(port: nil)
            || (rule.starts(with: ["-d", "127.0.0.1/32"]) && rule.contains(Self.controlComment))
    }

    /// The rules of filter `FORWARD` that are ours, of either way to treat policies. A plain `-o weave -j DROP` is taken
    /// for ours only where others of its block are.
    func ourForward(among present: [Rule]) -> Set<Rule> {
        let marks = Set(policyForward.dropLast())
        let ours = marks.union(forward).union(exposeForward)
        return present.contains(where: marks.contains) ? ours.union(policyForward) : ours
    }

    /// The rule of nat `POSTROUTING`.
    static let postrouting: Rule = ["-j", natChain]

    /// Whether a chain of one of the tables is ours, or was 2.8.1's.
    static func isOurChain(_ table: String, _ chain: String) -> Bool {
        switch table {
        case "nat": chain == natChain || chain == canaryChain
        case "filter":
            chain == exposeChain || chain == canaryChain || chain == policyChain || chain.hasPrefix(policyChain + "-")
        case "mangle": chain == canaryChain
        default: false
        }
    }
}

extension ExposureRules {
    /// The rules as a host has them, told from what it shows.
    ///
    /// - Parameter addresses: those of the bridge.
    init(_ options: HostExposureOptions, shownBy ruleset: IPTablesRuleset, addresses: [IPv4CIDR]) {
        self.options = options
        let nat = ruleset.rules("nat", Self.natChain)
        // Without the jump rules were flushed, so nothing is known, and masquerading is the rule.
        let isKnown = ruleset.rules("nat", "POSTROUTING").contains(Self.postrouting)
        exposures = addresses.map { address in
            let network = address.masked.description
            let sign = ["-s", network, "!", "-d", network, "-j", "MASQUERADE"]
            return Exposure(address, isMasqueraded: !isKnown || nat.contains { $0.starts(with: sign) })
        }
        let ranges = nat.filter { $0.contains(Self.localComment) && $0.first == "-d" && $0.count > 1 }
        if nat.contains(where: { $0.starts(with: ["-m", "set", "--match-set", Self.setName, "dst"]) }) {
            local = .set
        } else {
            local = ranges.isEmpty ? .off : .ranges(ranges.compactMap { IPv4CIDR($0[1]) })
        }
    }
}

extension IPv4CIDR {
    /// The fewest ranges that hold exactly the addresses of `ranges`, in order.
    static func merged(_ ranges: [IPv4CIDR]) -> [IPv4CIDR] {
        var spans: [(first: UInt64, end: UInt64)] = []
        for range in ranges.sorted(by: { $0.network < $1.network }) {
            let first = UInt64(range.network.rawValue)
            let end = UInt64(range.last.rawValue) + 1
            if let last = spans.last, first <= last.end {
                spans[spans.count - 1].end = max(last.end, end)
            } else {
                spans.append((first, end))
            }
        }
        return spans.flatMap { Self.split($0.first, $0.end) }
    }

    private static func split(_ first: UInt64, _ end: UInt64) -> [IPv4CIDR] {
        var ranges: [IPv4CIDR] = []
        var next = first
        while next < end {
            // As large as its first address is aligned, and as what is left.
            let bits = min(next.trailingZeroBitCount, 32, 63 - (end - next).leadingZeroBitCount)
            let address = IPv4Address(rawValue: UInt32(truncatingIfNeeded: next))
            if let range = IPv4CIDR(address, prefixLength: 32 - bits) { ranges.append(range) }
            next += 1 << UInt64(bits)
        }
        return ranges
    }
}
