public import WeaveCore
public import WeaveCrypto

/// Who is at the other end of a connection, as its handshake told.
public struct RemoteIntroduction: Sendable {
    public var name: PeerName
    public var nickname: String
    /// The incarnation of the remote peer.
    public var uid: UInt64
    /// The same number at both ends of this connection: the exclusive or of both sides' random halves.
    public var connectionUID: UInt64
    public var shortID: ShortID?
    /// Whether the remote says that the address it sees us at lies in one of its trusted subnets.
    public var trustedByRemote: Bool
    /// Everything the remote announced, keys this library does not know included.
    public var features: [String: String]
    /// The protocol version in use: 1 or 2.
    public var protocolVersion: Int
    /// The key of this connection; nil without a password.
    public var sessionKey: SessionKey?

    public init(
        name: PeerName, nickname: String, uid: UInt64, connectionUID: UInt64, shortID: ShortID? = nil,
        trustedByRemote: Bool = false, features: [String: String] = [:], protocolVersion: Int = 2,
        sessionKey: SessionKey? = nil
    ) {
        self.name = name
        self.nickname = nickname
        self.uid = uid
        self.connectionUID = connectionUID
        self.shortID = shortID
        self.trustedByRemote = trustedByRemote
        self.features = features
        self.protocolVersion = protocolVersion
        self.sessionKey = sessionKey
    }
}

/// The first byte of a protocol message: what the rest is.
public enum MessageTag: UInt8, Sendable, Hashable, CaseIterable {
    case heartbeat = 0
    /// Control messages of a sleeve without an overlay switch.
    case reserved1 = 1
    case reserved2 = 2
    case reserved3 = 3
    case gossip = 4
    case gossipUnicast = 5
    case gossipBroadcast = 6
    /// Control messages of an overlay.
    case overlayControl = 7

    /// Whether the message is for the overlay.
    public var isOverlayControl: Bool {
        switch self {
        case .reserved1, .reserved2, .reserved3, .overlayControl: true
        case .heartbeat, .gossip, .gossipUnicast, .gossipBroadcast: false
        }
    }
}
