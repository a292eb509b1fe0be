/// What to tell `iptables-restore --noflush` to get from the rules a host has to those it should have. Made without touching
/// anything; empty for a host that is as it should be. Chains of ours are written anew as a whole; of others' chains only
/// rules that are ours are taken out and put in.
struct ExposurePlan: Hashable, Sendable {
    typealias Rule = IPTablesRuleset.Rule

    /// A rule for a chain that is not ours.
    struct Placement: Hashable, Sendable {
        let table: String
        let chain: String
        let rule: Rule
    }

    /// The commands of each table, which take effect together.
    private(set) var commands: [(table: String, lines: [String])] = []
    /// Rules that were not found in the chains of others.
    private(set) var placements: [Placement] = []
    /// One line for each chain that changes.
    private(set) var changes: [String] = []

    var isEmpty: Bool { commands.allSatisfy { $0.lines.isEmpty } }

    /// The input of `iptables-restore`.
    var script: String {
        commands.filter { !$0.lines.isEmpty }.map { table, lines in
            "*\(table)\n" + lines.joined(separator: "\n") + "\nCOMMIT\n"
        }.joined()
    }

    /// What makes `present` have `rules`.
    init(_ rules: ExposureRules, from present: IPTablesRuleset) {
        commands = [("filter", []), ("nat", [])]
        if rules.options.expectsPolicy {
            create(ExposureRules.policyChain, present)
            create(ExposureRules.egressChain, present)
        } else {
            rewrite("filter", ExposureRules.exposeChain, rules.expose, present)
        }
        rewrite("nat", ExposureRules.natChain, rules.nat, present)
        keep("filter", "INPUT", rules.input, among: rules.isOurInput, present)
        head(rules, present)
        keep("nat", "POSTROUTING", [ExposureRules.postrouting], among: { $0 == ExposureRules.postrouting }, present)
    }

    /// What makes `present` have nothing of ours.
    init(removing rules: ExposureRules, from present: IPTablesRuleset) {
        for table in ["filter", "nat", "mangle"] {
            commands.append((table, []))
            let chains = (present.tables[table] ?? [:]).sorted { $0.key < $1.key }
            let ours = chains.filter { ExposureRules.isOurChain(table, $0.key) }.map(\.key)
            let forward = rules.ourForward(among: present.rules("filter", "FORWARD"))
            for (chain, content) in chains where !ours.contains(chain) {
                for rule in content {
                    let leads = zip(rule, rule.dropFirst()).contains { ["-j", "-g"].contains($0) && ours.contains($1) }
                    let isOurs =
                        table == "filter"
                        && (chain == "INPUT" && rules.isOurInput(rule) || chain == "FORWARD" && forward.contains(rule))
                    if leads || isOurs { add(table, "-D \(chain) \(IPTablesRuleset.text(rule))") }
                }
            }
            for chain in ours { add(table, "-F \(chain)") }
            for chain in ours { add(table, "-X \(chain)") }
        }
        if !isEmpty { changes.append("removed the firewall rules of \"\(rules.options.bridge)\"") }
    }

    /// A chain whose content is somebody else's.
    private mutating func create(_ chain: String, _ present: IPTablesRuleset) {
        guard !present.hasChain("filter", chain) else { return }
        add("filter", "-N \(chain)")
        changes.append("made filter \(chain)")
    }

    private mutating func rewrite(_ table: String, _ chain: String, _ rules: [Rule], _ present: IPTablesRuleset) {
        guard !present.hasChain(table, chain) || present.rules(table, chain) != rules else { return }
        // Of a chain that exists, this line drops the content.
        add(table, ":\(chain) - [0:0]")
        for rule in rules { add(table, "-A \(chain) \(IPTablesRuleset.text(rule))") }
        changes.append("wrote \(table) \(chain) with \(rules.count) rules")
    }

    /// Sees to it that a chain of others has each of `wanted` once, at its end when it is new, and no other of ours.
    private mutating func keep(
        _ table: String, _ chain: String, _ wanted: [Rule], among isOurs: (Rule) -> Bool, _ present: IPTablesRuleset
    ) {
        var missing = wanted
        var excess: [Rule] = []
        for rule in present.rules(table, chain) where isOurs(rule) {
            if let index = missing.firstIndex(of: rule) { missing.remove(at: index) } else { excess.append(rule) }
        }
        for rule in excess { add(table, "-D \(chain) \(IPTablesRuleset.text(rule))") }
        for rule in missing { add(table, "-A \(chain) \(IPTablesRuleset.text(rule))") }
        placements += missing.map { Placement(table: table, chain: chain, rule: $0) }
        note(table, chain, removed: excess.count, added: missing.count)
    }

    /// Leaves filter `FORWARD` alone when all is there in the right order, wherever others have put theirs; otherwise
    /// brings our rules to its top.
    private mutating func head(_ rules: ExposureRules, _ present: IPTablesRuleset) {
        let chain = present.rules("filter", "FORWARD")
        let known = rules.ourForward(among: chain)
        let found = chain.filter(known.contains)
        let wanted = rules.forward
        guard found != wanted else { return }
        for rule in found { add("filter", "-D FORWARD \(IPTablesRuleset.text(rule))") }
        for (index, rule) in wanted.enumerated() {
            add("filter", "-I FORWARD \(index + 1) \(IPTablesRuleset.text(rule))")
        }
        placements += wanted.filter { !found.contains($0) }.map {
            Placement(table: "filter", chain: "FORWARD", rule: $0)
        }
        note("filter", "FORWARD", removed: found.count, added: wanted.count)
    }

    private mutating func note(_ table: String, _ chain: String, removed: Int, added: Int) {
        let parts = [removed > 0 ? "took \(removed) rules out of" : nil, added > 0 ? "put \(added) rules into" : nil]
        guard removed + added > 0 else { return }
        changes.append(parts.compactMap(\.self).joined(separator: " and ") + " \(table) \(chain)")
    }

    private mutating func add(_ table: String, _ line: String) {
        guard let index = commands.firstIndex(where: { $0.table == table }) else { return }
        commands[index].lines.append(line)
    }

    static func == (left: ExposurePlan, right: ExposurePlan) -> Bool {
        left.script == right.script && left.placements == right.placements && left.changes == right.changes
    }

    func hash(into hasher: inout Hasher) { hasher.combine(script) }
}
