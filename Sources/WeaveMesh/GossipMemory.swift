import WeaveCore

/// Channels nobody here has a handler for, and which of their payloads were passed on a short while ago.
struct SurrogateMemory: Sendable {
    private struct Channel: Sendable {
        var seen: [Int: MonotonicTime] = [:]
        var lastUse: MonotonicTime
    }

    private var channels: [String: Channel] = [:]
    private let window: Duration

    init(window: Duration) { self.window = window }

    var count: Int { channels.count }

    /// Notes the use of a channel.
    ///
    /// - Returns: whether it is new here, and the channel that was forgotten for it.
    mutating func use(_ channel: String, now: MonotonicTime) -> (isNew: Bool, forgotten: String?) {
        guard channels[channel] == nil else {
            channels[channel]?.lastUse = now
            return (false, nil)
        }
        var forgotten: String?
        if channels.count >= GossipLimits.surrogateChannels {
            forgotten = channels.min { ($0.value.lastUse, $0.key) < ($1.value.lastUse, $1.key) }?.key
            if let forgotten { channels[forgotten] = nil }
        }
        channels[channel] = Channel(lastUse: now)
        return (true, forgotten)
    }

    mutating func forget(_ channel: String) { channels[channel] = nil }

    /// Whether this payload was not seen in the last while; from now on it was.
    mutating func isNews(_ payload: ArraySlice<UInt8>, on channel: String, now: MonotonicTime) -> Bool {
        let hash = messageHash(channel, 0, payload)
        guard var known = channels[channel] else { return true }
        channels[channel] = nil
        defer { channels[channel] = known }
        if let seen = known.seen[hash], now - seen < window { return false }
        if known.seen.count >= GossipLimits.surrogatePayloads {
            let window = window
            known.seen = known.seen.filter { now - $0.value < window }
            if known.seen.count >= GossipLimits.surrogatePayloads { known.seen.removeAll(keepingCapacity: true) }
        }
        known.seen[hash] = now
        return true
    }
}

/// Notices messages that come round again when peers do not agree on the topology for a moment.
struct LoopGuard: Sendable {
    private struct Passage: Sendable {
        var hop: ConnectionID
        var time: MonotonicTime
        var count: Int
    }

    private var passages: [Int: Passage] = [:]

    /// A broadcast reaches a peer over one path. The same bytes over another within this time went in a circle.
    private static let broadcastWindow = Duration.seconds(2)
    /// A unicast repeated more often than this within a second goes in a circle.
    private static let unicastRepeats = 64
    private static let unicastWindow = Duration.seconds(1)

    /// Whether a broadcast that came over `hop` may be passed on.
    mutating func passBroadcast(
        _ payload: ArraySlice<UInt8>, channel: String, origin: PeerName, hop: ConnectionID, now: MonotonicTime
    ) -> Bool {
        let key = messageHash(channel, origin.rawValue, payload)
        if let passage = passages[key], passage.hop != hop, now - passage.time < Self.broadcastWindow { return false }
        remember(key, Passage(hop: hop, time: now, count: 1))
        return true
    }

    /// Whether a unicast may be passed on.
    mutating func passUnicast(_ payload: [UInt8], hop: ConnectionID, now: MonotonicTime) -> Bool {
        let key = messageHash("", 1, payload[...])
        guard let passage = passages[key], now - passage.time < Self.unicastWindow else {
            remember(key, Passage(hop: hop, time: now, count: 1))
            return true
        }
        passages[key]?.count += 1
        return passage.count < Self.unicastRepeats
    }

    private mutating func remember(_ key: Int, _ passage: Passage) {
        if passages.count >= GossipLimits.rememberedMessages, passages[key] == nil {
            passages = passages.filter { passage.time - $0.value.time < Self.broadcastWindow }
            if passages.count >= GossipLimits.rememberedMessages { passages.removeAll(keepingCapacity: true) }
        }
        passages[key] = passage
    }
}

/// The standard library's keyed hash: nobody outside the process can choose payloads that collide.
private func messageHash(_ channel: String, _ discriminator: UInt64, _ payload: ArraySlice<UInt8>) -> Int {
    var hasher = Hasher()
    hasher.combine(channel)
    hasher.combine(discriminator)
    unsafe payload.withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
    return hasher.finalize()
}
