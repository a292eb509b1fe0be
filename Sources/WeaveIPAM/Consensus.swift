public import WeaveCore

/// A participant of the first agreement: a peer in one of its lives. A peer that restarts forgets what it promised, and is
/// another participant.
public struct NodeID: Hashable, Sendable, Comparable {
    public var peer: PeerName
    public var uid: UInt64

    /// Makes an identity.
    public init(peer: PeerName, uid: UInt64) {
        self.peer = peer
        self.uid = uid
    }

    public static func < (left: NodeID, right: NodeID) -> Bool {
        left.peer != right.peer ? left.peer < right.peer : left.uid < right.uid
    }
}

/// The number of a proposal. Round 0 is none.
public struct ProposalID: Hashable, Sendable, Comparable {
    public var round: UInt64
    public var proposer: NodeID

    /// Makes a number.
    public init(round: UInt64, proposer: NodeID) {
        self.round = round
        self.proposer = proposer
    }

    /// No proposal; lower than every other.
    public static let none = ProposalID(round: 0, proposer: NodeID(peer: .unknown, uid: 0))

    /// Whether this is a proposal at all.
    public var isValid: Bool { round > 0 }

    public static func < (left: ProposalID, right: ProposalID) -> Bool {
        left.round != right.round ? left.round < right.round : left.proposer < right.proposer
    }
}

/// What a participant is known to have promised and accepted.
public struct NodeClaims: Hashable, Sendable {
    /// The highest proposal it has promised to hear.
    public var promise: ProposalID
    /// The proposal it accepted last.
    public var accepted: ProposalID
    /// What it accepted: the peers to divide the ring among.
    public var value: [PeerName]
    /// The proposal that first had this value.
    public var origin: ProposalID

    /// Makes claims; by default none.
    public init(
        promise: ProposalID = .none, accepted: ProposalID = .none, value: [PeerName] = [], origin: ProposalID = .none
    ) {
        self.promise = promise
        self.accepted = accepted
        self.value = value
        self.origin = origin
    }
}

/// The first agreement, on the peers among whom the ring is divided: Paxos for a single decision, in which every
/// participant proposes, accepts and learns, and the only message is everything that is known.
public struct Consensus: Sendable, Hashable {
    /// This participant.
    public let node: NodeID
    /// How many must agree; 0 until this peer wants an agreement itself.
    public var quorum: Int
    /// What is known of each participant.
    public internal(set) var known: [NodeID: NodeClaims] = [:]
    /// Whether a peer that was started twice counts once. 2.8.1 counts it twice, and can so reach a quorum with fewer.
    var countsPeersOnce = true

    /// The most participants remembered: peers of a mesh, and some restarts of each.
    public static let maximumNodes = 4096

    /// A participant that knows nobody, not even itself.
    public init(node: NodeID, quorum: Int = 0) {
        self.node = node
        self.quorum = quorum
    }

    private var own: NodeClaims { known[node] ?? NodeClaims() }

    /// The peers known to take part.
    public var participants: Int { known.count }

    /// Starts a new proposal.
    ///
    /// - Throws: `IPAMError` of code `misuse` while no quorum is set.
    public mutating func propose() throws(IPAMError) {
        guard quorum > 0 else { throw IPAMError(.misuse, "Paxos node.Propose() called with no quorum set") }
        var round: UInt64 = 0
        for claims in known.values { round = max(round, claims.promise.round, claims.accepted.round) }
        guard round < UInt64.max else { throw IPAMError(.limit, "there are no proposal numbers left") }
        var claims = own
        claims.promise = ProposalID(round: round + 1, proposer: node)
        known[node] = claims
        if quorum == 1 { think() }
    }

    /// Takes in what another knows.
    ///
    /// - Returns: whether anything was news.
    public mutating func update(_ received: [NodeID: NodeClaims]) -> Bool {
        var isNews = false
        for (id, claims) in received {
            guard var mine = known[id] else {
                guard known.count < Self.maximumNodes else { continue }
                known[id] = claims
                isNews = true
                continue
            }
            let before = mine
            if mine.promise < claims.promise { mine.promise = claims.promise }
            if mine.accepted < claims.accepted {
                mine.accepted = claims.accepted
                mine.value = claims.value
                mine.origin = claims.origin
            }
            guard mine != before else { continue }
            known[id] = mine
            isNews = true
        }
        return isNews
    }

    /// Promises and accepts what can be, given what is known.
    ///
    /// - Returns: whether that changed anything others should hear.
    @discardableResult
    public mutating func think() -> Bool {
        var claims = own
        for other in known.values where claims.promise < other.promise { claims.promise = other.promise }
        if claims.promise.isValid, claims.promise.proposer == node { acceptOwnProposal(&claims) }
        if let other = known.values.first(where: { $0.accepted.isValid && $0.accepted == claims.promise }) {
            claims.accepted = other.accepted
            claims.value = other.value
            claims.origin = other.origin
        }
        let before = own
        guard
            before.promise != claims.promise || before.accepted != claims.accepted || before.origin != claims.origin
        else { return false }
        known[node] = claims
        return true
    }

    /// When enough have promised our proposal: accept it, with the value accepted last among them, or a new one.
    private func acceptOwnProposal(_ claims: inout NodeClaims) {
        var promised: [NodeID] = []
        var latest: NodeClaims?
        for (id, other) in known where (id == node ? claims.promise : other.promise) == claims.promise {
            promised.append(id)
            if other.accepted.isValid, latest.map({ $0.accepted < other.accepted }) ?? true { latest = other }
        }
        guard quorum > 0, weight(promised) >= quorum else { return }
        if let latest {
            claims.value = latest.value
            claims.origin = latest.origin
        } else {
            claims.value = known.keys.sorted().map(\.peer)
            claims.origin = claims.promise
        }
        claims.accepted = claims.promise
    }

    private func weight(_ nodes: [NodeID]) -> Int {
        countsPeersOnce ? Set(nodes.map(\.peer)).count : nodes.count
    }

    /// The agreement, when there is one: the value and the proposal it came from.
    public var agreement: (value: [PeerName], origin: ProposalID)? {
        guard quorum > 0 else { return nil }
        var accepted: [ProposalID: [NodeID]] = [:]
        for (id, claims) in known where claims.accepted.isValid { accepted[claims.origin, default: []].append(id) }
        for (origin, nodes) in accepted where weight(nodes) >= quorum {
            if let node = nodes.first, let claims = known[node] { return (claims.value, origin) }
        }
        return nil
    }

    /// The names in an agreement as the ring wants them: sorted, each once.
    public static func normalized(_ value: [PeerName]) -> [PeerName] { Set(value).sorted() }
}
