import WeaveNetlink

/// Keeps multicast of subnets that a container is not in out of it: the bridge is one segment, and groups do not know
/// subnets.
enum MulticastFilter {
    private static func table(_ interface: String) -> String {
        // Names of tables take letters, digits and few signs.
        let clean = interface.utf8.map { byte -> UInt8 in
            let isPlain = (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte)
            return isPlain ? byte : UInt8(ascii: "_")
        }
        return "weave-" + String(decoding: clean, as: UTF8.self)
    }

    /// The rules for an interface whose addresses are in `subnets`.
    static func rules(interface: String, subnets: [IPPrefix]) -> String {
        let name = table(interface)
        let local = subnets.map { "ip saddr \($0) accept" }.joined(separator: "; ")
        let device = "\"\(interface)\""
        return """
            table ip \(name) {
                chain foreign-multicast { \(local.isEmpty ? "" : local + "; ")drop; }
                chain input {
                    type filter hook input priority 0; policy accept;
                    iifname \(device) ip daddr 224.0.0.0/4 jump foreign-multicast
                }
            }
            """
    }

    /// Installs the rules in the calling thread's namespace, replacing earlier ones: by nftables in one transaction, or on
    /// kernels and hosts without it by iptables.
    ///
    /// - Returns: nil, or why the container gets multicast of other subnets too.
    static func install(interface: String, subnets: [IPPrefix]) -> String? {
        guard interface.utf8.allSatisfy({ $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }) else {
            return "multicast of other subnets is not kept out: \(interface) has a quote in its name"
        }
        let name = table(interface)
        let script =
            "table ip \(name) {}\ndelete table ip \(name)\n" + rules(interface: interface, subnets: subnets)
        guard let first = Tool.run("nft", [script]) else { return nil }
        guard let second = installIPTables(interface: interface, subnets: subnets) else { return nil }
        return "multicast of other subnets is not kept out of \"\(interface)\": \(first); \(second)"
    }

    static func remove(interface: String) {
        guard Tool.run("nft", ["delete table ip \(table(interface))"]) != nil else { return }
        _ = Tool.run("iptables", ["-w", "-D", "INPUT"] + jump(interface))
        for action in ["-F", "-X"] { _ = Tool.run("iptables", ["-w", action, chain(interface)]) }
    }

    /// Names of chains hold 28 characters.
    private static func chain(_ interface: String) -> String { "WEAVE-MC-" + interface }

    private static func jump(_ interface: String) -> [String] {
        ["-i", interface, "-d", "224.0.0.0/4", "-j", chain(interface)]
    }

    private static func installIPTables(interface: String, subnets: [IPPrefix]) -> String? {
        let chain = chain(interface)
        // It may be there already.
        _ = Tool.run("iptables", ["-w", "-N", chain])
        var commands = [["-F", chain]]
        commands += subnets.map { ["-A", chain, "-s", "\($0)", "-j", "RETURN"] }
        commands.append(["-A", chain, "-j", "DROP"])
        for command in commands {
            if let failure = Tool.run("iptables", ["-w"] + command) { return failure }
        }
        if Tool.run("iptables", ["-w", "-C", "INPUT"] + jump(interface)) == nil { return nil }
        return Tool.run("iptables", ["-w", "-A", "INPUT"] + jump(interface))
    }
}
