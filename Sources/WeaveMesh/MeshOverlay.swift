public import WeaveCore
public import WeaveCrypto

/// The handle of one TCP connection of one router, unique for the life of the process.
public struct ConnectionID: Hashable, Sendable, Comparable, CustomStringConvertible {
    public let rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }

    public static func < (left: ConnectionID, right: ConnectionID) -> Bool { left.rawValue < right.rawValue }

    public var description: String { "connection \(rawValue)" }
}

/// What an overlay must know about a mesh connection to carry frames beside it.
public struct OverlayConnection: Sendable {
    public var id: ConnectionID
    public var remoteName: PeerName
    public var remoteNickname: String
    /// The addresses of the TCP connection.
    public var localAddress: Endpoint
    public var remoteAddress: Endpoint
    /// Whether this side dialled.
    public var outbound: Bool
    /// The same number at both ends: the cookie of the overlay's heartbeats.
    public var uid: UInt64
    /// Seals frames; nil without a password or when both ends trust the path.
    public var sessionKey: SessionKey?
    /// The features the remote announced, unknown ones included.
    public var remoteFeatures: [String: String]

    public init(
        id: ConnectionID, remoteName: PeerName, remoteNickname: String, localAddress: Endpoint,
        remoteAddress: Endpoint, outbound: Bool, uid: UInt64, sessionKey: SessionKey?,
        remoteFeatures: [String: String]
    ) {
        self.id = id
        self.remoteName = remoteName
        self.remoteNickname = remoteNickname
        self.localAddress = localAddress
        self.remoteAddress = remoteAddress
        self.outbound = outbound
        self.uid = uid
        self.sessionKey = sessionKey
        self.remoteFeatures = remoteFeatures
    }
}

/// What an overlay reports about one connection.
public struct OverlayAttributes: Sendable, Equatable {
    /// `sleeve`, `fastdp`.
    public var name: String
    /// The largest overlay IP packet, nil when unknown.
    public var mtu: Int?
    public var encrypted: Bool

    public init(name: String, mtu: Int?, encrypted: Bool) {
        self.name = name
        self.mtu = mtu
        self.encrypted = encrypted
    }
}

/// Carries frames between peers beside the mesh's TCP connections. A mesh without an overlay carries gossip only.
///
/// For each connection: `prepare`, then `confirm` once the connection is kept, then control messages in order, then
/// `stop`. The overlay answers through the `OverlayEvents` it was given.
public protocol MeshOverlay: Sendable {
    /// Features to announce in the handshake, such as `Overlays`.
    var features: [String: String] { get }

    /// A connection passed its handshake. Throwing refuses it; the text of the error is the reason shown.
    func prepare(_ connection: OverlayConnection, events: any OverlayEvents) async throws

    /// The connection is kept: start heartbeats.
    func confirm(_ id: ConnectionID) async

    /// A control message arrived: `tag` is 1, 2, 3 (sleeve without overlay switch) or 7.
    func onControl(_ id: ConnectionID, tag: UInt8, payload: [UInt8]) async

    /// The connection has ended.
    func stop(_ id: ConnectionID) async

    /// Routes changed.
    func onRoutes(_ routes: MeshRoutes) async

    /// A peer is gone from the topology: forget what was learned about it.
    func onPeerRemoved(_ peer: PeerName) async
}

/// What an overlay tells the mesh. Calls never block.
public protocol OverlayEvents: Sendable {
    /// Frames flow: our heartbeat arrived at the other end.
    func established(_ id: ConnectionID)

    /// No way to carry frames is left; the connection ends with `reason`.
    func failed(_ id: ConnectionID, reason: String)

    /// Sends a control message on the TCP connection.
    func sendControl(_ id: ConnectionID, tag: UInt8, payload: [UInt8])

    /// Name, MTU or encryption changed.
    func attributes(_ id: ConnectionID, _ attributes: OverlayAttributes)
}
