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
