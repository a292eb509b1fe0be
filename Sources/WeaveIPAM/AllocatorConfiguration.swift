public import WeaveCore

/// Who an allocator is and how it comes by its first ring.
public struct AllocatorConfiguration: Sendable {
    /// How the ring begins when nothing is stored.
    public enum Start: Sendable, Hashable {
        /// By agreement of a quorum of peers, as soon as somebody wants an address.
        case consensus
        /// At once, divided among these peers; all peers must be given the same ones.
        case seed([PeerName])
        /// From another peer; this one has no vote.
        case observer
    }

    /// An address that is in use already when the allocator starts.
    public struct PreClaim: Sendable, Hashable {
        public var ident: String
        public var isContainer: Bool
        public var cidr: IPv4CIDR

        /// Makes a claim.
        public init(ident: String, isContainer: Bool, cidr: IPv4CIDR) {
            self.ident = ident
            self.isContainer = isContainer
            self.cidr = cidr
        }
    }

    public var peer: PeerName
    /// Random, new at each start.
    public var uid: UInt64
    public var nickname: String
    /// The range that peers divide; the same for all of them.
    public var universe: IPv4CIDR
    public var start: Start
    /// How many peers must agree on the first ring.
    public var quorum: Int
    public var preClaims: [PreClaim]
    public var policy: AllocatorPolicy

    /// Makes a configuration; the allocator checks it.
    public init(
        peer: PeerName, uid: UInt64, nickname: String, universe: IPv4CIDR, start: Start = .consensus, quorum: Int = 1,
        preClaims: [PreClaim] = [], policy: AllocatorPolicy = .standard
    ) {
        self.peer = peer
        self.uid = uid
        self.nickname = nickname
        self.universe = universe
        self.start = start
        self.quorum = quorum
        self.preClaims = preClaims
        self.policy = policy
    }

    /// The quorum among this many peers: more than half.
    public static func quorum(among peers: Int) -> Int { max(peers, 1) / 2 + 1 }

    /// Checks that the universe can be one.
    ///
    /// - Throws: `IPAMError` of code `invalidUniverse` with what to do.
    public func validate() throws(IPAMError) {
        guard universe.isSubnet, universe.prefixLength > 0, universe.size >= IPv4CIDR.minimumSubnetSize else {
            throw IPAMError(
                .invalidUniverse, "\(universe) cannot be the range of the ring: give a subnet of at least 4 addresses")
        }
        _ = try Ring(universe: universe.range, peer: peer)
        guard peer != .unknown else { throw IPAMError(.invalidUniverse, "an allocator needs the name of a peer") }
    }
}

/// Where this library does better than 2.8.1 without anybody on the wire noticing.
public struct AllocatorPolicy: Sendable {
    /// How rings are merged.
    public var merge: MergePolicy
    /// How donors are weighed.
    public var weighing: Ring.DonorWeighing
    /// Whether donations prefer blocks with addresses that hosts can use, and those that split the ring least.
    public var choosesDonations: Bool
    /// Whether requests for one subnet become one request, a refusal leads to the next donor at once, and vain ones grow rarer.
    public var asksOnce: Bool
    /// How long an address rests after its release, unless there is no other: neighbours may still believe in its last owner.
    public var rest: Duration
    /// Whether addresses found at the start go with their containers.
    public var keepsContainers: Bool
    /// Whether shutting down with nobody to inherit hands everything to nobody.
    public var transfersToNobody: Bool
    /// Whether shutting down forgets the addresses of the ranges that go to the heir. 2.8.1 gives them out again when restarted.
    public var forgetsWhenShutDown: Bool
    /// Whether the ranges of a peer that is there are taken over only when forced.
    public var protectsPresentPeers: Bool
    /// Whether a peer that was started twice counts as one towards the quorum.
    public var countsPeersOnce: Bool
    /// How long until a proposal, and a request for space, is repeated at first; each time later, up to `AllocatorLimits.tick`.
    public var firstRetry: Duration

    /// What this library does.
    public static let standard = AllocatorPolicy(
        merge: .standard, weighing: .overlap, choosesDonations: true, asksOnce: true, rest: .seconds(30),
        keepsContainers: true, transfersToNobody: false, forgetsWhenShutDown: true, protectsPresentPeers: true,
        countsPeersOnce: true,
        firstRetry: .seconds(1))

    /// What 2.8.1 does, for comparison.
    public static let weave281 = AllocatorPolicy(
        merge: .weave281, weighing: .wholeSpans, choosesDonations: false, asksOnce: false, rest: .zero,
        keepsContainers: false, transfersToNobody: true, forgetsWhenShutDown: false, protectsPresentPeers: false,
        countsPeersOnce: false,
        firstRetry: AllocatorLimits.tick)
}

/// Bounds and times of an allocator.
public enum AllocatorLimits {
    /// Between two looks at what waits.
    public static let tick: Duration = .seconds(5)
    /// How long the addresses of a dead container are kept for its return.
    public static let deathGrace: Duration = .seconds(30)
    /// How often asking for a certain address may fail for want of a way to its owner.
    public static let claimAttempts = 5
    /// Requests that wait at one time; those beyond are refused, so that clients that give up and retry cost nothing.
    public static let pending = 1 << 14
    /// Resting addresses remembered; beyond, those that have rested longest return early.
    public static let resting = 1 << 12
    /// Peers whose contradictions are remembered.
    public static let conflicts = 64
    /// How often people are told of a contradiction that goes on.
    public static let conflictReminder: Duration = .seconds(60)
    /// Between two attempts to get space for a subnet when every donor has refused: doubled each time up to this.
    public static let slowestRetry: Duration = .seconds(30)
    /// How long a donor may take to answer before the next is asked.
    public static let answer: Duration = .seconds(3)
}
