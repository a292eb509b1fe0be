import WeaveCore

/// The records that neighbours announced and that have not come yet: whom to ask for which, and when.
///
/// The owner of a record tells of its changes once a second at most. But while it makes many connections, each new
/// neighbour of its hears of a version one higher than the neighbour before; if each of these were asked for at once,
/// records would travel for every connection made, to everybody. So a record of which an earlier version is held waits
/// a moment since it was last asked for, and longer each time while it goes on changing.
///
///     unknown ──► asked ──► settled ──► unknown, when no newer one was announced for a while
///                  ▲ │         │
///                  │ ▼         ▼ a newer one was announced
///                  waiting ◄───┘
struct TopologyQuestions: Sendable {
    private enum State: Sendable {
        /// Not asked yet; until `due`.
        case waiting
        /// Asked; the answer counts as lost at `due`.
        case asked(ConnectionID)
        /// The record came; forgotten at `due`.
        case settled
    }

    private struct Question: Sendable {
        var state: State
        /// The newest that was announced.
        var version: UInt64
        var uid: UInt64
        /// When somebody was last asked, and how long until the next version may be asked for.
        var asked: MonotonicTime
        var interval: Duration
        var due: MonotonicTime
        /// Neighbours who announced just this version and were not asked.
        var others: [ConnectionID] = []
    }

    private var open: [PeerName: Question] = [:]
    /// How late this peer is with its own work. Answers to one that is late are late, and asking again makes it later.
    var strain = Duration.zero

    /// How long an answer may take before another neighbour is asked. An answer waits behind what its sender has to send.
    static let patience = Duration.seconds(2)
    /// Between questions for a record of which an earlier version is held, at first, and when it changes again and again:
    /// then as often as its owner tells of it.
    static let interval = Duration.milliseconds(250)
    static let longestInterval = Duration.seconds(1)
    private static let alternatives = 3

    /// When `due` is to be called next.
    private(set) var nextDue: MonotonicTime?

    var isEmpty: Bool { open.isEmpty }

    /// Whether the record of a peer was asked for, or will be, and has not come.
    func awaits(_ name: PeerName) -> Bool {
        switch open[name]?.state {
        case .waiting, .asked: true
        case .settled, nil: false
        }
    }

    /// Notes that a neighbour has a record we lack; whether to ask it now.
    ///
    /// - Parameter isRefresh: whether an earlier version of the record is held.
    mutating func mayAsk(
        _ entry: TopologyDigest.Entry, of id: ConnectionID, isRefresh: Bool, now: MonotonicTime
    ) -> Bool {
        guard let known = open[entry.name] else {
            guard open.count < PeerTable.maximumPeers else { return false }
            ask(entry, of: id, interval: Self.interval + strain * 4, now)
            return true
        }
        let isNewer = (entry.version, entry.uid) > (known.version, known.uid)
        switch known.state {
        case .settled:
            guard isRefresh, now < known.asked + known.interval else { break }
            wait(entry, for: id, known)
            return false
        case .waiting:
            guard isRefresh, now < known.due else { break }
            note(entry, id, isNewer: isNewer)
            return false
        case .asked(let other):
            guard now < known.due else { break }
            if isNewer || other != id { note(entry, id, isNewer: isNewer) }
            return false
        }
        ask(entry, of: id, interval: longer(known.interval), now)
        return true
    }

    private func longer(_ interval: Duration) -> Duration {
        min(interval * 2, Self.longestInterval + strain * 8)
    }

    private mutating func ask(
        _ entry: TopologyDigest.Entry, of id: ConnectionID, interval: Duration, _ now: MonotonicTime
    ) {
        let due = now + Self.patience + strain * 16
        open[entry.name] = Question(
            state: .asked(id), version: entry.version, uid: entry.uid, asked: now, interval: interval, due: due)
        wake(due)
    }

    private mutating func wait(_ entry: TopologyDigest.Entry, for id: ConnectionID, _ known: Question) {
        let due = known.asked + known.interval
        open[entry.name] = Question(
            state: .waiting, version: entry.version, uid: entry.uid, asked: known.asked, interval: known.interval,
            due: due, others: [id])
        wake(due)
    }

    /// Remembers who else has the newest version.
    private mutating func note(_ entry: TopologyDigest.Entry, _ id: ConnectionID, isNewer: Bool) {
        guard var known = open[entry.name] else { return }
        if isNewer {
            (known.version, known.uid, known.others) = (entry.version, entry.uid, [id])
        } else {
            guard (known.version, known.uid) == (entry.version, entry.uid),
                known.others.count < Self.alternatives, !known.others.contains(id)
            else { return }
            known.others.append(id)
        }
        open[entry.name] = known
    }

    private mutating func wake(_ due: MonotonicTime) { nextDue = min(nextDue ?? due, due) }

    /// A record came.
    mutating func onRecord(_ name: PeerName, version: UInt64, uid: UInt64) {
        guard var known = open[name] else { return }
        if (version, uid) >= (known.version, known.uid) {
            known.state = .settled
            known.others = []
            known.due = known.asked + known.interval * 2
        } else if case .asked = known.state, !known.others.isEmpty {
            // The answer was under way when something newer was announced.
            known.state = .waiting
            known.due = known.asked + known.interval
        } else {
            return
        }
        open[name] = known
        wake(known.due)
    }

    /// Does what is due, and gives up on the answers of a connection that is lost: whom to ask for what.
    mutating func due(
        _ now: MonotonicTime, lost: ConnectionID? = nil, isLive: (ConnectionID) -> Bool
    ) -> [(name: PeerName, of: ConnectionID)] {
        var asks: [(name: PeerName, of: ConnectionID)] = []
        nextDue = nil
        for (name, question) in open {
            let isLost: Bool
            switch question.state {
            case .waiting: isLost = false
            case .asked(let id): isLost = id == lost
            case .settled:
                if question.due <= now { open[name] = nil } else { wake(question.due) }
                continue
            }
            guard isLost || question.due <= now else {
                wake(question.due)
                continue
            }
            guard let next = question.others.first(where: isLive) else {
                open[name] = nil
                continue
            }
            var asked = question
            asked.state = .asked(next)
            asked.others.removeAll { $0 == next }
            asked.asked = now
            asked.interval = longer(question.interval)
            asked.due = now + Self.patience + strain * 16
            open[name] = asked
            wake(asked.due)
            asks.append((name, next))
        }
        // What a storm needed is given back.
        if open.isEmpty { open = [:] }
        return asks.sorted { $0.name < $1.name }
    }
}
