import WeaveCore

/// How many attempts to connect are begun at a time. In a large mesh everybody has hundreds to make at the start: all at
/// once they would take memory and time from those that could be finished, and reach the same peers together.
///
/// An attempt counts for a second at most, so that addresses at which nobody answers do not hold up the others.
struct DialPacing: Sendable {
    static let atOnce = 64
    static let youth = Duration.seconds(1)

    /// Oldest first.
    private var begun: [(id: ConnectionID, at: MonotonicTime)] = []

    /// How many may be begun now.
    mutating func room(_ now: MonotonicTime, isUnderWay: (ConnectionID) -> Bool) -> Int {
        begun.removeAll { $0.at + Self.youth <= now || !isUnderWay($0.id) }
        return Self.atOnce - begun.count
    }

    /// When there is more room at the latest.
    var next: MonotonicTime? { begun.first.map { $0.at + Self.youth } }

    mutating func note(_ id: ConnectionID, _ now: MonotonicTime) { begun.append((id, now)) }
}
