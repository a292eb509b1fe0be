public import CoreMetrics
public import Logging
public import WeaveCore
public import WeaveCrypto

/// What a router is told at its start.
public struct MeshConfiguration: Sendable {
    /// This peer. Names are unique in a mesh, and stay the same across restarts.
    public var name: PeerName
    /// For people; need not be unique.
    public var nickname: String
    /// The address to listen on and to dial from; nil for all addresses of both families.
    public var host: IPAddress?
    /// The TCP port to listen on, also assumed of peers whose port nobody told.
    public var port: UInt16 = 6783
    /// Nil for no encryption. All peers of a mesh have the same password.
    public var password: Password?
    /// Connections at most; 0 for no limit.
    public var connectionLimit = 200
    /// Whether to connect to peers that others tell of.
    public var discovery = true
    /// Ranges of underlay addresses among which overlays need not encrypt.
    public var trustedSubnets: [IPv4CIDR] = []
    /// Protocol versions offered. Version 1 is for releases from before 2015.
    public var minimumProtocolVersion: UInt8 = 1
    public var maximumProtocolVersion: UInt8 = 2
    public var limits = ConnectionLimits()
    public var routerLimits = RouterLimits()
    /// How the addresses of a target's name are found, anew for each attempt; nil for the system's resolver. Called with
    /// a host and a service, a number mostly or empty, on a thread that may block; what it throws is shown as the reason.
    public var resolver: (@Sendable (_ host: String, _ service: String) throws -> [Endpoint])?
    public var logger: Logger
    /// What takes the router's counters; nil for whatever `MetricsSystem` was bootstrapped with before the router runs,
    /// which by itself is nothing.
    public var metrics: (any MetricsFactory)?
    /// How often it is told. In between, counting costs what integers cost.
    public var metricsInterval: Duration = .seconds(5)

    public init(name: PeerName, nickname: String, logger: Logger? = nil) {
        self.name = name
        self.nickname = nickname
        // Silent unless asked: a library does not write to its host's terminal.
        self.logger = logger ?? Logger(label: "WeaveMesh") { _ in SwiftLogNoOpLogHandler() }
    }
}

/// How much a router takes on at one time.
public struct RouterLimits: Sendable {
    /// Connections made to us whose handshake is not over, in total. When there are more, the address that has most
    /// gives up the one whose remote has done nothing for longest: an honest handshake takes milliseconds, so it is
    /// over before its turn comes.
    public var handshakes = 512
    /// The same for one address, or for one network of 64 bits where it is IPv6, once they have been waited for. A host
    /// has one peer, rarely a few; but a whole site may be behind one address.
    public var handshakesPerAddress = 128
    /// How long an address may have more than that, so that many who come at one moment get in: several round trips
    /// of a bad line.
    public var handshakePatience: Duration = .seconds(3)
    /// For a TCP connection to come about; the system's own limit is minutes.
    public var dialTimeout: Duration = .seconds(20)
    /// For a name to be resolved: two tries of the usual resolver.
    public var resolveTimeout: Duration = .seconds(12)
    /// Lookups under way at one time. They occupy threads.
    public var lookups = 16
    /// Bytes handed to a socket and not taken by the system yet, per connection. What follows waits in the core, where
    /// it merges.
    public var unwrittenBytes = 128 << 10
    /// Messages that wait for their handlers, per connection, before its socket is not read any more.
    public var waitingMessages = 128
    /// The same in bytes.
    public var waitingBytes = 2 << 20
    /// How long a connection that was ended here stays open for the remote to read why.
    public var lingering: Duration = .seconds(1)
    /// Connections in that state; further ones are closed at once.
    public var lingeringConnections = 256
    /// Lines about failed handshakes of strangers in one second.
    public var strangerLines = 20

    public init() {}
}

/// Why a router cannot run.
public struct MeshError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What is wrong, for programs.
    public enum Code: Sendable, Equatable {
        /// The address cannot be listened on.
        case cannotListen
        /// `run` was called before.
        case alreadyRun
    }

    public let code: Code
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}
