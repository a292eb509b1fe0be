import Glibc
public import WeaveNetlink

/// Which of the programs called iptables is used. Hosts may have two, each with tables of its own that the other does not
/// see although the kernel obeys both.
public struct IPTablesFlavour: Hashable, Sendable, CustomStringConvertible {
    /// The program's name.
    public let description: String

    /// Whatever the host calls `iptables`.
    public static let standard = IPTablesFlavour(description: "iptables")
    /// The tables of old.
    public static let legacy = IPTablesFlavour(description: "iptables-legacy")
    /// The same language kept in nftables.
    public static let nft = IPTablesFlavour(description: "iptables-nft")

    /// Finds the flavour that a host is run with: the one that has rules of ours already, else the one with the most
    /// rules, else the standard one. Asks the network namespace of the calling thread; to be done once at start.
    ///
    /// - Returns: the flavour, and warnings about rules of an earlier run in another.
    /// - Throws: `NetlinkError`, `unsupported` when iptables is not installed.
    public static func detect() throws(NetlinkError) -> (flavour: IPTablesFlavour, warnings: [String]) {
        var shown = [(IPTablesFlavour.standard, try IPTables(.standard).rules())]
        for flavour in [legacy, nft] {
            // Hosts with one flavour do not have these names; what cannot be shown cannot be chosen.
            if let rules = try? IPTables(flavour).rules() { shown.append((flavour, rules)) }
        }
        return choose(shown)
    }

    /// - Parameter shown: the rules of each, the standard one first.
    static func choose(_ shown: [(flavour: IPTablesFlavour, rules: IPTablesRuleset)]) -> (
        flavour: IPTablesFlavour, warnings: [String]
    ) {
        func hasOurs(_ rules: IPTablesRuleset) -> Bool { rules.hasChain("nat", ExposureRules.natChain) }
        guard var chosen = shown.first else { return (.standard, []) }
        if let ours = shown.first(where: { hasOurs($0.rules) }) {
            chosen = ours
        } else {
            for other in shown where other.rules.count > chosen.rules.count { chosen = other }
        }
        let strays = shown.filter { hasOurs($0.rules) && $0.rules != chosen.rules }
        return (
            chosen.flavour,
            strays.map {
                "\($0.flavour) has rules of an earlier run that \(chosen.flavour) does not see and the kernel obeys; "
                    + "remove its chains WEAVE and WEAVE-EXPOSE with the jumps to them"
            }
        )
    }
}

/// Reads and changes the firewall of the calling thread's network namespace.
struct IPTables: Sendable {
    /// How many seconds the tool waits for others who hold the lock of the tables.
    static let lockSeconds = 5
    /// Longer than the wait for the lock by what it takes to load very many rules.
    static let timeoutMilliseconds = 15_000
    /// What a host with some ten thousand services shows is a quarter of this.
    static let outputLimit = 32 << 20
    /// How often a change is tried that others got in the way of.
    static let attempts = 3
    /// The status by which the tool says that it did not get the lock, or memory.
    private static let busyStatus: Int32 = 4

    let flavour: IPTablesFlavour

    init(_ flavour: IPTablesFlavour) { self.flavour = flavour }

    /// All rules there are.
    func rules() throws(NetlinkError) -> IPTablesRuleset {
        IPTablesRuleset(parsing: try run("-save", []))
    }

    /// Changes rules until `plan` finds nothing more to change in them, so that what was changed was looked at again.
    /// Takes at most some twenty seconds, when others keep the lock all the time.
    ///
    /// - Returns: what was changed.
    /// - Throws: `NetlinkError`: `unsupported` without iptables, `busy` when others held its lock all the time, `failed`
    ///   with the tool's words.
    func apply(_ plan: (IPTablesRuleset) -> ExposurePlan) throws(NetlinkError) -> [String] {
        var changes: [String] = []
        var failure: NetlinkError?
        for _ in 0..<Self.attempts {
            let next = plan(try rules())
            if next.isEmpty { return changes }
            do {
                try checkAbsence(next.placements)
                _ = try run("-restore", ["-w", "\(Self.lockSeconds)", "--noflush"], input: next.script)
                changes += next.changes
                failure = nil
            } catch {
                guard error.code == .busy || error.code == .failed else { throw error }
                // Others may have changed rules between our look and our change.
                failure = error
            }
        }
        if plan(try rules()).isEmpty { return changes }
        throw failure
            ?? NetlinkError(
                .busy,
                "the firewall rules that \(flavour) took are gone or changed at once; another program on this host "
                    + "removes them: \(changes.suffix(3).joined(separator: ", "))")
    }

    /// Makes sure that rules which were not seen are really not there: were they only shown in words we do not know,
    /// putting them in would add one more each time.
    private func checkAbsence(_ placements: [ExposurePlan.Placement]) throws(NetlinkError) {
        for place in placements {
            let words = ["-w", "\(Self.lockSeconds)", "-t", place.table, "-C", place.chain] + place.rule
            let outcome = try execute("", words)
            if outcome.status == Self.busyStatus { throw error(outcome) }
            if outcome.status != 0 { continue }
            throw NetlinkError(
                .failed,
                "\(flavour) has the rule '\(IPTablesRuleset.text(place.rule))' in \(place.table) \(place.chain), but "
                    + "\(flavour)-save shows it in other words; remove it by hand")
        }
    }

    private func run(_ suffix: String, _ arguments: [String], input: String? = nil) throws(NetlinkError) -> String {
        let outcome = try execute(suffix, arguments, input: input)
        guard outcome.status == 0 else { throw error(outcome) }
        return outcome.output
    }

    private func execute(
        _ suffix: String, _ arguments: [String], input: String? = nil
    ) throws(NetlinkError) -> Tool.Outcome {
        let name = flavour.description + suffix
        let result = Tool.execute(
            name, arguments, input: input, outputLimit: Self.outputLimit, timeoutMilliseconds: Self.timeoutMilliseconds)
        switch result {
        case .success(let outcome): return outcome
        case .failure(let failure) where failure.isMissing:
            throw NetlinkError(
                .unsupported,
                "\(name) is not installed or not in the search path; install the package iptables (1.6.2 or newer)")
        case .failure(let failure):
            throw NetlinkError(.failed, "cannot set up the host's firewall: \(failure.description)")
        }
    }

    private func error(_ outcome: Tool.Outcome) -> NetlinkError {
        let words = "cannot set up the host's firewall: \(outcome.description)"
        // The tool has one status for both.
        if ["ermission denied", "be root", "not permitted"].contains(where: outcome.complaints.contains) {
            return NetlinkError(.notPermitted, "\(words); run as root, or with the capability NET_ADMIN")
        }
        guard outcome.status == Self.busyStatus else { return NetlinkError(.failed, words) }
        return NetlinkError(
            .busy, "\(words); another program keeps the lock of the tables for longer than \(Self.lockSeconds) s")
    }
}
