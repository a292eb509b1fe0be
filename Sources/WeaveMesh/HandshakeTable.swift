internal import WeaveCore

/// Which connections made to us have not finished their handshakes; of each place, those first that have waited longest
/// for a step of the remote.
///
/// There are few steps (`ConnectionMachine.handshakeSteps`), so whoever takes them one by one is not first for a few
/// turns and then is: an honest handshake that goes on is overtaken by no number of silent ones.
struct HandshakeTable {
    /// What counts as one address. A host with IPv6 has 2^64 addresses of one network.
    private enum Place: Hashable {
        case v4(IPv4Address)
        case v6(network: UInt64)

        init(_ address: IPAddress) {
            switch address {
            case .v4(let address): self = .v4(address)
            case .v6(let address): self = .v6(network: address.high)
            }
        }
    }

    private struct Waiting {
        var id: ConnectionID
        var since: MonotonicTime
    }

    private var byPlace: [Place: [Waiting]] = [:]
    private var places: [ConnectionID: Place] = [:]

    var count: Int { places.count }

    /// How many there are of an address, or of the network of one of IPv6.
    func count(of address: IPAddress) -> Int { byPlace[Place(address)]?.count ?? 0 }

    mutating func insert(_ id: ConnectionID, _ address: IPAddress, now: MonotonicTime) {
        let place = Place(address)
        byPlace[place, default: []].append(Waiting(id: id, since: now))
        places[id] = place
    }

    /// The remote has taken a step.
    mutating func noteStep(_ id: ConnectionID, now: MonotonicTime) {
        guard let place = places[id], let index = byPlace[place]?.firstIndex(where: { $0.id == id }) else { return }
        byPlace[place]?.remove(at: index)
        byPlace[place]?.append(Waiting(id: id, since: now))
    }

    mutating func remove(_ id: ConnectionID) {
        guard let place = places.removeValue(forKey: id) else { return }
        byPlace[place]?.removeAll { $0.id == id }
        if byPlace[place]?.isEmpty == true { byPlace[place] = nil }
    }

    /// A connection that has to go, if any must, now that one more from `address` has come. Ask again when it is gone.
    func victim(after address: IPAddress, limits: RouterLimits, now: MonotonicTime) -> ConnectionID? {
        if count(of: address) > limits.handshakesPerAddress, let first = byPlace[Place(address)]?.first,
            now - first.since >= limits.handshakePatience
        {
            return first.id
        }
        guard count > limits.handshakes else { return nil }
        // Of two places with as many, the one that keeps us waiting longer.
        return byPlace.values.max { left, right in
            guard left.count == right.count, let one = left.first, let other = right.first else {
                return left.count < right.count
            }
            return one.since > other.since
        }?.first?.id
    }
}
