public import WeaveCore

/// What the core of a mesh asks its shell to do. Directives are carried out in the order in which they were returned.
public enum MeshDirective: Sendable {
    /// Find the addresses of `host` and the number of `service` (a name or a number, empty for none); answer with
    /// `MeshCore.onResolved` or `onResolveFailed`.
    case resolve(target: String, host: String, service: String)
    /// Connect and shake hands; answer with `onConnectionReady`, `onDialFailed` or `onHandshakeFailed`.
    /// `acceptAnyName` is false for addresses that were found in the topology.
    case dial(ConnectionID, Endpoint, acceptAnyName: Bool)
    /// The connection is kept: confirm the overlay, start heartbeats and hand over the messages that wait.
    case accepted(ConnectionID)
    /// End the connection. The core has forgotten it already; nothing more is expected about it.
    case close(ConnectionID, reason: String)
    /// `MeshCore.nextMessage(for:)` has something for this connection. Not repeated until it has returned nil.
    case wake(ConnectionID)
    /// Give a message to the handler of its channel; answer with `onHandlerResult` or `onHandlerError`.
    case deliver(MeshDelivery)
    /// Ask the handler of a channel for its complete state; answer with `onState`.
    case requestState(MeshStateRequest)
    /// A control message for the overlay arrived; `tag` is 1, 2, 3 or 7.
    case overlayControl(ConnectionID, tag: UInt8, payload: [UInt8])
    /// Routes over established connections, or the set of known peers, changed.
    case routesChanged(MeshRoutes)
    /// A peer left the topology.
    case peerRemoved(PeerName)
    /// A short id means another peer than before.
    case shortIDsInvalidated
    /// A line for the log.
    case log(MeshLogLevel, String)
}

/// How much a log line matters.
public enum MeshLogLevel: Sendable, Hashable { case debug, info, warning }

/// A message to be sent on a connection: the tag and what follows it in the frame.
public struct MeshMessage: Sendable, Equatable {
    public var tag: MessageTag
    public var payload: [UInt8]

    public init(tag: MessageTag, payload: [UInt8]) {
        self.tag = tag
        self.payload = payload
    }
}

/// A message for the handler of a channel.
public struct MeshDelivery: Sendable, Equatable {
    /// How the message travelled.
    public enum Kind: Sendable, Equatable { case unicast, broadcast, gossip }

    public var channel: String
    public var kind: Kind
    /// Unicast and broadcast: where it began. Gossip: the neighbour.
    public var source: PeerName
    public var payload: [UInt8]
    /// The connection on which it arrived. The calls for one connection are made one after the other.
    public var connection: ConnectionID
    /// The peer at the other end of that connection.
    public var neighbour: PeerName
    /// False for a broadcast that went in a circle: its handler hears it, others have heard it.
    var mayPassOn = true
}

/// A question for the complete state of a channel.
public struct MeshStateRequest: Sendable, Equatable {
    /// Who is to get the state.
    public enum Destination: Sendable, Equatable {
        /// The periodic exchange.
        case neighbours
        /// Connections to peers that know nothing yet.
        case connections([ConnectionID])
    }

    public var channel: String
    public var destination: Destination
}

/// An operator's target that could not be taken.
public struct MeshTargetError: Error, Sendable, Equatable, CustomStringConvertible {
    /// As given.
    public var target: String
    public var message: String

    public var description: String { message }
}

/// How much was dropped, refused or saved since the start.
public struct MeshStatistics: Sendable, Equatable {
    /// Messages that came and went, heartbeats excepted, and the bytes of their payloads.
    public var receivedMessages = 0
    public var receivedBytes = 0
    public var sentMessages = 0
    public var sentBytes = 0
    /// Topology updates that could not be decoded.
    public var malformedUpdates = 0
    /// Records asked for after a neighbour announced them.
    public var recordsAsked = 0
    /// Summaries of the topology of neighbours that were the same as ours, and that were not.
    public var equalSummaries = 0
    public var differentSummaries = 0
    /// Records and entries of otherwise good updates that were refused: bad names, too many peers.
    public var refusedRecords = 0
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
    /// Full states not sent because the neighbour got the same a short while ago.
    public var suppressedStates = 0
    /// Recalculations of the routes.
    public var routeCalculations = 0
    /// Searches for unreachable peers.
    public var collections = 0
    /// Times a record with our own name and another UID made us raise our version.
    public var ownRecordConflicts = 0
    /// Topology records received that changed something, and all others.
    public var improvedRecords = 0
    public var staleRecords = 0
}
