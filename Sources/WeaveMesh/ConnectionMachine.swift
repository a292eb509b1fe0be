public import WeaveCore
public import WeaveCrypto
internal import WeaveGob

/// One TCP connection of the mesh: handshake, framing, sealing, heartbeats and deadlines (mesh.md 2, 3.1, 8.1).
///
///     header ──► flag ──► publicKey ──► features ──► introduced ──► open ──► closed
///        │         └── no password ────────▲             │
///        └──► features of version 1 ─────────────────────▲
///
/// An instance: bytes and time come in, directives come out. `introduced` lasts until `onAccepted`: what arrives
/// meanwhile is kept, up to a limit, and not looked at.
public struct ConnectionMachine: Sendable {
    enum State: Sendable, Equatable {
        case header, flag, publicKey, features, version1Features, introduced, open, closed
    }

    /// Its features are gone once they have been sent.
    var configuration: ConnectionConfiguration
    /// Whether this side dialled.
    public let outbound: Bool
    /// `local->remote`, for messages.
    let path: String
    let connectionIDHalf: UInt64
    /// Gone once the key is agreed on.
    var keyPair: KeyPair?

    var state = State.header
    var buffer = ReceiveBuffer()
    /// Reads the stream of protocol version 1, in which all messages of a direction are one gob stream.
    var version1Decoder: GobDecoder?
    var version1Encoder: GobEncoder?
    /// Whether the stream of version 1 is between two values.
    var version1IsWhole = true
    var sealer: StreamSealer?
    var opener: StreamOpener?
    package internal(set) var version = 0
    package internal(set) var remoteFeatures: [String: String] = [:]
    package internal(set) var sessionKey: SessionKey?

    var readDeadline: MonotonicTime?
    var heartbeatDue: MonotonicTime?
    var writeDeadline: MonotonicTime?
    private var readingIsPaused = false
    private var complaints = 0

    /// - Parameters:
    ///   - path: the two addresses as `local->remote`, for messages.
    ///   - connectionIDHalf: what the features say under `ConnID`.
    ///   - keyPair: fresh for this connection; not needed without a password.
    public init(
        configuration: ConnectionConfiguration, outbound: Bool, path: String, connectionIDHalf: UInt64,
        keyPair: KeyPair?, now: MonotonicTime
    ) {
        self.configuration = configuration
        self.outbound = outbound
        self.path = path
        self.connectionIDHalf = connectionIDHalf
        self.keyPair = keyPair
        readDeadline = now + limits.headerTimeout
    }

    /// The first directives, to be carried out before anything else.
    public func start() -> [ConnectionDirective] { [.write(ourHeader.bytes)] }

    var limits: ConnectionLimits { configuration.limits }

    /// Whether more bytes from the remote are welcome. While it is false the shell should not read.
    public var wantsInput: Bool {
        switch state {
        case .introduced, .closed: false
        default: true
        }
    }

    /// Whether the handshake is still under way.
    public var isHandshaking: Bool {
        switch state {
        case .introduced, .open, .closed: false
        default: true
        }
    }

    /// How far the remote has come: one step more with its header, its flag, its key and its features. It never comes
    /// back down while the connection lives.
    var handshakeSteps: Int {
        switch state {
        case .header, .closed: 0
        case .flag, .version1Features: 1
        case .publicKey: 2
        case .features: 3
        case .introduced, .open: 4
        }
    }

    public var isClosed: Bool { state == .closed }

    /// When `onTimer` is to be called next; nil when nothing is waited for.
    public var nextDeadline: MonotonicTime? {
        var next = readDeadline
        for deadline in [heartbeatDue, writeDeadline] {
            if let deadline, deadline < next ?? .distantFuture { next = deadline }
        }
        return next
    }

    // MARK: Events

    /// Bytes arrived, as many or few as it happened.
    public mutating func onBytes(_ bytes: some Collection<UInt8>, now: MonotonicTime) -> [ConnectionDirective] {
        guard state != .closed else { return [] }
        var directives: [ConnectionDirective] = []
        do throws(ConnectionFailure) {
            if version1Decoder != nil { version1Decoder?.append(bytes) } else { buffer.append(bytes) }
            try advance(now, &directives)
            try checkEarlyBytes()
        } catch {
            fail(error, &directives)
        }
        buffer.compact()
        return directives
    }

    /// The remote closed its side.
    public mutating func onEnd(now: MonotonicTime) -> [ConnectionDirective] { end(endFailure) }

    /// Reading failed. `cause` is the system's text, such as `connection reset by peer`.
    public mutating func onReadFailure(_ cause: String, now: MonotonicTime) -> [ConnectionDirective] {
        end(inHandshakeWords(ConnectionFailure(.inputOutput, "read tcp \(path): read: \(cause)")))
    }

    /// Writing failed. `cause` is the system's text, such as `broken pipe`.
    public mutating func onWriteFailure(_ cause: String, now: MonotonicTime) -> [ConnectionDirective] {
        end(ConnectionFailure(.inputOutput, "write tcp \(path): write: \(cause)"))
    }

    /// The connection is kept: heartbeats begin, and what arrived early is processed.
    public mutating func onAccepted(now: MonotonicTime) -> [ConnectionDirective] {
        guard state == .introduced else { return [] }
        state = .open
        remoteFeatures = [:]
        readDeadline = now + limits.readTimeout
        heartbeatDue = now + limits.heartbeatInterval
        return onBytes([], now: now)
    }

    /// Bytes are on their way to the remote and the socket has not taken them: the remote has a while to make room.
    /// `isWaiting` is whether any bytes wait after the progress being reported.
    public mutating func onWriteProgress(isWaiting: Bool, now: MonotonicTime) {
        writeDeadline = isWaiting && state != .closed ? now + limits.writeTimeout : nil
    }

    /// Bytes were handed to the socket. Unlike progress, this does not give the remote more time.
    public mutating func onWriteQueued(now: MonotonicTime) {
        if writeDeadline == nil, state != .closed { writeDeadline = now + limits.writeTimeout }
    }

    /// This side stopped reading, because it is busy: the silence is not the remote's.
    public mutating func onReadingPaused() { readingIsPaused = true }

    /// The socket is read again after a pause: silence is counted from now.
    public mutating func onReadingResumed(now: MonotonicTime) {
        guard readingIsPaused else { return }
        readingIsPaused = false
        if state == .open { readDeadline = now + limits.readTimeout }
    }

    /// Does what is due.
    ///
    /// - Parameter heartbeatsAhead: how much too early a heartbeat may be. A process with many connections wakes up
    ///   once for all their heartbeats then, for they stay together.
    public mutating func onTimer(
        now: MonotonicTime, heartbeatsAhead: Duration = .zero
    ) -> [ConnectionDirective] {
        guard state != .closed else { return [] }
        if let due = writeDeadline, due <= now {
            return end(ConnectionFailure(.timeout, "write tcp \(path): i/o timeout"))
        }
        if let due = readDeadline, due <= now {
            guard readingIsPaused, state == .open else {
                return end(inHandshakeWords(ConnectionFailure(.timeout, "read tcp \(path): i/o timeout")))
            }
            readDeadline = now + limits.readTimeout
        }
        guard let due = heartbeatDue, due <= now + heartbeatsAhead else { return [] }
        heartbeatDue = now + limits.heartbeatInterval
        // What waits already tells the remote that this side lives; more would only lengthen the queue.
        guard writeDeadline == nil else { return [] }
        do throws(ConnectionFailure) {
            return [.write(try encode(.heartbeat, []))]
        } catch {
            return end(error)
        }
    }

    /// A message as bytes to write. Messages must be written in the order in which they were encoded.
    ///
    /// - Throws: when the message is larger than the protocol allows; the connection is still good then. Or when the
    ///   numbers of the key are used up, and with them the connection.
    public mutating func encode(_ tag: MessageTag, _ payload: [UInt8]) throws(ConnectionFailure) -> [UInt8] {
        var plaintext: [UInt8] = []
        plaintext.reserveCapacity(payload.count + 1)
        plaintext.append(tag.rawValue)
        plaintext.append(contentsOf: payload)
        return try encode(plaintext)
    }

    // MARK: Ends

    mutating func end(_ failure: ConnectionFailure) -> [ConnectionDirective] {
        guard state != .closed else { return [] }
        var directives: [ConnectionDirective] = []
        fail(failure, &directives)
        return directives
    }

    private mutating func fail(_ failure: ConnectionFailure, _ directives: inout [ConnectionDirective]) {
        state = .closed
        buffer = ReceiveBuffer()
        version1Decoder = nil
        readDeadline = nil
        heartbeatDue = nil
        writeDeadline = nil
        directives.append(.close(failure))
    }

    /// What the end of the stream means at this point.
    private var endFailure: ConnectionFailure {
        let isBetween: Bool
        switch state {
        case .header: return HandshakeHeader.incomplete(buffer.unread, cause: buffer.count == 0 ? .end : .unexpectedEnd)
        case .features, .open:
            if let decoder = version1Decoder {
                isBetween = decoder.bufferedBytes == 0 && version1IsWhole
            } else {
                // A body of which nothing has come yet counts as not begun.
                isBetween = buffer.count == 0 || buffer.count == Framing.prefixBytes
            }
        case .version1Features: isBetween = version1Decoder?.bufferedBytes == 0 && version1IsWhole
        default: isBetween = buffer.count == 0
        }
        return isBetween ? .end : .unexpectedEnd
    }

    private func inHandshakeWords(_ failure: ConnectionFailure) -> ConnectionFailure {
        state == .header ? HandshakeHeader.incomplete(buffer.unread, cause: failure) : failure
    }

    mutating func complain(_ text: String, _ directives: inout [ConnectionDirective]) {
        complaints += 1
        if complaints <= limits.complaints { directives.append(.log(text)) }
    }

    var role: TrafficRole { outbound ? .dialler : .acceptor }

    var ourHeader: HandshakeHeader {
        HandshakeHeader(minimumVersion: configuration.minimumVersion, maximumVersion: configuration.maximumVersion)
    }
}
