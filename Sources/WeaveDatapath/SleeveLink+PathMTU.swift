import WeaveCore

/// What a link knows of the largest packet its path takes: the recorded search and what this implementation adds.
///
/// Added, all of it legal to a 2.8.1 peer, which answers any probe at any time: companions of an unanswered candidate;
/// a search below the floor when the floor is not proven; measuring again later, so that the MTU grows with the path
/// and no lost probe is final; answers that come late still count; a look now and then whether packets of the size in
/// use still arrive, because a path may begin to swallow them without a word.
struct PathMTU: Sendable {
    /// How long after a search that found a limit the kernel did not know it is looked for again; doubled each time.
    static let firstRecheck: Duration = .seconds(30)
    /// The longest time between two looks: as long as Linux remembers a path MTU.
    static let growthInterval: Duration = .seconds(600)
    /// How long after a path answered no probe at all the search begins anew.
    static let retryInterval: Duration = .seconds(5)
    /// How long the answer to the discovery probe (the kernel's or the peer's) may take.
    static let discoveryTimeout: Duration = .seconds(2)
    /// So many discovery probes are sent before a path that swallows them is searched.
    static let discoveryAttempts = 3
    /// How often a packet of the size in use is sent to see whether it arrives: as often as heartbeats.
    static let checkInterval: Duration = .seconds(10)
    /// How long its answer may take before it is sent again, together with a small one.
    static let checkTimeout: Duration = .seconds(1)
    /// So often the small one has to be answered and the large one not: then it is the size, and not loss or silence.
    static let checkAttempts = 3
    /// More values than any search sends.
    static let maximumRemembered = 1024

    var search: MTUSearch
    var companions = MTUProbeCompanions()
    /// Values sent since the path was last known to change: only these are believed when answered.
    var probed: Set<Int> = []
    /// The largest value answered since then; 0 for none.
    var proven = 0
    /// What the kernel allows, as an overlay MTU.
    var ceiling = SleeveLayout.initialMTU
    /// A value was found bad since then.
    var hasFailed = false
    /// The search goes on below the value that was assumed to be good.
    var isBelowFloor = false
    /// What is used when no probe at all is answered.
    var fallback = SleeveLayout.initialMTU
    /// The last search ended without an answer.
    var isUnverified = false
    var recheck = PathMTU.firstRecheck
    var discoveriesUnanswered = 0
    /// A check has not been answered yet.
    var isCheckOpen = false
    /// The small companion of the last check was answered.
    var isCheckHeard = false
    var checksFailed = 0
    /// Until when an answer to the discovery probe shows growth.
    var growthUntil: MonotonicTime?

    init(encrypted: Bool) { search = MTUSearch(encrypted: encrypted) }

    /// Never more than is known to be too much.
    var announcedMTU: Int {
        search.isSearching && hasFailed ? min(search.mtu, search.lowestBad - 1) : search.mtu
    }

    var maximumPayload: Int {
        let mtu = announcedMTU
        return mtu == search.mtu
            ? search.maximumPayload : LinkParameters.maximumPayload(mtu: mtu, overhead: search.overhead)
    }

    /// After a failure only what is good by now.
    var fragmentMTU: Int {
        search.isSearching && hasFailed ? min(announcedMTU, search.highestGood) : announcedMTU
    }

    /// Forgets answers: what follows is about a path that may have changed.
    mutating func forget() {
        companions.clear()
        probed = []
        proven = 0
        hasFailed = false
        isBelowFloor = false
        isUnverified = false
    }

    mutating func stop() {
        search.abandon(using: search.mtu)
        forget()
    }
}

extension SleeveLink {
    // MARK: - What the kernel says

    /// Provokes the kernel into saying what the path takes.
    mutating func startDiscovery(_ now: MonotonicTime) {
        path.discoveriesUnanswered = 0
        timers.arm(.discovery, at: now + PathMTU.discoveryTimeout)
        send(.pathMTUDiscovery, dontFragment: true)
    }

    /// Neither the kernel nor the peer answered: the path swallows large packets and nobody says so.
    mutating func onDiscoveryTimeout(_ now: MonotonicTime) {
        path.discoveriesUnanswered += 1
        if path.discoveriesUnanswered < PathMTU.discoveryAttempts {
            timers.arm(.discovery, at: now + PathMTU.discoveryTimeout)
            send(.pathMTUDiscovery, dontFragment: true)
        } else {
            onKernelLimit(pathMTU: min(path.ceiling, SpecialFrame.discoveryMTU) + path.search.overhead, now)
        }
    }

    /// The kernel refused a packet with DF, or no answer to a large one came.
    mutating func onKernelLimit(pathMTU: Int, _ now: MonotonicTime) {
        timers.cancel(.discovery)
        let limit = path.search.limit(forPathMTU: pathMTU)
        if let candidate = path.search.candidate, limit >= candidate {
            path.ceiling = min(path.ceiling, limit)
            return
        }
        // More than was measured: no reason to believe it before a probe of that size arrives.
        if limit > path.search.mtu { return searchForGrowth(limit, now) }
        startSearch(limit, pathMTU: pathMTU, now)
    }

    private mutating func startSearch(_ limit: Int, pathMTU: Int, _ now: MonotonicTime) {
        path.forget()
        path.ceiling = limit
        path.fallback = limit
        path.recheck = PathMTU.firstRecheck
        perform(path.search.onMessageTooBig(pathMTU: pathMTU), now)
    }

    // MARK: - Growth

    /// Asks the kernel again; it has forgotten what it learned, when the path has not told it again. An answer equal
    /// to the MTU in use verifies that once more; without one what the kernel said before is tried.
    mutating func onGrowthDue(_ now: MonotonicTime) {
        timers.arm(.growth, at: now + PathMTU.growthInterval)
        guard !path.search.isSearching else { return }
        if path.isUnverified {
            return startSearch(path.ceiling, pathMTU: path.ceiling + path.search.overhead, now)
        }
        path.growthUntil = now + PathMTU.discoveryTimeout
        path.discoveriesUnanswered = PathMTU.discoveryAttempts - 1
        timers.arm(.discovery, at: now + PathMTU.discoveryTimeout)
        send(.pathMTUDiscovery, dontFragment: true)
    }

    private mutating func searchForGrowth(_ limit: Int, _ now: MonotonicTime) {
        path.forget()
        path.ceiling = limit
        path.fallback = path.search.mtu
        perform(path.search.search(from: path.search.mtu, below: limit + 1, candidate: limit), now)
    }

    // MARK: - Checks

    /// Sees whether packets of the size in use still arrive.
    mutating func onCheckDue(_ now: MonotonicTime) {
        let mtu = path.search.mtu
        guard !path.search.isSearching, path.proven == mtu, mtu > MTUSearch.floor else { return closeCheck(now) }
        timers.arm(.check, at: now + PathMTU.checkTimeout)
        guard path.isCheckOpen else {
            path.isCheckOpen = true
            return sendProbe(mtu)
        }
        if path.isCheckHeard { path.checksFailed += 1 }
        guard path.checksFailed < PathMTU.checkAttempts else {
            closeCheck(now)
            path.forget()
            path.hasFailed = true
            path.fallback = mtu
            let good = MTUSearch.floor
            return perform(path.search.search(from: good, below: mtu, candidate: (good + mtu) / 2), now)
        }
        path.isCheckHeard = false
        sendProbe(mtu)
        sendProbe(MTUProbeCompanions.lowFloor)
    }

    private mutating func closeCheck(_ now: MonotonicTime) {
        path.isCheckOpen = false
        path.isCheckHeard = false
        path.checksFailed = 0
        timers.arm(.check, at: now + PathMTU.checkInterval)
    }

    private mutating func onCheckAnswered(_ value: Int, _ now: MonotonicTime) {
        guard path.isCheckOpen else { return }
        if value == path.search.mtu { closeCheck(now) }
        if value == MTUProbeCompanions.lowFloor { path.isCheckHeard = true }
    }

    // MARK: - Probes

    /// The peer received a probe for `value`.
    mutating func onVerified(_ value: Int, _ now: MonotonicTime) {
        if value == SpecialFrame.discoveryMTU, path.search.candidate != value {
            timers.cancel(.discovery)
            return onDiscoveryAnswered(now)
        }
        guard value > 0, path.probed.contains(value) else { return }
        onCheckAnswered(value, now)
        path.proven = max(path.proven, value)
        path.companions.onVerified(value)
        if value == path.search.candidate { return perform(path.search.onVerified(value), now) }
        if path.search.isSearching {
            let isReprieve = value >= path.search.lowestBad
            perform(
                isReprieve
                    ? path.search.reopen(good: value, ceiling: path.ceiling)
                    : path.search.narrow(good: value, bad: nil), now)
        } else if value > path.search.mtu {
            // An answer that was late: the value had been given up.
            perform(path.search.reopen(good: value, ceiling: path.ceiling), now)
        }
    }

    /// A probe of 60000 bytes arrived: nothing limits this path. Without a limit found before there is nothing to do.
    private mutating func onDiscoveryAnswered(_ now: MonotonicTime) {
        guard let until = path.growthUntil, now < until, !path.search.isSearching else { return }
        path.growthUntil = nil
        path.forget()
        guard path.search.mtu != SleeveLayout.initialMTU else { return }
        path.search.becomeUnlimited()
        log(.info, "Effective MTU verified at \(path.search.mtu)")
    }

    mutating func onProbeTimeout(_ now: MonotonicTime) {
        guard let candidate = path.search.candidate else { return }
        if path.search.testsSent >= MTUProbeCompanions.verdictRound,
            let verdict = path.companions.verdict(candidate: candidate)
        {
            path.hasFailed = true
            return perform(path.search.narrow(good: verdict.good, bad: verdict.bad), now)
        }
        let step = path.search.onTimeout()
        if path.search.candidate != candidate { path.hasFailed = true }
        perform(step, now)
    }

    private mutating func perform(_ step: MTUSearch.Step, _ now: MonotonicTime) {
        switch step {
        case .wait: return
        case .probe(let candidate, let timeout):
            if path.search.testsSent == 1 { path.companions.clear() }
            publish()
            timers.arm(.probe, at: now + timeout)
            sendProbe(candidate)
            sendCompanions(of: candidate)
        case .finished(let mtu):
            timers.cancel(.probe)
            onFinished(mtu, now)
        }
    }

    private mutating func sendCompanions(of candidate: Int) {
        guard path.search.testsSent >= MTUProbeCompanions.firstRound else { return }
        if path.companions.values.isEmpty {
            path.companions.choose(
                candidate: candidate, good: path.search.highestGood, proven: path.proven,
                overhead: path.search.overhead)
        }
        for value in path.companions.values { sendProbe(value) }
    }

    private mutating func sendProbe(_ value: Int) {
        if path.probed.count < PathMTU.maximumRemembered { path.probed.insert(value) }
        send(.probe(mtu: value), dontFragment: true)
    }

    // MARK: - Results

    private mutating func onFinished(_ mtu: Int, _ now: MonotonicTime) {
        path.companions.clear()
        guard mtu <= path.proven else { return onUnproven(mtu, now) }
        path.isBelowFloor = false
        log(.info, "Effective MTU verified at \(mtu)")
        timers.arm(.check, at: now + PathMTU.checkInterval)
        if path.hasFailed {
            timers.arm(.growth, at: now + path.recheck)
            path.recheck = min(path.recheck * 2, PathMTU.growthInterval)
        } else {
            timers.arm(.growth, at: now + PathMTU.growthInterval)
        }
    }

    /// The search ended at a value that was assumed to be good and is not: go lower, once. When nothing at all was
    /// answered, no value is better than another: keep what was used before, and try again.
    private mutating func onUnproven(_ mtu: Int, _ now: MonotonicTime) {
        guard path.isBelowFloor else {
            path.isBelowFloor = true
            path.hasFailed = true
            let bad = min(path.search.lowestBad, mtu)
            let good = max(MTUProbeCompanions.lowFloor, path.proven)
            return perform(path.search.search(from: good, below: bad, candidate: (good + bad) / 2), now)
        }
        log(.warning, "Effective MTU not verified: no probe was answered; trying again")
        path.search.abandon(using: path.proven > 0 ? path.proven : path.fallback)
        path.forget()
        path.isUnverified = true
        timers.arm(.growth, at: now + PathMTU.retryInterval)
    }
}
