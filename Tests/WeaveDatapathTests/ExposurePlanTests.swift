import Testing
import WeaveCore

@testable import WeaveDatapath

/// As much of `iptables-restore --noflush` as plans use: a firewall in memory.
private struct Firewall {
    var tables: [String: [String: [[String]]]] = [:]

    init(_ text: String = "") { tables = IPTablesRuleset(parsing: text).tables }

    /// What `iptables-save` would show of it.
    var shown: String {
        tables.sorted { $0.key < $1.key }.map { table, chains in
            let sorted = chains.sorted { $0.key < $1.key }
            let heads = sorted.map { ":\($0.key) - [0:0]\n" }.joined()
            let rules = sorted.flatMap { chain, rules in
                rules.map { "-A \(chain) \(IPTablesRuleset.text($0))\n" }
            }.joined()
            return "*\(table)\n" + heads + rules + "COMMIT\n"
        }.joined()
    }

    var ruleset: IPTablesRuleset { IPTablesRuleset(parsing: shown) }

    /// Obeys a plan; a test fails where the tool would refuse.
    mutating func obey(_ plan: ExposurePlan, _ note: String = "", at place: SourceLocation = #_sourceLocation) {
        var table = ""
        for line in plan.script.split(separator: "\n") {
            if line.hasPrefix("*") {
                table = String(line.dropFirst())
            } else if line.hasPrefix(":") {
                tables[table, default: [:]][String(line.dropFirst().prefix { $0 != " " })] = []
            } else if line != "COMMIT" {
                guard command(table, String(line)) else {
                    Issue.record("refused: \(table) \(line) \(note)", sourceLocation: place)
                    return
                }
            }
        }
    }

    private mutating func command(_ table: String, _ line: String) -> Bool {
        // Words are told apart by the parser that is tested against real output.
        let parts = IPTablesRuleset(parsing: "*t\n-A \(line)\n").rules("t", String(line.prefix(2)))
        guard var words = parts.first, let chain = words.first else { return false }
        words.removeFirst()
        switch line.prefix(2) {
        case "-N":
            guard tables[table]?[chain] == nil else { return false }
            tables[table, default: [:]][chain] = []
        case "-A": tables[table, default: [:]][chain, default: []].append(words)
        case "-I":
            guard let place = Int(words[0]), place <= (tables[table]?[chain]?.count ?? 0) + 1 else { return false }
            tables[table, default: [:]][chain, default: []].insert(Array(words.dropFirst()), at: place - 1)
        case "-D":
            guard let index = tables[table]?[chain]?.firstIndex(of: words) else { return false }
            tables[table]?[chain]?.remove(at: index)
        case "-F": tables[table]?[chain] = []
        case "-X":
            let isUsed = (tables[table] ?? [:]).values.joined().contains { $0.contains(chain) }
            guard !isUsed, tables[table]?[chain] == [] else { return false }
            tables[table]?[chain] = nil
        default: return false
        }
        return true
    }
}

private func rules(
    _ addresses: String..., masquerade: Bool = true, local: ExposureRules.LocalExclusion = .off,
    change: (inout HostExposureOptions) -> Void = { _ in }
) -> ExposureRules {
    var options = HostExposureOptions()
    change(&options)
    var rules = ExposureRules(options, shownBy: IPTablesRuleset(), addresses: [])
    rules.exposures = addresses.compactMap { IPv4CIDR($0) }.map { Exposure($0, isMasqueraded: masquerade) }
    rules.local = local
    return rules
}

@Suite("Exposure: planned rules")
struct ExposurePlanTests {
    @Test("An empty host gets the chains, jumps and rules of 2.8.1")
    func empty() {
        let plan = ExposurePlan(rules("10.32.0.1/12"), from: IPTablesRuleset())
        #expect(
            plan.script == """
                *filter
                :WEAVE-EXPOSE - [0:0]
                -A WEAVE-EXPOSE -d 10.32.0.0/12 -j ACCEPT
                -A INPUT -d 127.0.0.1/32 -p tcp -m tcp --dport 6784 -m addrtype ! --src-type LOCAL -m conntrack ! \
                --ctstate RELATED,ESTABLISHED -m comment --comment "Block non-local access to Weave Net control port" \
                -j DROP
                -I FORWARD 1 -i weave -o weave -j ACCEPT
                -I FORWARD 2 -o weave -j WEAVE-EXPOSE
                -I FORWARD 3 -i weave ! -o weave -j ACCEPT
                -I FORWARD 4 -o weave -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
                COMMIT
                *nat
                :WEAVE - [0:0]
                -A WEAVE -s 10.32.0.0/12 -d 224.0.0.0/4 -j RETURN
                -A WEAVE ! -s 10.32.0.0/12 -d 10.32.0.0/12 -j MASQUERADE
                -A WEAVE -s 10.32.0.0/12 ! -d 10.32.0.0/12 -j MASQUERADE
                -A POSTROUTING -j WEAVE
                COMMIT

                """)
    }

    @Test("A host that 2.8.1 set up needs nothing, with and without policies")
    func adopted() {
        let plain = IPTablesRuleset(
            parsing: """
                *mangle
                :WEAVE-CANARY - [0:0]
                COMMIT
                *filter
                :INPUT ACCEPT [12:3456]
                :FORWARD ACCEPT [0:0]
                :WEAVE-CANARY - [0:0]
                :WEAVE-EXPOSE - [0:0]
                -A INPUT -d 127.0.0.1/32 -p tcp -m tcp --dport 6784 -m addrtype ! --src-type LOCAL -m conntrack ! --ctstate RELATED,ESTABLISHED -m comment --comment "Block non-local access to Weave Net control port" -j DROP
                -A FORWARD -i weave -o weave -j ACCEPT
                -A FORWARD -o weave -j WEAVE-EXPOSE
                -A FORWARD -i weave ! -o weave -j ACCEPT
                -A FORWARD -o weave -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
                COMMIT
                # Completed
                *nat
                :POSTROUTING ACCEPT [0:0]
                :WEAVE - [0:0]
                -A POSTROUTING -j WEAVE
                COMMIT
                """)
        #expect(ExposurePlan(rules(), from: plain).isEmpty)
        let policy = IPTablesRuleset(
            parsing: #"""
                *filter
                :WEAVE-NPC - [0:0]
                :WEAVE-NPC-EGRESS - [0:0]
                -A INPUT -d 127.0.0.1/32 -p tcp -m tcp --dport 6784 -m addrtype ! --src-type LOCAL -m conntrack ! --ctstate RELATED,ESTABLISHED -m comment --comment "Block non-local access to Weave Net control port" -j DROP
                -A INPUT -i weave -j WEAVE-NPC-EGRESS
                -A FORWARD -i weave -m comment --comment "NOTE: this must go before \'-j KUBE-FORWARD\'" -j WEAVE-NPC-EGRESS
                -A FORWARD -o weave -m comment --comment "NOTE: this must go before \'-j KUBE-FORWARD\'" -j WEAVE-NPC
                -A FORWARD -o weave -m state --state NEW -j NFLOG --nflog-group 86
                -A FORWARD -o weave -j DROP
                -A FORWARD -i weave ! -o weave -j ACCEPT
                -A FORWARD -o weave -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
                COMMIT
                *nat
                :WEAVE - [0:0]
                -A POSTROUTING -j WEAVE
                -A WEAVE -m set --match-set weaver-no-masq-local dst -m comment --comment "Prevent SNAT to locally running containers" -j RETURN
                -A WEAVE -s 10.32.0.0/12 -d 224.0.0.0/4 -j RETURN
                -A WEAVE ! -s 10.32.0.0/12 -d 10.32.0.0/12 -j MASQUERADE
                -A WEAVE -s 10.32.0.0/12 ! -d 10.32.0.0/12 -j MASQUERADE
                COMMIT
                """#)
        let wanted = rules("10.32.0.1/12", local: .set) { $0.expectsPolicy = true }
        #expect(ExposurePlan(wanted, from: policy).script == "")
        var options = HostExposureOptions()
        options.expectsPolicy = true
        let address = wanted.exposures[0].address
        #expect(ExposureRules(options, shownBy: policy, addresses: [address]) == wanted)
    }

    @Test("Applying twice is applying once, whatever stands there, and rules of others keep their order")
    func properties() {
        for seed in UInt64(1)...200 {
            var random = SeededGenerator(seed: seed)
            var firewall = Self.firewall(&random)
            let foreign = Self.foreign(firewall)
            let addresses = ["10.32.0.1/12", "10.32.0.7/12", "10.99.1.1/24", "172.20.0.1/30"]
            let options = HostExposureOptions()
            var wanted = ExposureRules(options, shownBy: IPTablesRuleset(), addresses: [])
            for address in addresses where Bool.random(using: &random) {
                guard let address = IPv4CIDR(address) else { continue }
                wanted.exposures.expose([address], masquerade: Bool.random(using: &random))
            }
            firewall.obey(ExposurePlan(wanted, from: firewall.ruleset), "seed \(seed)")
            #expect(ExposurePlan(wanted, from: firewall.ruleset).isEmpty, "seed \(seed)")
            #expect(Self.foreign(firewall) == foreign, "seed \(seed)")
            let shown = ExposureRules(
                options, shownBy: firewall.ruleset, addresses: wanted.exposures.map(\.address))
            #expect(shown.nat == wanted.nat && shown.expose == wanted.expose, "seed \(seed)")

            firewall.obey(ExposurePlan(removing: wanted, from: firewall.ruleset), "seed \(seed)")
            #expect(!firewall.shown.contains("WEAVE") && !firewall.shown.contains("-o weave "), "seed \(seed)")
            #expect(ExposurePlan(removing: wanted, from: firewall.ruleset).isEmpty, "seed \(seed)")
            #expect(Self.foreign(firewall) == foreign, "seed \(seed)")
        }
    }

    /// Rules of others with some of ours among them: doubled, of other ports, in disorder, in chains half full.
    private static func firewall(_ random: inout SeededGenerator) -> Firewall {
        let policy = rules { $0.expectsPolicy = true }
        let other = rules { $0.controlPort = 16784 }
        let own = rules("10.32.0.1/12", "10.1.0.1/24")
        let strange: [[String]] = [
            ["-i", "eth0", "-j", "DROP"], ["-m", "comment", "--comment", "say \"x\" \\ y", "-j", "ACCEPT"],
            ["-o", "weave2", "-j", "ACCEPT"], ["-j", "KUBE"],
        ]
        var pools: [(String, String, [[String]])] = [
            ("filter", "INPUT", strange + own.input + other.input + policy.input),
            ("filter", "FORWARD", strange + own.forward), ("nat", "POSTROUTING", strange + [ExposureRules.postrouting]),
        ]
        let drop = ["-o", "weave", "-j", "DROP"]
        if Bool.random(using: &random) { pools[1].2 += policy.forward }
        var firewall = Firewall("*filter\n:KUBE - [0:0]\nCOMMIT\n*nat\n:KUBE - [0:0]\nCOMMIT\n")
        for (table, chain, pool) in pools {
            let count = Int.random(in: 0...8, using: &random)
            firewall.tables[table]?[chain] = (0..<count).compactMap { _ in pool.randomElement(using: &random) }
        }
        // Alone it would be somebody else's.
        if firewall.tables["filter"]?["FORWARD"]?.contains(drop) == true {
            firewall.tables["filter"]?["FORWARD"]?.append(policy.forward[0])
        }
        if Bool.random(using: &random) { firewall.tables["nat"]?["WEAVE"] = own.nat.shuffled(using: &random) }
        if Bool.random(using: &random) { firewall.tables["filter"]?["WEAVE-EXPOSE"] = own.expose }
        if Bool.random(using: &random) { firewall.tables["mangle"] = ["WEAVE-CANARY": []] }
        for chain in ["WEAVE-NPC", "WEAVE-NPC-EGRESS"] { firewall.tables["filter"]?[chain] = [] }
        return firewall
    }

    /// The rules of others, in order.
    private static func foreign(_ firewall: Firewall) -> [String: [[String]]] {
        var found: [String: [[String]]] = [:]
        for (table, chains) in firewall.tables {
            for (chain, rules) in chains where !ExposureRules.isOurChain(table, chain) {
                found["\(table) \(chain)"] = rules.filter { rule in
                    ["eth0", "weave2", "KUBE"].contains { rule.contains($0) } || rule.contains { $0.hasPrefix("say") }
                }
            }
        }
        return found.filter { !$0.value.isEmpty }
    }

    @Test(
        "Our rules at the top of FORWARD stay where others have put theirs above, and come back up when one is missing")
    func order() {
        var firewall = Firewall()
        let wanted = rules()
        firewall.obey(ExposurePlan(wanted, from: firewall.ruleset))
        firewall.tables["filter"]?["FORWARD"]?.insert(["-j", "KUBE-FORWARD"], at: 0)
        #expect(ExposurePlan(wanted, from: firewall.ruleset).isEmpty)
        firewall.tables["filter"]?["FORWARD"]?.remove(at: 2)
        firewall.obey(ExposurePlan(wanted, from: firewall.ruleset))
        #expect(firewall.ruleset.rules("filter", "FORWARD") == wanted.forward + [["-j", "KUBE-FORWARD"]])
        firewall.tables["filter"]?["FORWARD"]?.swapAt(0, 1)
        #expect(!ExposurePlan(wanted, from: firewall.ruleset).isEmpty)
    }

    @Test("Hiding one of two addresses leaves the rules the other needs")
    func hideOne() {
        var firewall = Firewall()
        let both = rules("10.32.0.1/12", "10.40.0.1/24")
        firewall.obey(ExposurePlan(both, from: firewall.ruleset))
        firewall.obey(ExposurePlan(rules("10.40.0.1/24"), from: firewall.ruleset))
        #expect(!firewall.shown.contains("10.32.0.0") && firewall.shown.contains("-d 10.40.0.0/24 -j ACCEPT"))
        // Two in one subnet share its rules.
        #expect(rules("10.40.0.1/24", "10.40.0.2/24").nat == rules("10.40.0.2/24").nat)
    }

    @Test("Without masquerade nothing is translated, and the last word counts")
    func withoutMasquerade() throws {
        let plain = rules("10.32.0.1/12", masquerade: false)
        #expect(plain.nat == [] && plain.expose == [["-d", "10.32.0.0/12", "-j", "ACCEPT"]])
        var firewall = Firewall()
        firewall.obey(ExposurePlan(plain, from: firewall.ruleset))
        let address = try #require(IPv4CIDR("10.32.0.1/12"))
        var shown = ExposureRules(HostExposureOptions(), shownBy: firewall.ruleset, addresses: [address])
        #expect(shown.exposures == [Exposure(address, isMasqueraded: false)])
        shown.exposures.expose([address], masquerade: true)
        #expect(shown.exposures == [Exposure(address)] && shown.nat.count == 3)
        // Nothing is known of a host without the chain.
        let unknown = ExposureRules(HostExposureOptions(), shownBy: IPTablesRuleset(), addresses: [address])
        #expect(unknown.exposures == [Exposure(address)])
    }

    @Test("What is written down follows what is done, and one subnet has one answer")
    func state() throws {
        let one = try #require(IPv4CIDR("10.32.0.1/12"))
        let two = try #require(IPv4CIDR("10.32.0.2/12"))
        let other = try #require(IPv4CIDR("10.99.0.1/24"))
        var state = ExposureState()
        state.expose([one, other])
        state.expose([two, two], masquerade: false)
        let all = [Exposure(one, isMasqueraded: false), Exposure(other), Exposure(two, isMasqueraded: false)]
        #expect(state.exposures == all)
        state.hide([one, other])
        #expect(state.exposures.map(\.description) == ["10.32.0.2/12 without masquerade"])
    }

    @Test("Ports at random, no control port, and another bridge show in the rules")
    func options() {
        let random = rules("10.32.0.1/12") { $0.randomizesPorts = true }
        #expect(random.nat.filter { $0.last == "--random-fully" }.count == 2)
        #expect(rules { $0.controlPort = nil }.input == [])
        #expect(rules { $0.bridge = "br7" }.forward.allSatisfy { $0.contains("br7") && !$0.contains("weave") })
    }

    @Test("With policies the controller's chains are made but never emptied, and going back takes its rules out")
    func policies() {
        var firewall = Firewall("*filter\n:WEAVE-NPC - [0:0]\n-A WEAVE-NPC -j ACCEPT\nCOMMIT\n")
        let policy = rules("10.32.0.1/12") { $0.expectsPolicy = true }
        firewall.obey(ExposurePlan(policy, from: firewall.ruleset))
        #expect(firewall.ruleset.rules("filter", "WEAVE-NPC") == [["-j", "ACCEPT"]])
        #expect(firewall.ruleset.hasChain("filter", "WEAVE-NPC-EGRESS"))
        #expect(!firewall.ruleset.hasChain("filter", "WEAVE-EXPOSE"))
        #expect(firewall.ruleset.rules("filter", "FORWARD").count == 6)
        firewall.obey(ExposurePlan(rules("10.32.0.1/12"), from: firewall.ruleset))
        #expect(firewall.ruleset.rules("filter", "FORWARD") == rules().forward)
        #expect(firewall.ruleset.rules("filter", "INPUT") == rules().input)
    }

    @Test("A drop that somebody put before the bridge by hand is not ours")
    func foreignDrop() {
        var firewall = Firewall("*filter\n-A FORWARD -o weave -j DROP\nCOMMIT\n")
        firewall.obey(ExposurePlan(rules(), from: firewall.ruleset))
        #expect(firewall.ruleset.rules("filter", "FORWARD").last == ["-o", "weave", "-j", "DROP"])
    }

    @Test("Guards of another port and of 2.6.3 go")
    func staleGuards() {
        var firewall = Firewall(
            "*filter\n-A INPUT -d 127.0.0.1/32 -p tcp -m addrtype ! --src-type LOCAL -m conntrack ! --ctstate "
                + "RELATED,ESTABLISHED -j DROP\nCOMMIT\n")
        firewall.obey(ExposurePlan(rules { $0.controlPort = 9999 }, from: firewall.ruleset))
        firewall.obey(ExposurePlan(rules(), from: firewall.ruleset))
        #expect(firewall.ruleset.rules("filter", "INPUT") == rules().input)
        firewall.obey(ExposurePlan(rules { $0.controlPort = nil }, from: firewall.ruleset))
        #expect(firewall.ruleset.rules("filter", "INPUT") == [])
    }

    @Test("Removing takes out jumps of others into our chains, which could not go otherwise")
    func removal() {
        var firewall = Firewall("*filter\n:DOCKER-USER - [0:0]\n-A DOCKER-USER -j WEAVE-EXPOSE\nCOMMIT\n")
        firewall.obey(ExposurePlan(rules("10.32.0.1/12"), from: firewall.ruleset))
        let plan = ExposurePlan(removing: rules(), from: firewall.ruleset)
        firewall.obey(plan)
        #expect(plan.changes.count == 1)
        #expect(firewall.tables["filter"]?["DOCKER-USER"] == [])
    }

    @Test("Words between quotes, with protected signs, survive reading and writing")
    func words() {
        let text = #"-A C -m comment --comment "a \"b\" \\ \'c\' ; $(d)" --x "" -j ACCEPT"#
        let ruleset = IPTablesRuleset(parsing: "*filter\n\(text)\nnonsense\n-A\n-X C\n*\n:\nCOMMIT")
        let rule = ["-m", "comment", "--comment", #"a "b" \ 'c' ; $(d)"#, "--x", "", "-j", "ACCEPT"]
        #expect(ruleset.rules("filter", "C") == [rule] && ruleset.count == 1)
        let again = IPTablesRuleset(parsing: "*filter\n-A C \(IPTablesRuleset.text(rule))\n")
        #expect(again.rules("filter", "C") == [rule])
    }
}

@Suite("Exposure: flavours and ranges")
struct ExposureRangeTests {
    private func ruleset(_ count: Int, ours: Bool = false) -> IPTablesRuleset {
        let rules = (0..<count).map { "-A INPUT -s 10.0.0.\($0)/32 -j DROP\n" }.joined()
        return IPTablesRuleset(
            parsing: "*filter\n" + rules + "COMMIT\n" + (ours ? "*nat\n:WEAVE - [0:0]\nCOMMIT\n" : ""))
    }

    @Test("The flavour with our rules is chosen, else the fullest, else the standard one; strays are told of")
    func flavours() {
        typealias Shown = [(flavour: IPTablesFlavour, rules: IPTablesRuleset)]
        func choose(_ shown: Shown) -> String {
            let (flavour, warnings) = IPTablesFlavour.choose(shown)
            return "\(flavour) \(warnings.count)"
        }
        #expect(choose([]) == "iptables 0")
        #expect(choose([(.standard, ruleset(0)), (.legacy, ruleset(0)), (.nft, ruleset(0))]) == "iptables 0")
        #expect(choose([(.standard, ruleset(1)), (.legacy, ruleset(9)), (.nft, ruleset(1))]) == "iptables-legacy 0")
        #expect(choose([(.standard, ruleset(9)), (.legacy, ruleset(0, ours: true))]) == "iptables-legacy 0")
        #expect(choose([(.standard, ruleset(1, ours: true)), (.nft, ruleset(1, ours: true))]) == "iptables 0")
        #expect(choose([(.standard, ruleset(1, ours: true)), (.legacy, ruleset(2, ours: true))]) == "iptables 1")
    }

    @Test("Merged ranges hold exactly the same addresses in as few ranges as can be")
    func merging() {
        func merged(_ texts: String...) -> [String] {
            IPv4CIDR.merged(texts.compactMap { IPv4CIDR($0) }).map(\.description)
        }
        #expect(merged() == [])
        #expect(merged("10.0.1.0/24", "10.0.0.0/24") == ["10.0.0.0/23"])
        #expect(merged("10.0.1.0/24", "10.0.2.0/24") == ["10.0.1.0/24", "10.0.2.0/24"])
        #expect(merged("10.0.0.0/8", "10.3.0.0/16", "10.255.0.0/16") == ["10.0.0.0/8"])
        #expect(merged("0.0.0.0/1", "128.0.0.0/1") == ["0.0.0.0/0"])
        #expect(merged("255.255.255.255/32", "255.255.255.254/32") == ["255.255.255.254/31"])
        for seed in UInt64(1)...100 {
            var random = SeededGenerator(seed: seed)
            let ranges = (0..<6).compactMap { _ in
                IPv4CIDR(
                    IPv4Address(rawValue: 0x0a00_0000 + UInt32.random(in: 0...255, using: &random)),
                    prefixLength: Int.random(in: 26...32, using: &random))
            }
            let merged = IPv4CIDR.merged(ranges)
            for low in UInt32(0)...255 {
                let address = IPv4Address(rawValue: 0x0a00_0000 + low)
                let isIn = ranges.contains { $0.contains(address) }
                #expect(merged.filter { $0.contains(address) }.count == (isIn ? 1 : 0), "seed \(seed)")
            }
        }
    }

    @Test("The set is made when absent, gets what is new before it loses what is old, and is left alone when right")
    func set() {
        func script(_ present: [String]?, _ wanted: [String]) -> String {
            LocalRangeSet.script(
                from: present?.compactMap { IPv4CIDR($0) }, to: wanted.compactMap { IPv4CIDR($0) })
        }
        #expect(script(nil, []) == "create weaver-no-masq-local hash:net\n")
        #expect(
            script(["10.0.0.0/24"], ["10.0.0.0/24", "10.0.1.0/24"])
                == "add weaver-no-masq-local 10.0.0.0/23 -exist\ndel weaver-no-masq-local 10.0.0.0/24 -exist\n")
        #expect(script(["10.0.0.0/23"], ["10.0.0.0/24", "10.0.1.0/24"]) == "")
        let shown =
            "create weaver-no-masq-local hash:net family inet\nadd weaver-no-masq-local 10.0.0.0/23 comment \"\"\n"
            + "add weaver-no-masq-local 10.9.9.9\nadd other 10.1.0.0/16\n"
        #expect(LocalRangeSet.entries(shown).map(\.description) == ["10.0.0.0/23", "10.9.9.9/32"])
    }
}
