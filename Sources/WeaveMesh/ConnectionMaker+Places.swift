import WeaveCore

/// A peer at its limit takes a connection only to end it, and each of the two changes the record of whoever tried. Where
/// many peers have the same limit, those with a place left would try those without, and nobody's records would ever rest.
extension ConnectionMaker {
    /// A direct target whose peer has no place is left alone until that peer tells of one, or for minutes: somebody else
    /// may live there by then.
    mutating func awaitPlace(
        _ endpoint: Endpoint, _ hasNoPlace: (PeerName) -> Bool, now: MonotonicTime,
        using generator: inout SeededGenerator
    ) {
        guard let target = targets[endpoint], let tryAfter = target.tryAfter, let peer = target.peer else { return }
        if hasNoPlace(peer) {
            if !target.awaitsPlace, tryAfter <= now {
                targets[endpoint]?.interval = Self.maximumInterval
                let reason = target.lastError ?? "Connection limit reached at \(peer)"
                targets[endpoint]?.backOff(reason, now: now, using: &generator)
                targets[endpoint]?.awaitsPlace = true
            }
            awaitsPlaces = true
        } else if target.awaitsPlace {
            targets[endpoint]?.awaitsPlace = false
            targets[endpoint]?.tryAfter = now
            targets[endpoint]?.interval = Self.initialInterval
        }
    }
}
