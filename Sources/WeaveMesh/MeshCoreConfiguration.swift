public import WeaveCore

/// What a `MeshCore` is told at its start.
public struct MeshCoreConfiguration: Sendable {
    public var name: PeerName
    public var nickname: String
    /// The incarnation: random, never 0, new at each start.
    public var uid: UInt64
    /// The TCP port listened on, and the port of targets given without one.
    public var port: UInt16
    /// Connections at most; 0 for no limit.
    public var connectionLimit: Int
    /// Whether to connect to peers found in the topology.
    public var discovery: Bool
    /// Whether a password is set; only for the status.
    public var encryption: Bool
    public var trustedSubnets: [IPv4CIDR]
    public var minimumProtocolVersion: Int
    public var maximumProtocolVersion: Int
    /// The short id to begin with; nil for a random one.
    public var shortID: ShortID?

    public init(
        name: PeerName, nickname: String, uid: UInt64, port: UInt16 = 6783, connectionLimit: Int = 200,
        discovery: Bool = true, encryption: Bool = false, trustedSubnets: [IPv4CIDR] = [],
        minimumProtocolVersion: Int = 1, maximumProtocolVersion: Int = 2, shortID: ShortID? = nil
    ) {
        self.name = name
        self.nickname = nickname
        self.uid = uid
        self.port = port
        self.connectionLimit = connectionLimit
        self.discovery = discovery
        self.encryption = encryption
        self.trustedSubnets = trustedSubnets
        self.minimumProtocolVersion = minimumProtocolVersion
        self.maximumProtocolVersion = maximumProtocolVersion
        self.shortID = shortID
    }
}
