import WeaveCore

/// Which peer a short id stands for. Several peers may claim one; the one with the lowest name, the principal, has it.
struct ShortIDTable: Sendable {
    /// What a change did.
    struct Effect: Sendable, Equatable {
        /// An id means another peer than before.
        var invalidated = false
        /// We lost our own id and need another.
        var mustReassignOwn = false
    }

    /// The claims of an id that was ever used; without a principal when all claimants are gone.
    private struct Claims {
        var principal: PeerName?
        var others: [PeerName] = []
    }

    private let ourself: PeerName
    private var claims: [ShortID: Claims] = [:]

    /// Draws before the free ids are counted: with half of all ids in use, one in a thousand cases counts.
    private static let draws = 10

    init(ourself: PeerName) { self.ourself = ourself }

    /// The peer an id stands for.
    func principal(of id: ShortID) -> PeerName? { claims[id]?.principal }

    /// All ids that stand for somebody, in rising order.
    var principals: [(id: ShortID, peer: PeerName)] {
        claims.compactMap { id, claim in claim.principal.map { (id, $0) } }.sorted { $0.id < $1.id }
    }

    mutating func add(_ peer: PeerName, _ id: ShortID) -> Effect {
        guard let known = claims[id] else {
            claims[id] = Claims(principal: peer)
            return Effect()
        }
        guard let principal = known.principal else {
            claims[id]?.principal = peer
            return Effect(invalidated: true)
        }
        guard peer < principal else {
            if peer != principal { claims[id]?.others.append(peer) }
            return Effect()
        }
        claims[id]?.principal = peer
        claims[id]?.others.append(principal)
        return Effect(invalidated: true, mustReassignOwn: principal == ourself)
    }

    mutating func remove(_ peer: PeerName, _ id: ShortID) -> Effect {
        guard let known = claims[id] else { return Effect() }
        guard known.principal == peer else {
            claims[id]?.others.removeAll { $0 == peer }
            return Effect()
        }
        let heir = known.others.min()
        claims[id] = Claims(principal: heir, others: known.others.filter { $0 != heir })
        return Effect(invalidated: heir != nil)
    }

    /// An id that nobody has; nil when all are taken.
    func unused(using generator: inout some RandomNumberGenerator) -> ShortID? {
        for _ in 0..<Self.draws {
            let id = ShortID.random(using: &generator)
            if principal(of: id) == nil { return id }
        }
        let free = (0..<ShortID.count).compactMap { ShortID(exactly: $0) }.filter { principal(of: $0) == nil }
        return free.randomElement(using: &generator)
    }
}
