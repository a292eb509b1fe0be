import Synchronization
import WeaveCore

/// Gossip on its way out, shared by all connections that shall carry it. It is encoded when the first of them has room
/// for it, once for all.
final class GossipParcel: Sendable {
    struct Encoded: Sendable {
        /// Payloads of messages, envelopes included.
        var payloads: [[UInt8]]
        /// Equal for equal data.
        var fingerprint: Int
        /// Payloads left out because no message can be that large.
        var oversized: Int
    }

    let channel: String
    /// Ourself for tag 4, where the broadcast began for tag 6.
    let source: PeerName
    let data: any GossipData
    /// Whether this is nothing but the periodic complete state.
    let isPeriodicState: Bool
    /// Bytes held, for data that is nothing but bytes; other data is bounded by the way it merges.
    let opaqueBytes: Int
    private let cache = Mutex<Encoded?>(nil)

    /// The largest payload: what 2.8.1 takes as one message, less the tag and the tag of the sealing.
    static let maximumPayloadBytes = (10 << 20) - 17

    init(channel: String, source: PeerName, data: any GossipData, isPeriodicState: Bool = false) {
        self.channel = channel
        self.source = source
        self.data = data
        self.isPeriodicState = isPeriodicState
        opaqueBytes = (data as? OpaqueGossip)?.payloads.reduce(0) { $0 + $1.count } ?? 0
    }

    /// This and what came later. Nil when that would be more payloads than may wait for a slow neighbour.
    func merged(with newer: GossipParcel) -> GossipParcel? {
        if let old = data as? OpaqueGossip, let new = newer.data as? OpaqueGossip {
            guard old.payloads.count + new.payloads.count <= GossipLimits.opaquePayloads else { return nil }
        }
        return GossipParcel(
            channel: channel, source: source, data: data.merged(with: newer.data),
            isPeriodicState: isPeriodicState && newer.isPeriodicState)
    }

    func encoded() -> Encoded {
        cache.withLock { cache in
            if let cache { return cache }
            let data = data.encode()
            var hasher = Hasher()
            var encoded = Encoded(payloads: [], fingerprint: 0, oversized: 0)
            for part in data {
                hasher.combine(part.count)
                unsafe part.withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
                let payload = GossipEnvelope.encode(channel: channel, source: source, data: part)
                if payload.count <= Self.maximumPayloadBytes {
                    encoded.payloads.append(payload)
                } else {
                    encoded.oversized += 1
                }
            }
            encoded.fingerprint = hasher.finalize()
            cache = encoded
            return encoded
        }
    }
}

/// How much may wait to be sent, and be remembered.
enum GossipLimits {
    /// Opaque payloads that wait in one bucket. They cannot be merged, only piled up.
    static let opaquePayloads = 512
    /// Bytes of those on one connection: the largest message and half of another.
    static let opaqueBytes = 16 << 20
    /// Unicasts and overlay control messages that wait on one connection.
    static let controlMessages = 4096
    /// Bytes of those: two of the largest messages.
    static let controlBytes = 24 << 20
    /// Origins of broadcasts that wait in one channel of one connection.
    static let broadcastOrigins = 1024
    /// Bytes of topology in one message. A larger update goes out in several, with others' messages between.
    static let topologyBytes = 1 << 20
    /// Channels without a handler that are passed on. The one longest unused makes room.
    static let surrogateChannels = 64
    /// Payloads remembered for each of those, so that they are passed on once.
    static let surrogatePayloads = 1024
    /// Broadcasts and unicasts remembered against loops.
    static let rememberedMessages = 4096
    /// Broadcasts held back for one recalculation of routes.
    static let deferredBroadcasts = 1024
    /// Registered channels.
    static let channels = 256
}
