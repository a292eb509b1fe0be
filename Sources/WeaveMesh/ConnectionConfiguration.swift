public import WeaveCrypto

/// How long a connection waits and how much it holds. The defaults are those of Weave Net 2.8.1 where it has any.
public struct ConnectionLimits: Sendable {
    /// From the start of the connection to the whole protocol header of the remote.
    public var headerTimeout: Duration = .seconds(10)
    /// From the protocol header to the end of the features, all together, however slowly they trickle in.
    public var handshakeTimeout: Duration = .seconds(60)
    /// Between heartbeats. Peers give up after 60 s of silence, so it must stay well below.
    public var heartbeatInterval: Duration = .seconds(30)
    /// For one message to arrive as a whole, the silence before it included.
    public var readTimeout: Duration = .seconds(60)
    /// For the remote to take some of what waits to be written. A remote that sends but does not read is dropped
    /// after this time.
    public var writeTimeout: Duration = .seconds(60)
    /// The body of one message, seal included: the limit of the protocol.
    public var messageBytes = 10 << 20
    /// What is held for somebody who has not introduced itself yet. A handshake takes a few hundred bytes.
    public var handshakeBytes = 64 << 10
    /// What may have arrived behind the handshake while nobody has said yet whether the connection is kept.
    public var earlyBytes = 1 << 20
    /// How many complaints about odd messages one connection may put into the log.
    public var complaints = 16

    public init() {}
}

/// What one connection needs to know to introduce this peer.
public struct ConnectionConfiguration: Sendable {
    /// The oldest and the newest version of the protocol offered.
    public var minimumVersion: UInt8
    public var maximumVersion: UInt8
    /// Nil means that nothing is encrypted.
    public var password: Password?
    /// What this peer says of itself, in the order in which it is sent.
    public var features: [Feature]
    public var limits: ConnectionLimits

    public init(
        minimumVersion: UInt8 = 1, maximumVersion: UInt8 = 2, password: Password? = nil, features: [Feature],
        limits: ConnectionLimits = ConnectionLimits()
    ) {
        self.minimumVersion = minimumVersion
        self.maximumVersion = maximumVersion
        self.password = password
        self.features = features
        self.limits = limits
    }
}

/// Why a connection ended.
public struct ConnectionFailure: Error, Sendable, Equatable, CustomStringConvertible {
    /// Why a connection failed, for programs.
    public enum Code: Sendable, Equatable {
        /// The remote closed the connection.
        case ended
        /// Reading or writing failed.
        case inputOutput
        /// The remote was silent for too long, or stopped reading.
        case timeout
        /// The two sides do not agree on version, password or features.
        case refused
        /// The remote sent what the protocol does not allow.
        case malformed
        /// This side wanted to send more than a message holds. The connection goes on.
        case unsendable
        /// All numbers of the key are used up.
        case exhausted
    }

    public let code: Code
    /// What happened, in the words of Weave Net 2.8.1.
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}

/// What a connection asks to be done.
public enum ConnectionDirective: Sendable {
    /// Write these bytes, after all earlier ones.
    case write([UInt8])
    /// The handshake is over. Nothing further is read from the remote until `onAccepted`.
    case introduced(RemoteIntroduction)
    /// A message for whoever is above, heartbeats excepted.
    case message(MessageTag, [UInt8])
    /// Something odd that does not end the connection.
    case log(String)
    /// Write what was asked for, then close. Always the last directive of a connection.
    case close(ConnectionFailure)
}
