/// Flags in the spellings that Go programs take, brought into the one that the argument parser takes, and flags of
/// 2.8.1 that have no effect here taken out.
struct GoFlags: Sendable, Equatable {
    /// For the argument parser: `--flag=value`, `--flag`, peers.
    var words: [String] = []
    /// What to tell the operator about flags without effect.
    var notes: [String] = []

    /// Flags that take a value.
    static let valued: Set<String> = [
        "host", "port", "min-protocol-version", "name", "nickname", "password", "password-file", "trusted-subnets",
        "conn-limit", "http-addr", "http-host", "status-addr", "metrics-addr", "log-level", "mtu", "weave-bridge",
        "db-prefix",
        "host-root", "pid-file", "threads", "ipalloc-range", "ipalloc-default-subnet", "ipalloc-init",
    ]

    /// Flags that are on when given.
    static let boolean: Set<String> = [
        "help", "version", "print-peer-name", "resume", "no-discovery", "reset", "no-masq-local", "expect-npc",
    ]

    /// A flag of 2.8.1 without effect: whether it takes a value, and what a person who gives it should know. Nothing
    /// is said where doing nothing is what the flag asks for.
    struct Inert: Sendable {
        var takesValue: Bool
        var note: String?

        static func value(_ note: String?) -> Inert { Inert(takesValue: true, note: note) }
        static func bool(_ note: String?) -> Inert { Inert(takesValue: false, note: note) }
    }

    static let inert: [String: Inert] = {
        let names = "this release has no DNS server"
        let docker = "this release does not talk to Docker: use 'weave attach'"
        let cloud = "the discovery service no longer exists: give peers"
        let fast = "frames go through the sleeve, this release has no fast datapath"
        let rules = "this release does not look after Docker's bridge"
        var flags: [String: Inert] = [
            "no-fastdp": .bool(nil), "no-bridged-fastdp": .bool(nil), "no-dns": .bool(nil), "datapath": .value(fast),
            "bufsz": .value("frames are not captured through pcap"),
            "pkt-debug": .bool("single packets are not logged; see the counters in 'weave report'"),
            "profile": .value("use perf on the process"), "token": .value(cloud), "peer-discovery-url": .value(cloud),
            "advertise-address": .value(cloud),
            "docker-bridge": .value(rules), "awsvpc": .bool("AWS VPC routes are not programmed"),
            "proc-path": .value("/proc of the daemon's own mount namespace is used"),
            "docker-api": .value(docker), "H": .value(docker),
        ]
        for name in ["dns-domain", "dns-listen-address", "dns-ttl", "dns-fallback-timeout", "resolv-conf"] {
            flags[name] = .value(names)
        }
        for name in [
            "plugin-socket", "plugin-mesh-socket", "hostname-from-label", "hostname-match", "hostname-replacement",
            "tlscacert", "tlscert", "tlskey",
        ] { flags[name] = .value(docker) }
        for name in [
            "plugin", "plugin-v2", "plugin-v2-multicast", "proxy", "rewrite-inspect", "no-default-ipalloc",
            "no-rewrite-hosts", "without-dns", "no-multicast-route", "tls", "tlsverify", "no-detect-tls", "no-restart",
        ] { flags[name] = .bool(docker) }
        return flags
    }()

    /// - Throws: `DaemonError` (usage) for a value that a flag cannot have.
    init(_ arguments: [String]) throws(DaemonError) {
        var rest = arguments[...]
        while let word = rest.popFirst() {
            if word == "--" {
                words += ["--"] + rest
                return
            }
            guard word.hasPrefix("-"), word.count > 1 else {
                words.append(word)
                continue
            }
            try take(word, &rest)
        }
    }

    private mutating func take(_ word: String, _ rest: inout ArraySlice<String>) throws(DaemonError) {
        let bare = word.drop { $0 == "-" }
        let halves = bare.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let name = halves.first == "h" ? "help" : String(halves.first ?? "")
        let given = halves.count > 1 ? Self.unquoted(halves[1]) : nil
        if let inert = Self.inert[name] {
            let value: String
            if let given {
                value = given
            } else {
                value = inert.takesValue ? try Self.next(name, &rest) : "true"
            }
            let isOff = inert.takesValue ? value.isEmpty : try !Self.isOn(name, value)
            if let note = inert.note, !isOff {
                notes.append("--\(name) has no effect: \(note)")
            }
        } else if Self.boolean.contains(name) {
            if try Self.isOn(name, given ?? "true") { words.append("--" + name) }
        } else if Self.valued.contains(name) {
            let value = if let given { given } else { try Self.next(name, &rest) }
            // The parser takes no empty value after an equals sign.
            words += value.isEmpty ? ["--\(name)", ""] : ["--\(name)=\(value)"]
        } else {
            throw DaemonError(.usage, "unknown flag \(printable(String(word.prefix { $0 != "=" })))")
        }
    }

    private static func next(_ name: String, _ rest: inout ArraySlice<String>) throws(DaemonError) -> String {
        guard let value = rest.popFirst() else { throw DaemonError(.usage, "--\(name) needs a value") }
        return value
    }

    private static func isOn(_ name: String, _ value: String) throws(DaemonError) -> Bool {
        switch value {
        case "1", "t", "T", "true", "TRUE", "True": true
        case "0", "f", "F", "false", "FALSE", "False": false
        default: throw DaemonError(.usage, "--\(name) is either true or false, not '\(printable(value))'")
        }
    }

    private static func unquoted(_ text: Substring) -> String {
        for quote in ["\"", "'"] where text.count >= 2 && text.hasPrefix(quote) && text.hasSuffix(quote) {
            return String(text.dropFirst().dropLast())
        }
        return String(text)
    }
}
