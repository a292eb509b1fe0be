/// What a router did since its start, in numbers: what came and went, what it cost, what was dropped and why.
///
/// All are plain integers that the core counts up as it goes. `series` gives them the names under which metrics systems
/// know them.
public struct MeshStatistics: Sendable, Equatable {
    /// Messages that arrived and left, heartbeats excepted, and the bytes of their payloads.
    public var received = MeshTraffic()
    public var sent = MeshTraffic()
    /// Bytes read from and taken by the system, handshakes, framing and sealing included.
    public var socketBytesReceived = 0
    public var socketBytesSent = 0
    /// Connections made to us, and attempts of ours; most of either may have come to nothing.
    public var connectionsAccepted = 0
    public var connectionsDialled = 0
    /// Times a connection could not be accepted because the system had no room for it.
    public var acceptsFailed = 0
    /// Attempts that ended before there was a TCP connection.
    public var dialsFailed = 0
    /// Connections that were kept after their handshake.
    public var connectionsKept = 0
    /// Connections that ended, handshakes under way included, by reason.
    public var closes: [MeshCloseReason: Int] = [:]

    /// Messages given to handlers of channels, and how often one refused a message.
    public var deliveries = 0
    public var handlerErrors = 0
    /// Gossip merged into what waited already, instead of making the queue longer.
    public var mergedGossip = 0
    /// Full states not sent because the neighbour got the same a short while ago.
    public var suppressedStates = 0
    /// Lines about messages of peers that were left out of the log because there were too many.
    public var suppressedLines = 0

    /// Messages dropped because the queue of a connection was full.
    public var droppedMessages = 0
    /// Payloads of unknown channels dropped because their budget was used up.
    public var droppedSurrogates = 0
    /// Broadcasts that came round again and were not passed on.
    public var loopedBroadcasts = 0
    /// Unicasts without a way onward.
    public var unroutableUnicasts = 0
    /// Errors of handlers about messages that the neighbour only passed on.
    public var relayedErrors = 0

    /// Topology records received that changed something, and all others.
    public var improvedRecords = 0
    public var staleRecords = 0
    /// Records and entries of otherwise good updates that were refused: bad names, too many peers.
    public var refusedRecords = 0
    /// Records refused or outdone because no honest peer can have made them.
    public var forgedRecords = 0
    /// Topology updates that could not be decoded.
    public var malformedUpdates = 0
    /// Records asked for after a neighbour announced them.
    public var recordsAsked = 0
    /// Summaries of the topology of neighbours that were the same as ours, and that were not.
    public var equalSummaries = 0
    public var differentSummaries = 0
    /// Times a record with our own name and another UID made us raise our version.
    public var ownRecordConflicts = 0
    /// Recalculations of the routes.
    public var routeCalculations = 0
    /// Searches for unreachable peers.
    public var collections = 0

    public init() {}

    mutating func noteClose(_ reason: MeshCloseReason) { closes[reason, default: 0] += 1 }
}

/// Messages of one direction by kind.
public struct MeshTraffic: Sendable, Equatable {
    /// How many, and how many bytes of payload.
    public struct Count: Sendable, Equatable {
        public var messages = 0
        public var bytes = 0

        public init() {}

        mutating func add(_ bytes: Int) {
            messages += 1
            self.bytes += bytes
        }
    }

    public var gossip = Count()
    public var unicasts = Count()
    public var broadcasts = Count()
    /// Control messages of overlays.
    public var control = Count()
    /// Messages with tags that nobody knows.
    public var unknown = Count()

    public init() {}

    /// All kinds together.
    public var total: Count {
        [gossip, unicasts, broadcasts, control, unknown].reduce(into: Count()) { sum, kind in
            sum.messages += kind.messages
            sum.bytes += kind.bytes
        }
    }

    mutating func note(_ tag: MessageTag?, bytes: Int) {
        switch tag {
        case .gossip: gossip.add(bytes)
        case .gossipUnicast: unicasts.add(bytes)
        case .gossipBroadcast: broadcasts.add(bytes)
        case .reserved1, .reserved2, .reserved3, .overlayControl: control.add(bytes)
        case .heartbeat: break
        case nil: unknown.add(bytes)
        }
    }
}

/// Why a connection ended, as counters tell it apart; the log has the words.
public struct MeshCloseReason: Sendable, Hashable, CustomStringConvertible {
    /// Lower case words joined by `_`.
    public let label: String

    public var description: String { label }

    private init(_ label: String) { self.label = label }

    /// The remote closed the connection.
    public static let ended = MeshCloseReason("ended")
    /// Reading or writing failed.
    public static let inputOutput = MeshCloseReason("input_output")
    /// The remote was silent for too long, or stopped reading.
    public static let timeout = MeshCloseReason("timeout")
    /// The two sides do not agree on version, password, features or overlay, or there were too many handshakes.
    public static let refused = MeshCloseReason("refused")
    /// Bytes that the protocol does not allow.
    public static let malformed = MeshCloseReason("malformed")
    /// All numbers of the key were used up.
    public static let exhausted = MeshCloseReason("exhausted")
    /// Ourself, our name, a name that cannot be, or one that was not to be found there.
    public static let identity = MeshCloseReason("identity")
    /// There is another connection to the same peer.
    public static let duplicate = MeshCloseReason("duplicate")
    /// No place for another connection.
    public static let limit = MeshCloseReason("limit")
    /// A place was given to a newcomer.
    public static let room = MeshCloseReason("room")
    /// A message of the neighbour's own making that could not be read, or that a handler refused.
    public static let message = MeshCloseReason("message")
    /// The overlay gave up.
    public static let overlay = MeshCloseReason("overlay")

    /// All there are.
    public static let all = [
        ended, inputOutput, timeout, refused, malformed, exhausted, identity, duplicate, limit, room, message, overlay,
    ]
}

extension MeshCloseReason {
    init(_ code: ConnectionFailure.Code) {
        switch code {
        case .ended: self = .ended
        case .inputOutput: self = .inputOutput
        case .timeout: self = .timeout
        case .refused: self = .refused
        case .malformed, .unsendable: self = .malformed
        case .exhausted: self = .exhausted
        }
    }
}
