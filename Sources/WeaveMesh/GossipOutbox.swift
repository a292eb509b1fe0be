import WeaveCore

/// What waits to be sent on one connection. Gossip merges while it waits, so that a slow neighbour costs no more memory
/// than the state itself, and gets the newest of it.
struct GossipOutbox: Sendable {
    private struct ChannelBox: Sendable {
        var channel: String
        var gossip: GossipParcel?
        var broadcasts: [(origin: PeerName, parcel: GossipParcel)] = []
        /// The last periodic state that was sent, and how often it was held back since.
        var lastState: Int?
        var heldBack = 0

        var isEmpty: Bool { gossip == nil && broadcasts.isEmpty }
    }

    /// Rounds of the periodic exchange in which an unchanged state is not repeated to the same neighbour.
    static let quietRounds = 3

    private var control: [MeshMessage] = []
    private var controlBytes = 0
    private var controlHead = 0
    private var ready: [MeshMessage] = []
    private var boxes: [ChannelBox] = []
    private var turn = 0
    private var opaqueBytes = 0
    /// Parcels merged and not counted yet.
    private var merged = 0
    /// Whether the shell was told that there is something to send.
    var isAwake = false

    /// Queues a unicast or a control message; false when there is no room.
    mutating func append(_ message: MeshMessage) -> Bool {
        guard control.count - controlHead < GossipLimits.controlMessages,
            controlBytes + message.payload.count <= GossipLimits.controlBytes
        else { return false }
        control.append(message)
        controlBytes += message.payload.count
        return true
    }

    /// Adds to the bucket of gossip; false when there is no room.
    mutating func addGossip(_ parcel: GossipParcel) -> Bool {
        let index = box(parcel.channel)
        guard let merged = admit(parcel, to: boxes[index].gossip) else { return false }
        boxes[index].gossip = merged
        return true
    }

    /// Adds to the bucket of broadcasts of one origin; false when there is no room.
    mutating func addBroadcast(_ parcel: GossipParcel) -> Bool {
        let index = box(parcel.channel)
        if let place = boxes[index].broadcasts.firstIndex(where: { $0.origin == parcel.source }) {
            guard let merged = admit(parcel, to: boxes[index].broadcasts[place].parcel) else { return false }
            boxes[index].broadcasts[place].parcel = merged
        } else {
            guard boxes[index].broadcasts.count < GossipLimits.broadcastOrigins, admit(parcel, to: nil) != nil else {
                return false
            }
            boxes[index].broadcasts.append((parcel.source, parcel))
        }
        return true
    }

    /// The parcel to keep in a bucket, merged with what waits there; nil when there is no room.
    private mutating func admit(_ parcel: GossipParcel, to waiting: GossipParcel?) -> GossipParcel? {
        guard opaqueBytes + parcel.opaqueBytes <= GossipLimits.opaqueBytes else { return nil }
        guard let waiting else {
            opaqueBytes += parcel.opaqueBytes
            return parcel
        }
        guard let merged = waiting.merged(with: parcel) else { return nil }
        opaqueBytes += merged.opaqueBytes - waiting.opaqueBytes
        self.merged += 1
        return merged
    }

    private mutating func box(_ channel: String) -> Int {
        if let index = boxes.firstIndex(where: { $0.channel == channel }) { return index }
        boxes.append(ChannelBox(channel: channel))
        return boxes.count - 1
    }

    /// Drops what waits on a channel; whether there was something.
    mutating func forget(_ channel: String) -> Bool {
        guard let index = boxes.firstIndex(where: { $0.channel == channel }) else { return false }
        let box = boxes.remove(at: index)
        opaqueBytes -= box.gossip?.opaqueBytes ?? 0
        for broadcast in box.broadcasts { opaqueBytes -= broadcast.parcel.opaqueBytes }
        return !box.isEmpty
    }

    /// The next control message or unicast.
    mutating func nextControl() -> MeshMessage? {
        guard controlHead < control.count else { return nil }
        let message = control[controlHead]
        controlHead += 1
        controlBytes -= message.payload.count
        if controlHead == control.count || controlHead > 256 && controlHead * 2 > control.count {
            control.removeFirst(controlHead)
            controlHead = 0
        }
        return message
    }

    /// The next message of a channel: channels take turns; within one, gossip comes before broadcasts.
    mutating func nextGossip(_ statistics: inout MeshStatistics) -> MeshMessage? {
        statistics.mergedGossip += merged
        merged = 0
        while ready.isEmpty {
            guard let offset = boxes.indices.first(where: { !boxes[($0 + turn) % boxes.count].isEmpty }) else {
                return nil
            }
            let index = (offset + turn) % boxes.count
            turn = index + 1
            open(index, &statistics)
        }
        return ready.removeFirst()
    }

    /// Encodes one bucket.
    private mutating func open(_ index: Int, _ statistics: inout MeshStatistics) {
        let tag: MessageTag
        let parcel: GossipParcel
        if let gossip = boxes[index].gossip {
            boxes[index].gossip = nil
            (tag, parcel) = (.gossip, gossip)
        } else {
            (tag, parcel) = (.gossipBroadcast, boxes[index].broadcasts.removeFirst().parcel)
        }
        opaqueBytes -= parcel.opaqueBytes
        let encoded = parcel.encoded()
        statistics.droppedMessages += encoded.oversized
        if parcel.isPeriodicState {
            if boxes[index].lastState == encoded.fingerprint, boxes[index].heldBack < Self.quietRounds {
                boxes[index].heldBack += 1
                statistics.suppressedStates += 1
                return
            }
            boxes[index].lastState = encoded.fingerprint
            boxes[index].heldBack = 0
        }
        ready = encoded.payloads.map { MeshMessage(tag: tag, payload: $0) }
    }
}
