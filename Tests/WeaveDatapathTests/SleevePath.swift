import WeaveCore
import WeaveDatapath

/// Two links joined by a path that exists only in this value: time is a number, loss comes from a seed. Control
/// messages go as over TCP, late but in order and never lost.
struct SleevePath {
    struct Conditions {
        var latency: Duration = .milliseconds(20)
        var jitter: Duration = .milliseconds(5)
        /// The share of packets that are lost.
        var loss = 0.0
        /// What the kernel says of its path: packets with DF above it are refused.
        var kernelMTU = 1500
        /// Packets with DF above it vanish and nobody is told.
        var silentMTU = 65_535
        var carriesFragments = true
    }

    struct Node {
        var link: SleeveLink
        /// Where its packets seem to come from.
        var address: Endpoint
        var establishedAt: MonotonicTime?
        var failure: String?
        var logs: [String] = []
        var specialsSent = 0
        var lastControlArrival = MonotonicTime.zero
        /// Each change of the MTU in use.
        var mtus: [(at: MonotonicTime, mtu: Int)] = []
    }

    private enum Event {
        case packet(SpecialFrame, from: Endpoint, to: Int, at: Endpoint)
        case control(SleeveControl, to: Int)
        case refusal(pathMTU: Int, at: Int)
    }

    let encrypted: Bool
    var conditions: Conditions
    var nodes: [Node]
    private(set) var now = MonotonicTime.zero
    private var random: SeededGenerator
    private var events: [(due: MonotonicTime, order: Int, event: Event)] = []
    private var order = 0

    /// The first node dials the second.
    init(seed: UInt64, encrypted: Bool = false, _ conditions: Conditions = Conditions()) {
        self.encrypted = encrypted
        self.conditions = conditions
        random = SeededGenerator(seed: seed)
        let addresses = [
            Endpoint(.v4(IPv4Address(rawValue: 1)), port: 6783), Endpoint(.v4(IPv4Address(rawValue: 2)), port: 6783),
        ]
        nodes = [true, false].map { dials in
            Node(
                link: SleeveLink(
                    uid: 77, outbound: dials, remoteAddress: dials ? addresses[1] : nil, encrypted: encrypted),
                address: addresses[dials ? 0 : 1])
        }
        for index in 0...1 { perform(nodes[index].link.onConfirm(now), index) }
    }

    var parameters: [LinkParameters] { nodes.map(\.link.parameters) }

    /// Lets time pass until `end`.
    mutating func run(until end: MonotonicTime) {
        while true {
            let event = events.indices.min { (events[$0].due, events[$0].order) < (events[$1].due, events[$1].order) }
            let timer = (0...1).min { deadline($0) < deadline($1) } ?? 0
            let eventDue = event.map { events[$0].due } ?? .distantFuture
            guard min(eventDue, deadline(timer)) <= end else { break }
            if let event, eventDue <= deadline(timer) {
                now = max(now, eventDue)
                handle(events.remove(at: event).event)
            } else {
                now = max(now, deadline(timer))
                perform(nodes[timer].link.onTimer(now), timer)
            }
        }
        now = end
    }

    mutating func run(for duration: Duration) { run(until: now + duration) }

    /// A data packet with DF of this size, IP header included, is sent: what the kernel says of it.
    mutating func sendData(_ size: Int, from index: Int) {
        if size > conditions.kernelMTU { schedule(.refusal(pathMTU: conditions.kernelMTU, at: index), after: .zero) }
    }

    private func deadline(_ index: Int) -> MonotonicTime { nodes[index].link.nextDeadline ?? .distantFuture }

    private mutating func schedule(_ event: Event, after delay: Duration) {
        order += 1
        events.append((now + delay, order, event))
    }

    private mutating func handle(_ event: Event) {
        switch event {
        case .packet(let frame, let from, let to, let address):
            // A packet to an address that is no longer its receiver's is lost.
            guard nodes[to].address == address else { return }
            perform(nodes[to].link.onSpecial(frame, from: from, now), to)
        case .control(let message, let to): perform(nodes[to].link.onControl(message, now), to)
        case .refusal(let pathMTU, let index): perform(nodes[index].link.onMessageTooBig(pathMTU: pathMTU, now), index)
        }
    }

    private mutating func perform(_ directives: [SleeveDirective], _ index: Int) {
        for directive in directives {
            switch directive {
            case .send(let frame, let dontFragment): send(frame, dontFragment: dontFragment, from: index)
            case .sendControl(let message):
                let due = max(now + delay(), nodes[1 - index].lastControlArrival)
                nodes[1 - index].lastControlArrival = due
                schedule(.control(message, to: 1 - index), after: due - now)
            case .established: nodes[index].establishedAt = now
            case .failed(let reason): nodes[index].failure = reason
            case .parameters(let parameters):
                if nodes[index].mtus.last?.mtu != parameters.mtu { nodes[index].mtus.append((now, parameters.mtu)) }
            case .log(_, let text): nodes[index].logs.append(text)
            }
        }
    }

    private mutating func send(_ frame: SpecialFrame, dontFragment: Bool, from index: Int) {
        nodes[index].specialsSent += 1
        let size = frame.length - 14 + SleeveLayout.overhead(encrypted: encrypted)
        guard let address = nodes[index].link.parameters.remoteAddress else { return }
        var pieces = 1
        if dontFragment {
            if size > conditions.kernelMTU {
                return schedule(.refusal(pathMTU: conditions.kernelMTU, at: index), after: .zero)
            }
            if size > conditions.silentMTU { return }
        } else {
            pieces = (size + conditions.kernelMTU - 1) / conditions.kernelMTU
            if pieces > 1, !conditions.carriesFragments { return }
        }
        for _ in 0..<pieces where Double.random(in: 0..<1, using: &random) < conditions.loss { return }
        schedule(.packet(frame, from: nodes[index].address, to: 1 - index, at: address), after: delay())
    }

    private mutating func delay() -> Duration {
        conditions.latency + .nanoseconds(Int64.random(in: 0...conditions.jitter.wholeNanoseconds, using: &random))
    }
}
