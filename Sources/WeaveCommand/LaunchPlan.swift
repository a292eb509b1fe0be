/// How to start the daemon: what becomes of the words after `weave launch`.
struct LaunchPlan: Sendable, Equatable {
    /// The daemon's command line, without secrets.
    var arguments: [String]
    /// What the daemon's environment has in addition to ours.
    var environment: [String: String]
    /// Where its control interface will be.
    var address: DaemonAddress
    /// Whether the address differs from the standard one.
    var isOwnAddress: Bool
    /// What the daemon hands out.
    var range: AllocationRange
    /// What the operator should know.
    var warnings: [String] = []

    /// - Throws: `CommandError` (usage) for words that the daemon would not understand either.
    init(_ words: [String], environment outer: [String: String], state: StateDirectory) throws(CommandError) {
        var arguments: [String] = []
        environment = [:]
        var range = outer["IPALLOC_RANGE"].flatMap { $0.isEmpty ? nil : $0 }
        var rest = words[...]
        while let word = rest.popFirst() {
            guard word != "--" else {
                arguments += ["--"] + rest
                break
            }
            switch Self.flag(word) {
            case "password":
                environment["WEAVE_PASSWORD"] = try Self.take(word, &rest)
                warnings.append(
                    "the password was visible in the list of processes while this command ran; use --password-file or "
                        + "WEAVE_PASSWORD")
            case "ipalloc-range", "iprange":
                range = try Self.take(word, &rest)
            default:
                arguments.append(word)
            }
        }
        let listen = Self.value(of: "http-addr", in: arguments) ?? outer["WEAVE_HTTP_ADDR"] ?? ""
        if listen.isEmpty, Self.value(of: "http-addr", in: arguments) != nil {
            throw CommandError("'weave' needs the daemon's control interface: leave --http-addr on", code: .usage)
        }
        address = try DaemonAddress(listen.isEmpty ? DaemonAddress.standard : listen)
        isOwnAddress = address.description != DaemonAddress.standard
        var defaults: [String] = []
        func add(_ flag: String, _ value: String?) {
            if let value, !value.isEmpty, Self.value(of: flag, in: arguments) == nil {
                defaults.append("--\(flag)=\(value)")
            }
        }
        add("http-addr", listen.isEmpty ? DaemonAddress.standard : listen)
        add("db-prefix", state.databasePrefix)
        add("pid-file", state.pidFile)
        add("port", outer["WEAVE_PORT"])
        add("mtu", outer["WEAVE_MTU"])
        let allocated = range ?? AllocationRange.standard
        defaults.append("--ipalloc-range=\(allocated)")
        // Without a range the daemon would take it for a mistake.
        if !allocated.isEmpty { add("ipalloc-init", outer["IPALLOC_INIT"]) }
        self.range = AllocationRange(
            text: allocated, isGiven: range != nil, bridge: Self.value(of: "weave-bridge", in: arguments) ?? "weave")
        self.arguments = defaults + arguments
    }

    /// The value of the flag in `word`: after the equals sign, else the next word.
    private static func take(_ word: String, _ rest: inout ArraySlice<String>) throws(CommandError) -> String {
        guard let value = value(word) ?? rest.popFirst() else {
            throw CommandError("--\(flag(word) ?? word) needs a value", code: .usage)
        }
        return value
    }

    /// The name of the flag in `word`; nil when it is none.
    static func flag(_ word: String) -> String? {
        guard word.hasPrefix("-") else { return nil }
        return String(word.drop { $0 == "-" }.prefix { $0 != "=" })
    }

    /// The value after the equals sign.
    private static func value(_ word: String) -> String? {
        word.firstIndex(of: "=").map { String(word[word.index(after: $0)...]) }
    }

    /// The value of the last flag called `name`.
    private static func value(of name: String, in words: [String]) -> String? {
        guard let index = words.lastIndex(where: { flag($0) == name }) else { return nil }
        return value(words[index]) ?? (index + 1 < words.count ? words[index + 1] : nil)
    }
}
