import WeaveCore

/// How often what goes wrong, while faults are on.
public struct FaultPlan: Sendable {
    /// The mean time between faults of any kind; nil for none.
    public var interval: Duration?
    /// How likely each kind is, relative to the others.
    public var crash = 1.0
    public var reset = 3.0
    public var partition = 1.0
    /// How long a crashed peer stays away, and how long a partition lasts.
    public var outage: ClosedRange<Duration> = .milliseconds(200)...(.seconds(20))

    public init(interval: Duration?) { self.interval = interval }

    public static let none = FaultPlan(interval: nil)
}

extension MeshSimulation {
    enum Fault {
        case start(Int)
        case crash(Int)
        case reset
        case split
        case heal
        case next
    }

    /// Faults happen from now on, at random.
    public mutating func beginFaults(_ plan: FaultPlan, network: NetworkConditions? = nil) {
        self.plan = plan
        if let network { self.network = network }
        scheduleFault()
    }

    /// No fault happens from now on; partitions heal, crashed peers come back, the network is calm.
    public mutating func endFaults() {
        plan = .none
        network = options.network
        inject(.heal)
        for host in hosts.indices { boot(host) }
    }

    /// Ends a peer at once; its connections are reset.
    public mutating func crash(_ host: Int) {
        inject(.crash(host))
    }

    /// Starts a peer that does not run, as a new incarnation.
    public mutating func restart(_ host: Int) { boot(host) }

    /// Cuts the hosts of `group` off from the others.
    public mutating func isolate(_ group: [Int]) {
        for host in group { partition.assign(host, group: 1) }
        stallIsolated()
    }

    /// Ends all partitions.
    public mutating func heal() { inject(.heal) }

    private mutating func scheduleFault() {
        guard let interval = plan.interval else { return }
        let mean = Double(interval.wholeNanoseconds)
        let wait = Int64(mean * Double.random(in: 0.2..<1.8, using: &generator))
        events.add(.fault(.next), at: now + .nanoseconds(wait))
    }

    mutating func inject(_ fault: Fault) {
        switch fault {
        case .start(let host): boot(host)
        case .crash(let host): stop(host)
        case .reset: resetRandomStream()
        case .split: splitAtRandom()
        case .heal:
            partition.heal()
            releaseStalled()
        case .next:
            guard plan.interval != nil else { return }
            injectRandomFault()
            scheduleFault()
        }
    }

    private mutating func injectRandomFault() {
        var draw = Double.random(in: 0..<(plan.crash + plan.reset + plan.partition), using: &generator)
        let outage = Duration.nanoseconds(
            Int64.random(
                in: plan.outage.lowerBound.wholeNanoseconds...plan.outage.upperBound.wholeNanoseconds,
                using: &generator))
        if draw < plan.crash {
            let host = Int.random(in: hosts.indices, using: &generator)
            inject(.crash(host))
            events.add(.fault(.start(host)), at: now + outage)
            return
        }
        draw -= plan.crash
        if draw < plan.reset { return inject(.reset) }
        inject(.split)
        events.add(.fault(.heal), at: now + outage)
    }

    private mutating func stop(_ host: Int) {
        guard hosts[host].core != nil else { return }
        hosts[host].core = nil
        let sides = hosts[host].sides.values.sorted { $0.stream < $1.stream }
        hosts[host].sides = [:]
        for id in sides {
            guard let stream = streams[id.stream] else { continue }
            streams[id.stream]?.sides[id.end].hasEnded = true
            // A host that loses power sends no reset: the other end finds out by silence.
            let isSilent = chance(0.3, &generator) || partition.separates(stream.sides[0].host, stream.sides[1].host)
            let delay = isSilent ? Self.silenceLimit : network.streamDelay(&generator)
            if stream.sides[1 - id.end].hasEnded {
                streams[id.stream] = nil
            } else {
                events.add(.ended(id.other, reason: isSilent ? "i/o timeout" : "EOF"), at: now + delay)
            }
        }
    }

    private mutating func resetRandomStream() {
        let candidates = streams.keys.sorted()
        guard let id = candidates.randomElement(using: &generator) else { return }
        end(SideID(stream: id, end: 0), reason: "read: connection reset by peer")
    }

    private mutating func splitAtRandom() {
        let share = Double.random(in: 0.1..<0.5, using: &generator)
        for host in hosts.indices { partition.assign(host, group: chance(share, &generator) ? 1 : 0) }
        stallIsolated()
    }

    /// Streams into the other group end by silence when the partition lasts.
    private mutating func stallIsolated() {
        for (id, stream) in streams.sorted(by: { $0.key < $1.key })
        where partition.separates(stream.sides[0].host, stream.sides[1].host) {
            events.add(.silence(stream: id), at: now + Self.silenceLimit)
        }
    }
}
