/// State on its way to other peers: something that knows how to absorb newer state and how to become bytes.
///
/// A mesh may hold data back while a connection is busy and merge what follows into it, so that a slow neighbour
/// costs one message, not many. `encode` runs when the message leaves, so it may read the newest state.
public protocol GossipData: Sendable {
    /// This data and `newer` together. `newer` has the same type; data of the same channel always has.
    func merged(with newer: any GossipData) -> any GossipData

    /// The payloads to send, each a message of its own; usually one.
    func encode() -> [[UInt8]]
}

/// What a subsystem does with the gossip of its channel. The calls for one connection come one after the other, in
/// the order of arrival.
///
/// An error thrown says that the message is bad: it is logged with its text, and the connection to the neighbour that
/// made the message is closed.
public protocol GossipHandler: Sendable {
    /// A message for this peer alone.
    func onUnicast(from source: PeerName, _ payload: [UInt8]) async throws

    /// A message for every peer. The result goes on down the broadcast tree of `origin`; nil stops it here.
    func onBroadcast(from origin: PeerName, _ payload: [UInt8]) async throws -> (any GossipData)?

    /// State of a neighbour. The result is what was news here and goes on to random neighbours; nil if nothing was.
    func onGossip(_ payload: [UInt8]) async throws -> (any GossipData)?

    /// The complete state, for a new neighbour and for the periodic exchange; nil if there is none.
    func completeState() async -> (any GossipData)?
}

/// The sending side of a channel.
public protocol GossipChannel: Sendable {
    /// Sends `payload` to one peer, over as many hops as it takes.
    ///
    /// - Throws: `GossipError` when no route leads there.
    func unicast(to destination: PeerName, _ payload: [UInt8]) async throws

    /// Sends `data` to every peer, along the broadcast tree of this one.
    func broadcast(_ data: any GossipData) async

    /// Sends `data` to a few random neighbours, who pass on what is news to them.
    func gossipToNeighbours(_ data: any GossipData) async
}

/// Why a message could not be sent.
public struct GossipError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kinds of failure.
    public enum Code: Sendable, Equatable { case noRoute, closed, payloadTooLarge, duplicateChannel }

    /// What kind of failure it is.
    public let code: Code
    /// What happened, to whom.
    public let message: String

    /// A failure of a kind, with its text.
    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}

/// Bytes that are complete in themselves: data that is only ever forwarded or sent once.
public struct OpaqueGossip: GossipData {
    /// Each a message of its own, oldest first, without repetitions.
    public private(set) var payloads: [[UInt8]]

    /// Data of one payload.
    public init(_ payload: [UInt8]) { payloads = [payload] }

    /// The payloads of both, older first, each once.
    public func merged(with newer: any GossipData) -> any GossipData {
        guard let newer = newer as? OpaqueGossip else { return newer }
        var both = self
        for payload in newer.payloads where !both.payloads.contains(payload) { both.payloads.append(payload) }
        return both
    }

    /// The payloads.
    public func encode() -> [[UInt8]] { payloads }
}
