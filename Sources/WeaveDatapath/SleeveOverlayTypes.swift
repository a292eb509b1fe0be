public import WeaveCore
public import WeaveCrypto

/// What the sleeve must know about a mesh connection to carry frames beside it.
public struct SleeveConnection: Sendable {
    /// The handle of the connection, unique for the life of the process.
    public var id: UInt64
    public var remoteName: PeerName
    public var remoteNickname: String
    /// The addresses of the TCP connection.
    public var localAddress: Endpoint
    public var remoteAddress: Endpoint
    /// Whether this side dialled.
    public var outbound: Bool
    /// The same number at both ends.
    public var uid: UInt64
    /// Seals frames; nil sends them in clear.
    public var sessionKey: SessionKey?
    /// The features that the remote announced.
    public var remoteFeatures: [String: String]

    public init(
        id: UInt64, remoteName: PeerName, remoteNickname: String, localAddress: Endpoint, remoteAddress: Endpoint,
        outbound: Bool, uid: UInt64, sessionKey: SessionKey?, remoteFeatures: [String: String]
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

/// What the overlay reports about one connection.
public struct SleeveAttributes: Sendable, Equatable {
    /// The overlay that carries frames: `sleeve`, or `none`.
    public var name: String
    /// The largest overlay IP packet; 65535 until it is measured.
    public var mtu: Int
    public var encrypted: Bool

    public init(name: String, mtu: Int, encrypted: Bool) {
        self.name = name
        self.mtu = mtu
        self.encrypted = encrypted
    }
}

/// What the overlay tells about its connections. Called on the overlay's control thread; must not block.
public protocol SleeveEvents: Sendable {
    /// Our frames arrive at the other end. Once for a connection.
    func established(_ id: UInt64)
    /// No way to carry frames is left: the connection is to end with this reason.
    func failed(_ id: UInt64, reason: String)
    /// Sends a control message on the mesh connection: a mesh tag (7, or 1 to 3) and its payload.
    func sendControl(_ id: UInt64, tag: UInt8, payload: [UInt8])
    /// What is reported about the connection has changed.
    func attributes(_ id: UInt64, _ attributes: SleeveAttributes)
}

/// How an overlay is set up.
public struct SleeveConfiguration: Sendable {
    /// The device that frames are exchanged with.
    public enum Device: Sendable {
        /// Opened, and made when there is none, in the network namespace of the thread that makes the overlay.
        case name(String)
        /// A TAP device that is open already; the overlay closes it.
        case descriptor(Int32)
    }

    /// What may be left unused although the kernel has it: for tests, and for kernels with faults.
    public struct Offloads: Sendable, Equatable {
        /// Super-frames between the kernel and us (`virtio_net_hdr`).
        public var superFrames = true
        /// Several datagrams in one send (UDP_SEGMENT).
        public var segmentedSends = true
        /// Several datagrams in one receive (UDP_GRO).
        public var mergedReceives = true
        /// The kernel gives all packets of a peer to one thread.
        public var steering = true

        public init() {}
    }

    public var ourself: PeerName
    /// The UDP port, the same as the mesh's TCP port. 0 chooses one, for tests.
    public var port: UInt16
    /// The address to bind to.
    public var host: IPv4Address
    public var device: Device
    /// How many packet threads; more than one makes use of more cores for several peers or flows.
    public var threads: Int
    public var offloads = Offloads()

    /// More threads than this gain nothing on any machine that a sleeve runs on.
    public static let maximumThreads = 16

    public init(
        ourself: PeerName, port: UInt16 = 6783, host: IPv4Address = .any, device: Device, threads: Int = 1
    ) {
        self.ourself = ourself
        self.port = port
        self.host = host
        self.device = device
        self.threads = threads
    }
}

/// What one link has carried, for reports.
public struct SleeveLinkStatistics: Sendable, Equatable {
    public var id: UInt64
    public var peer: PeerName
    public var datagramsSent: UInt64
    public var bytesSent: UInt64
    public var datagramsReceived: UInt64
    public var bytesReceived: UInt64
}
