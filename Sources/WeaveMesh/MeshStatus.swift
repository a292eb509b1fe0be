public import WeaveCore

/// What a router knows about itself, its peers and its connections at one moment.
public struct MeshStatus: Sendable {
    public var name: PeerName
    public var nickname: String
    /// The TCP port listened on.
    public var port: UInt16
    public var minimumProtocolVersion: Int
    public var maximumProtocolVersion: Int
    /// Whether a password is set.
    public var encryption: Bool
    public var peerDiscovery: Bool
    /// Every known peer, ourself included, in the order of names.
    public var peers: [Peer]
    /// Routes over connections established at both ends, in the order of destinations; ourself has `via` unknown.
    public var unicastRoutes: [UnicastRoute]
    /// Routes over connections established at both ends, in the order of sources.
    public var broadcastRoutes: [BroadcastRoute]
    /// Live connections, then targets that are not connected.
    public var connections: [Connection]
    /// How many connections have ended, failed handshakes included.
    public var terminationCount: Int
    /// Direct peers as the operator wrote them.
    public var targets: [String]
    public var trustedSubnets: [IPv4CIDR]

    /// A peer as the topology has it.
    public struct Peer: Sendable {
        public var name: PeerName
        public var nickname: String
        public var uid: UInt64
        public var shortID: ShortID?
        public var version: UInt64
        public var connections: [PeerConnection]

        public init(
            name: PeerName, nickname: String, uid: UInt64, shortID: ShortID?, version: UInt64,
            connections: [PeerConnection]
        ) {
            self.name = name
            self.nickname = nickname
            self.uid = uid
            self.shortID = shortID
            self.version = version
            self.connections = connections
        }
    }

    /// A connection as its owner reports it to everybody.
    public struct PeerConnection: Sendable {
        public var name: PeerName
        public var nickname: String
        public var address: String
        public var outbound: Bool
        public var established: Bool

        public init(name: PeerName, nickname: String, address: String, outbound: Bool, established: Bool) {
            self.name = name
            self.nickname = nickname
            self.address = address
            self.outbound = outbound
            self.established = established
        }
    }

    /// The next hop towards a peer.
    public struct UnicastRoute: Sendable {
        public var destination: PeerName
        public var via: PeerName

        public init(destination: PeerName, via: PeerName) {
            self.destination = destination
            self.via = via
        }
    }

    /// Where a broadcast of a peer goes on from here.
    public struct BroadcastRoute: Sendable {
        public var source: PeerName
        public var via: [PeerName]

        public init(source: PeerName, via: [PeerName]) {
            self.source = source
            self.via = via
        }
    }

    /// The states of `weave status connections`.
    public enum ConnectionState: String, Sendable, CaseIterable {
        case established, pending, retrying, failed, connecting, waiting
    }

    /// A live connection or a target of this router.
    public struct Connection: Sendable {
        public var address: String
        public var outbound: Bool
        public var state: ConnectionState
        /// The remote peer of a live connection.
        public var peer: PeerName?
        public var nickname: String?
        /// What the overlay says of a live connection; nil for targets.
        public var overlay: OverlayAttributes?
        /// Why the last attempt failed, for targets.
        public var lastError: String?
        /// How long until the next attempt; nil for "never" and for states without a retry.
        public var retryIn: Duration?
        /// True when no further attempt will be made until the target is given again.
        public var neverRetry: Bool

        public init(
            address: String, outbound: Bool, state: ConnectionState, peer: PeerName? = nil, nickname: String? = nil,
            overlay: OverlayAttributes? = nil, lastError: String? = nil, retryIn: Duration? = nil,
            neverRetry: Bool = false
        ) {
            self.address = address
            self.outbound = outbound
            self.state = state
            self.peer = peer
            self.nickname = nickname
            self.overlay = overlay
            self.lastError = lastError
            self.retryIn = retryIn
            self.neverRetry = neverRetry
        }
    }

    public init(
        name: PeerName, nickname: String, port: UInt16, minimumProtocolVersion: Int, maximumProtocolVersion: Int,
        encryption: Bool, peerDiscovery: Bool, peers: [Peer], unicastRoutes: [UnicastRoute],
        broadcastRoutes: [BroadcastRoute], connections: [Connection], terminationCount: Int, targets: [String],
        trustedSubnets: [IPv4CIDR]
    ) {
        self.name = name
        self.nickname = nickname
        self.port = port
        self.minimumProtocolVersion = minimumProtocolVersion
        self.maximumProtocolVersion = maximumProtocolVersion
        self.encryption = encryption
        self.peerDiscovery = peerDiscovery
        self.peers = peers
        self.unicastRoutes = unicastRoutes
        self.broadcastRoutes = broadcastRoutes
        self.connections = connections
        self.terminationCount = terminationCount
        self.targets = targets
        self.trustedSubnets = trustedSubnets
    }
}
