public import WeaveCore

/// The sleeve's side of one connection: heartbeats, the peer's UDP address, what the path carries (section 3).
///
///                onConfirm              ConnectionEstablished
///     waiting ──────────────► confirmed ─────────────────────► established
///        │                     │  heartbeat every 500 ms        │  heartbeat every 10 s, fragmentation test every
///        │ onStop              │                                │  5 min, MTU measured
///        ▼                     ▼ no heartbeat for 60 s, or a send error that will not go away
///     stopped ◄────────────── failed ◄──────────────────────────┘
///
/// "Established" means that our packets arrive at the peer; each end finds that out for itself. A value without I/O:
/// the shell passes in what happened and carries out the directives, in order.
public struct SleeveLink: Sendable {
    /// The time between heartbeats until the peer has received one.
    public static let fastHeartbeat: Duration = .milliseconds(500)
    /// The time between heartbeats after that.
    public static let slowHeartbeat: Duration = .seconds(10)
    /// Without a heartbeat for so long the link has failed: six of the slow ones.
    public static let heartbeatTimeout: Duration = .seconds(60)
    /// The time between fragmentation tests.
    public static let fragmentationTestInterval: Duration = .seconds(300)
    /// How long the answer to a fragmentation test may take before it is sent again.
    public static let fragmentationAnswerTimeout: Duration = .seconds(2)
    /// So many unanswered fragmentation tests in a row show that fragments are dropped: a test is 41 fragments, and
    /// the loss of any loses it.
    public static let fragmentationAttempts = 3
    /// Answers to special frames per second: plain packets can be forged, and each answer is a message on the mesh
    /// connection. A search sends fewer.
    public static let maximumAnswersPerSecond = 512
    /// A peer sends `ConnectionEstablished` once; later ones start new measurements at most this often.
    public static let measurementInterval: Duration = .seconds(10)

    enum Timer: Hashable, Sendable {
        case heartbeat, timeout, fragmentationTest, fragmentationAnswer, probe, discovery, growth, check
    }

    private enum Phase: Sendable { case waiting, confirmed, established, ended }

    /// The number by which heartbeats of this connection are known, the same at both ends.
    public let uid: UInt64
    let encrypted: Bool
    private var phase = Phase.waiting
    private(set) public var remoteAddress: Endpoint?
    private var hasAcknowledgedHeartbeat = false
    private var stackFragments = false
    private var fragmentationTestsUnanswered = 0
    private var lastMeasurement: MonotonicTime?
    private var answerWindow = MonotonicTime.zero
    private var answersInWindow = 0
    private var lastSendFailure: Int32?
    var path: PathMTU
    var timers = Scheduler<Timer>()
    private var published: LinkParameters
    var directives: [SleeveDirective] = []

    /// Begins a link for a connection that has passed its handshake.
    ///
    /// - Parameters:
    ///   - uid: The connection uid of the handshake.
    ///   - outbound: Whether this side dialled. The address of a peer that dialled us is learned from its heartbeats.
    ///   - remoteAddress: The remote address of the TCP connection; not used when the peer dialled.
    ///   - encrypted: Whether packets are sealed.
    public init(uid: UInt64, outbound: Bool, remoteAddress: Endpoint?, encrypted: Bool) {
        self.uid = uid
        self.encrypted = encrypted
        self.remoteAddress = outbound ? remoteAddress : nil
        path = PathMTU(encrypted: encrypted)
        published = .initial(remoteAddress: self.remoteAddress, encrypted: encrypted)
    }

    /// When `onTimer` is due; nil when nothing is waited for.
    public var nextDeadline: MonotonicTime? { timers.nextDeadline }

    /// What packet threads use at present.
    public var parameters: LinkParameters { published }

    /// Whether the peer receives our packets.
    public var isEstablished: Bool { phase == .established }

    /// Whether the link has failed or was stopped: nothing will come of it any more.
    public var hasEnded: Bool { phase == .ended }

    // MARK: - Events

    /// The connection is kept: start heartbeats. Later calls do nothing.
    public mutating func onConfirm(_ now: MonotonicTime) -> [SleeveDirective] {
        guard phase == .waiting else { return [] }
        phase = .confirmed
        timers.arm(.timeout, at: now + Self.heartbeatTimeout)
        timers.arm(.heartbeat, at: now + Self.fastHeartbeat)
        directives.append(.parameters(published))
        sendHeartbeat()
        return finish()
    }

    /// A special frame for us arrived from the peer, in a packet from `address`.
    public mutating func onSpecial(
        _ frame: SpecialFrame, from address: Endpoint, _ now: MonotonicTime
    ) -> [SleeveDirective] {
        guard phase != .ended else { return [] }
        switch frame {
        case .heartbeat(let uid): onHeartbeat(uid: uid, from: address, now)
        case .fragmentationTest: answer(.fragmentationReceived, now)
        case .mtuProbe(let length):
            // An answer of zero would start a search from zero in a 2.8.1 peer.
            if let mtu = UInt16(exactly: length - SleeveLayout.ethernetHeaderLength), mtu > 0 {
                answer(.pathMTUVerified(mtu), now)
            }
        }
        return finish()
    }

    /// A control message arrived over the mesh connection.
    public mutating func onControl(_ message: SleeveControl, _ now: MonotonicTime) -> [SleeveDirective] {
        guard phase == .confirmed || phase == .established else { return [] }
        switch message {
        case .connectionEstablished: onConnectionEstablished(now)
        case .fragmentationReceived:
            stackFragments = true
            fragmentationTestsUnanswered = 0
            timers.cancel(.fragmentationAnswer)
        case .pathMTUVerified(let mtu): onVerified(Int(mtu), now)
        }
        return finish()
    }

    /// The deadline has come.
    public mutating func onTimer(_ now: MonotonicTime) -> [SleeveDirective] {
        while phase != .ended, let timer = timers.popDue(now) {
            switch timer {
            case .heartbeat:
                timers.arm(.heartbeat, at: now + (phase == .established ? Self.slowHeartbeat : Self.fastHeartbeat))
                sendHeartbeat()
            case .timeout: fail("timed out waiting for UDP heartbeat")
            case .fragmentationTest:
                timers.arm(.fragmentationTest, at: now + Self.fragmentationTestInterval)
                startFragmentationTest(now)
            case .fragmentationAnswer: onFragmentationTestUnanswered(now)
            case .probe: onProbeTimeout(now)
            case .discovery: onDiscoveryTimeout(now)
            case .growth: onGrowthDue(now)
            case .check: onCheckDue(now)
            }
        }
        return finish()
    }

    /// The kernel refused a packet with DF: the path takes IP packets of at most `pathMTU` bytes.
    public mutating func onMessageTooBig(pathMTU: Int, _ now: MonotonicTime) -> [SleeveDirective] {
        guard phase == .confirmed || phase == .established else { return [] }
        onKernelLimit(pathMTU: pathMTU, now)
        return finish()
    }

    /// The kernel refused a packet for another reason. What may go away is left to the heartbeat timeout.
    public mutating func onSendError(_ failure: SendFailure, _ now: MonotonicTime) -> [SleeveDirective] {
        guard phase != .ended else { return [] }
        if failure.isTransient {
            if lastSendFailure != failure.code { log(.warning, failure.text) }
            lastSendFailure = failure.code
        } else {
            fail(failure.text)
        }
        return finish()
    }

    /// The connection has ended.
    public mutating func onStop() -> [SleeveDirective] {
        end()
        return []
    }

    // MARK: - Heartbeats

    private mutating func onHeartbeat(uid: UInt64, from address: Endpoint, _ now: MonotonicTime) {
        guard uid == self.uid else { return }
        if remoteAddress == nil {
            remoteAddress = address
            if phase != .waiting {
                timers.arm(.heartbeat, at: now + Self.fastHeartbeat)
                publish()
                sendHeartbeat()
            }
        } else if remoteAddress != address {
            log(.info, "Peer UDP address changed to \(address)")
            remoteAddress = address
        }
        if !hasAcknowledgedHeartbeat {
            hasAcknowledgedHeartbeat = true
            directives.append(.sendControl(.connectionEstablished))
        }
        if timers.isArmed(.timeout) { timers.arm(.timeout, at: now + Self.heartbeatTimeout) }
    }

    private mutating func onConnectionEstablished(_ now: MonotonicTime) {
        // The peer cannot have heard us before we knew where to send.
        guard remoteAddress != nil else { return log(.warning, "Peer claims contact before we sent to it; ignored") }
        lastSendFailure = nil
        if phase == .confirmed {
            phase = .established
            timers.arm(.heartbeat, at: now + Self.slowHeartbeat)
            directives.append(.established)
        }
        if let last = lastMeasurement, now - last < Self.measurementInterval { return }
        lastMeasurement = now
        timers.arm(.fragmentationTest, at: now + Self.fragmentationTestInterval)
        startFragmentationTest(now)
        startDiscovery(now)
    }

    private mutating func sendHeartbeat() { send(.heartbeat(uid: uid), dontFragment: true) }

    // MARK: - Fragments

    private mutating func startFragmentationTest(_ now: MonotonicTime) {
        fragmentationTestsUnanswered = 0
        sendFragmentationTest(now)
    }

    private mutating func onFragmentationTestUnanswered(_ now: MonotonicTime) {
        fragmentationTestsUnanswered += 1
        if fragmentationTestsUnanswered < Self.fragmentationAttempts {
            sendFragmentationTest(now)
        } else {
            stackFragments = false
        }
    }

    /// What was found last holds until the test has failed.
    private mutating func sendFragmentationTest(_ now: MonotonicTime) {
        timers.arm(.fragmentationAnswer, at: now + Self.fragmentationAnswerTimeout)
        send(.fragmentationTest, dontFragment: false)
    }

    private mutating func answer(_ message: SleeveControl, _ now: MonotonicTime) {
        if now >= answerWindow {
            answerWindow = now + .seconds(1)
            answersInWindow = 0
        }
        guard answersInWindow < Self.maximumAnswersPerSecond else { return }
        answersInWindow += 1
        directives.append(.sendControl(message))
    }

    // MARK: - Directives

    mutating func send(_ frame: SpecialFrame, dontFragment: Bool) {
        if remoteAddress != nil { directives.append(.send(frame, dontFragment: dontFragment)) }
    }

    mutating func log(_ level: SleeveLogLevel, _ text: String) { directives.append(.log(level, text)) }

    private mutating func fail(_ reason: String) {
        end()
        directives.append(.failed(reason: reason))
    }

    private mutating func end() {
        phase = .ended
        timers.cancelAll { _ in true }
        path.stop()
    }

    /// Tells packet threads when something has changed. Comes before a packet that depends on it is sent.
    mutating func publish() {
        let current = LinkParameters(
            remoteAddress: remoteAddress, mtu: path.announcedMTU, maximumPayload: path.maximumPayload,
            stackFragments: stackFragments, fragmentMTU: path.fragmentMTU, encrypted: encrypted)
        guard current != published else { return }
        published = current
        if phase != .waiting { directives.append(.parameters(current)) }
    }

    private mutating func finish() -> [SleeveDirective] {
        if phase != .ended { publish() }
        let result = directives
        directives = []
        return result
    }
}
