public import WeaveCore
public import WeaveNetlink

/// Joins the host to the overlay: addresses on the bridge, and the firewall rules by which host, containers and the world
/// outside reach each other. Works on the network namespace of the calling thread, and blocks: for some ten milliseconds,
/// a second on hosts with very many rules, at most some twenty seconds while others keep the lock of the tables.
///
/// Every operation looks first, changes what is not as it should be, and looks again; doing it twice is doing it once. Rules
/// have the names and words of 2.8.1, whose rules are taken over. Rules of others are neither moved nor removed.
///
/// The calls of one host come one at a time. `NetlinkError` has code `notFound` without the bridge, `invalid` for addresses
/// that cannot be, `unsupported` without iptables, `busy` when others kept the lock of the tables or undo what was done.
public struct HostExposure: Sendable {
    public let options: HostExposureOptions
    public let flavour: IPTablesFlavour
    let iptables: IPTables
    let sysctl: Sysctl

    /// How many addresses a host may have in the overlay.
    public static let addressLimit = 256

    /// - Parameters:
    ///   - flavour: what `IPTablesFlavour.detect` found.
    ///   - procRoot: the host's `/proc`.
    public init(
        _ options: HostExposureOptions = HostExposureOptions(), flavour: IPTablesFlavour = .standard,
        procRoot: String = "/proc"
    ) {
        self.options = options
        self.flavour = flavour
        iptables = IPTables(flavour)
        sysctl = Sysctl(root: procRoot + "/sys")
    }

    /// Puts in the rules that a host has whether anything is exposed or not, and keeps those of what is. For the start; the
    /// bridge need not be there yet.
    ///
    /// - Returns: warnings.
    public func ensureBaseRules() throws(NetlinkError) -> [String] {
        let addresses = try exposed()
        _ = try iptables.apply { present in
            ExposurePlan(ExposureRules(options, shownBy: present, addresses: addresses), from: present)
        }
        return forwardingWarnings(isNeeded: !addresses.isEmpty)
    }

    /// Gives the host addresses in the overlay: rules first, then the addresses, then their announcement.
    ///
    /// - Parameter masquerade: whether the addresses' subnets take the host's address towards the world outside. For
    ///   subnets that are exposed already the last word counts.
    /// - Throws: `NetlinkError`; addresses that were not there before are taken away again.
    @discardableResult
    public func expose(_ addresses: [IPv4CIDR], masquerade: Bool = true) throws(NetlinkError) -> ExposureReport {
        try check(addresses)
        let bridge = try BridgeAddresses(options.bridge)
        let before = try bridge.list().compactMap(\.v4)
        guard Set(before + addresses).count <= Self.addressLimit else { throw tooMany() }
        var report = ExposureReport()
        report.repairs += try iptables.apply { present in
            var rules = ExposureRules(options, shownBy: present, addresses: before)
            rules.exposures.expose(addresses, masquerade: masquerade)
            return ExposurePlan(rules, from: present)
        }
        do {
            report.repairs += try add(addresses, to: bridge)
        } catch {
            _ = try? hide(addresses.filter { !before.contains($0) })
            throw error
        }
        report.warnings = forwardingWarnings(isNeeded: !addresses.isEmpty || !before.isEmpty)
        return report
    }

    /// Takes addresses of the host in the overlay away, with the rules that no other address needs.
    ///
    /// - Returns: those that were there.
    @discardableResult
    public func hide(_ addresses: [IPv4CIDR]) throws(NetlinkError) -> [IPv4CIDR] {
        let bridge = try BridgeAddresses(options.bridge)
        var removed: [IPv4CIDR] = []
        for address in addresses where try bridge.remove(IPPrefix(address), sysctl) { removed.append(address) }
        let left = try bridge.list().compactMap(\.v4)
        _ = try iptables.apply { present in
            ExposurePlan(ExposureRules(options, shownBy: present, addresses: left), from: present)
        }
        return removed
    }

    /// The IPv4 addresses of the host in the overlay; none without the bridge.
    public func exposed() throws(NetlinkError) -> [IPv4CIDR] {
        guard try RouteNetlink().link(named: options.bridge) != nil else { return [] }
        return try BridgeAddresses(options.bridge).list().compactMap(\.v4)
    }

    /// What is exposed and how, as addresses and rules show it: what to go on from when nothing was written down, such as
    /// after 2.8.1. Where rules were flushed everything counts as masqueraded; only what was written down knows better.
    public func current() throws(NetlinkError) -> ExposureState {
        let shown = ExposureRules(options, shownBy: try iptables.rules(), addresses: try exposed())
        let ranges: [IPv4CIDR]? =
            switch shown.local {
            case .off: nil
            case .set: LocalRangeSet.current() ?? []
            case .ranges(let ranges): ranges
            }
        return ExposureState(shown.exposures, localRanges: ranges)
    }

    /// Says which ranges' containers run on this host: what is sent to them keeps its source, so that they see their true
    /// clients. Nil for none. Ranges go into the set `weaver-no-masq-local`, or where a host has no ipset into rules.
    public func setLocalRanges(_ ranges: [IPv4CIDR]?) throws(NetlinkError) {
        let addresses = try exposed()
        let (local, _) = try applyLocal(ranges)
        _ = try iptables.apply { present in
            var rules = ExposureRules(options, shownBy: present, addresses: addresses)
            rules.local = local
            return ExposurePlan(rules, from: present)
        }
        if local != .set { LocalRangeSet.remove() }
    }

    /// Compares the host with what is wanted and puts back what is missing: flushed rules, chains, sets, addresses of a
    /// bridge that was made anew. For every few seconds, and for when the bridge was repaired. Addresses that are not
    /// wanted stay, without rules.
    public func audit(_ wanted: ExposureState) throws(NetlinkError) -> ExposureReport {
        let addresses = wanted.exposures.map(\.address)
        try check(addresses)
        guard Set(addresses).count <= Self.addressLimit else { throw tooMany() }
        let (local, repairs) = try applyLocal(wanted.localRanges)
        var report = ExposureReport(repairs: repairs)
        var usesSet = false
        report.repairs += try iptables.apply { present in
            let shown = ExposureRules(options, shownBy: present, addresses: [])
            usesSet = usesSet || shown.local == .set
            var rules = shown
            rules.exposures = wanted.exposures
            rules.local = local
            return ExposurePlan(rules, from: present)
        }
        if usesSet, local != .set { LocalRangeSet.remove() }
        if !addresses.isEmpty {
            let bridge = try BridgeAddresses(options.bridge)
            let present = try bridge.list().compactMap(\.v4)
            report.repairs += try add(addresses.filter { !present.contains($0) }, to: bridge)
        }
        report.warnings += forwardingWarnings(isNeeded: !addresses.isEmpty)
        return report
    }

    /// Removes everything: addresses, rules, chains and sets, those that only 2.8.1 made included.
    public func removeAll() throws(NetlinkError) {
        if try RouteNetlink().link(named: options.bridge) != nil {
            let bridge = try BridgeAddresses(options.bridge)
            for address in try bridge.list() where address.v4 != nil { _ = try bridge.remove(address, sysctl) }
        }
        _ = try iptables.apply { present in
            ExposurePlan(removing: ExposureRules(options, shownBy: present, addresses: []), from: present)
        }
        LocalRangeSet.remove()
    }

    private func add(_ addresses: [IPv4CIDR], to bridge: BridgeAddresses) throws(NetlinkError) -> [String] {
        var repairs: [String] = []
        for address in addresses where try bridge.add(IPPrefix(address)) {
            repairs.append("gave \(address) to \"\(options.bridge)\"")
        }
        return repairs
    }

    private func applyLocal(_ ranges: [IPv4CIDR]?) throws(NetlinkError) -> (
        local: ExposureRules.LocalExclusion, repairs: [String]
    ) {
        guard let ranges else { return (.off, []) }
        guard ranges.count <= LocalRangeSet.limit, !ranges.contains(where: { $0.prefixLength == 0 }) else {
            throw NetlinkError(
                .invalid, "local ranges are at most \(LocalRangeSet.limit), and none is all there is")
        }
        switch LocalRangeSet.apply(ranges) {
        case .success(let hasChanged): return (.set, hasChanged ? ["filled \(ExposureRules.setName)"] : [])
        case .failure: return (.ranges(ranges), [])
        }
    }

    private func check(_ addresses: [IPv4CIDR]) throws(NetlinkError) {
        for address in addresses where address.prefixLength == 0 || address.address == .any {
            throw NetlinkError(
                .invalid, "\(address) cannot be exposed: it takes an address with the length of its subnet's prefix")
        }
    }

    private func tooMany() -> NetlinkError {
        NetlinkError(.invalid, "a host has at most \(Self.addressLimit) addresses in the overlay; hide some first")
    }

    /// The setting by which the host routes IPv4.
    private static let forwarding = SysctlSetting("net/ipv4/ip_forward", "1")

    private func forwardingWarnings(isNeeded: Bool) -> [String] {
        guard isNeeded, sysctl.read(Self.forwarding.path) == "0" else { return [] }
        if options.switchesOnForwarding { return sysctl.apply([Self.forwarding]) }
        return [
            "the host does not forward IPv4, so containers reach it and nothing behind it; "
                + "switch it on with 'sysctl -w net.ipv4.ip_forward=1'"
        ]
    }
}
