public import WeaveCore

/// Where each MAC address is: at which peer, or here (section 5.1).
///
/// A flat table with open addressing: a lookup is a load or two and allocates nothing. Bounded: at the limit the entry
/// heard longest ago makes room. One owner at a time.
///
/// Two places may claim one address: a container moved, or a frame came back through a bridge that reflects. A claim
/// against the other side of this host (the local bridge against the overlay, or the other way round) wins once the
/// holder has been silent for `holdTime`, or `reflectionTime` when the claimant broadcasts, as one that has just moved
/// does. While the holder talks it keeps the address, so nothing flaps. Between two remote peers the latest wins.
public struct MACTable: Sendable {
    /// More addresses than a large cluster has containers; about 4 MB.
    public static let defaultLimit = 65_536
    /// Entries not heard for so long go.
    public static let maximumAge: Duration = .seconds(600)
    /// How often `expire` should be called.
    public static let sweepInterval: Duration = .seconds(60)
    /// How long the holder of an address must be silent before another side takes it: a moved container is reached
    /// again within a second.
    public static let holdTime: Duration = .milliseconds(750)
    /// A frame that we put on the bridge comes back, if it does, sooner than this.
    public static let reflectionTime: Duration = .milliseconds(100)

    /// What learning an address changed.
    public enum Learned: Sendable, Hashable {
        /// Known here already.
        case unchanged
        /// Not known before.
        case new
        /// It was at another peer: whatever was decided with that is out of date.
        case moved(from: PeerName)
        /// It stays where it is: the frame must not be forwarded.
        case held(at: PeerName)
        /// A group address or zero: no frame comes from there.
        case invalid
    }

    /// One address for reports.
    public struct Entry: Sendable, Hashable {
        public let mac: MACAddress
        public let peer: PeerName
        /// When a frame from it was seen last.
        public let lastSeen: MonotonicTime
    }

    /// 0 marks an empty slot: the zero address is never learned.
    private struct Slot {
        var key: UInt64 = 0
        var peer: UInt64 = 0
        var seen: Int64 = 0
        var node: Int32 = 0
    }

    /// A place in the order of `listed`, oldest first. Refreshing moves an entry only when that is a minute old, so
    /// that the order costs nothing per packet.
    private struct Node {
        var key: UInt64
        var listed: Int64
        var previous: Int32
        var next: Int32
    }

    public let ourself: PeerName
    public let limit: Int
    /// The number of addresses.
    public private(set) var count = 0
    private var slots: [Slot]
    private var mask: Int
    private var nodes: [Node] = []
    private var oldest: Int32 = -1
    private var newest: Int32 = -1
    private var free: Int32 = -1

    private static let refreshAge: Int64 = 60_000_000_000

    /// An empty table of the peer `ourself`, for at most `limit` addresses.
    public init(ourself: PeerName, limit: Int = MACTable.defaultLimit) {
        self.ourself = ourself
        self.limit = max(limit, 1)
        slots = Array(repeating: Slot(), count: 64)
        mask = 63
    }

    // MARK: - Use

    /// The peer at which `mac` is, nil when that is not known.
    public func lookup(_ mac: MACAddress) -> PeerName? {
        let index = find(mac.rawValue)
        return index < 0 ? nil : PeerName(truncating: slots[index].peer)
    }

    /// A frame from `mac` was captured here (`peer` is ourself) or came from `peer` by way of the overlay.
    ///
    /// - Parameter announces: The frame was a broadcast or multicast, as one that has moved sends first.
    public mutating func learn(
        _ mac: MACAddress, at peer: PeerName, announces: Bool, now: MonotonicTime
    ) -> Learned {
        guard mac.rawValue != 0, !mac.isGroup else { return .invalid }
        let index = find(mac.rawValue)
        guard index >= 0 else {
            insert(mac.rawValue, peer: peer.rawValue, now: now.nanoseconds)
            return .new
        }
        let holder = slots[index].peer
        if holder != peer.rawValue {
            let ours = ourself.rawValue
            if holder == ours || peer.rawValue == ours {
                let silence = now.nanoseconds &- slots[index].seen
                let needed = announces ? Self.reflectionTime : Self.holdTime
                if silence < needed.wholeNanoseconds { return .held(at: PeerName(truncating: holder)) }
            }
            slots[index].peer = peer.rawValue
        }
        slots[index].seen = now.nanoseconds
        refresh(slots[index].node, now: now.nanoseconds)
        return holder == peer.rawValue ? .unchanged : .moved(from: PeerName(truncating: holder))
    }

    /// Removes entries older than `maximumAge` and returns them.
    public mutating func expire(_ now: MonotonicTime) -> [Entry] {
        var expired: [Entry] = []
        let maximum = Self.maximumAge.wholeNanoseconds
        // Each entry is looked at once at most: one that is listed again comes behind `last`.
        var remaining = count
        while remaining > 0, oldest >= 0, now.nanoseconds &- nodes[Int(oldest)].listed > maximum {
            remaining -= 1
            let index = find(nodes[Int(oldest)].key)
            guard index >= 0 else { break }
            if now.nanoseconds &- slots[index].seen > maximum {
                expired.append(entry(slots[index]))
                remove(at: index)
            } else {
                relist(oldest, at: slots[index].seen)
            }
        }
        return expired
    }

    /// Removes all addresses at a peer that is gone; returns how many.
    @discardableResult
    public mutating func forget(_ peer: PeerName) -> Int {
        let keys = slots.lazy.filter { $0.key != 0 && $0.peer == peer.rawValue }.map(\.key)
        let gone = Array(keys)
        for key in gone {
            let index = find(key)
            if index >= 0 { remove(at: index) }
        }
        return gone.count
    }

    /// All addresses, in their order.
    public var entries: [Entry] {
        slots.filter { $0.key != 0 }.map(entry).sorted { $0.mac < $1.mac }
    }

    private func entry(_ slot: Slot) -> Entry {
        Entry(
            mac: MACAddress(truncating: slot.key), peer: PeerName(truncating: slot.peer),
            lastSeen: MonotonicTime(nanoseconds: slot.seen))
    }

    // MARK: - Slots

    /// The slot of a key, -1 when it has none. At most half of the slots are used, so an empty one ends the walk.
    @inline(__always)
    private func find(_ key: UInt64) -> Int {
        guard key != 0 else { return -1 }
        var index = flatHash(key) & mask
        while true {
            let found = slots[index].key
            if found == key { return index }
            if found == 0 { return -1 }
            index = (index &+ 1) & mask
        }
    }

    private mutating func insert(_ key: UInt64, peer: UInt64, now: Int64) {
        if count >= limit, oldest >= 0 { remove(at: find(nodes[Int(oldest)].key)) }
        if (count + 1) * 2 > slots.count { grow() }
        let node = makeNode(key, listed: now)
        place(Slot(key: key, peer: peer, seen: now, node: node))
        count += 1
    }

    private mutating func place(_ slot: Slot) {
        var index = flatHash(slot.key) & mask
        while slots[index].key != 0 { index = (index &+ 1) & mask }
        slots[index] = slot
    }

    private mutating func grow() {
        let old = slots
        slots = Array(repeating: Slot(), count: old.count * 2)
        mask = slots.count - 1
        for slot in old where slot.key != 0 { place(slot) }
    }

    /// Empties a slot and moves those behind it up, so that no walk ends too early.
    private mutating func remove(at removed: Int) {
        guard removed >= 0 else { return }
        let node = slots[removed].node
        unlink(node)
        nodes[Int(node)].next = free
        free = node
        count -= 1
        var hole = removed
        var index = (hole &+ 1) & mask
        while slots[index].key != 0 {
            let home = flatHash(slots[index].key) & mask
            if (index &- home) & mask >= (index &- hole) & mask {
                slots[hole] = slots[index]
                hole = index
            }
            index = (index &+ 1) & mask
        }
        slots[hole] = Slot()
    }

    // MARK: - Order

    private mutating func refresh(_ node: Int32, now: Int64) {
        if now &- nodes[Int(node)].listed > Self.refreshAge { relist(node, at: now) }
    }

    private mutating func relist(_ node: Int32, at time: Int64) {
        unlink(node)
        nodes[Int(node)].listed = time
        append(node)
    }

    private mutating func makeNode(_ key: UInt64, listed: Int64) -> Int32 {
        let node: Int32
        if free >= 0 {
            node = free
            free = nodes[Int(node)].next
            nodes[Int(node)] = Node(key: key, listed: listed, previous: -1, next: -1)
        } else {
            node = Int32(truncatingIfNeeded: nodes.count)
            nodes.append(Node(key: key, listed: listed, previous: -1, next: -1))
        }
        append(node)
        return node
    }

    private mutating func append(_ node: Int32) {
        nodes[Int(node)].previous = newest
        nodes[Int(node)].next = -1
        if newest >= 0 { nodes[Int(newest)].next = node } else { oldest = node }
        newest = node
    }

    private mutating func unlink(_ node: Int32) {
        let (previous, next) = (nodes[Int(node)].previous, nodes[Int(node)].next)
        if previous >= 0 { nodes[Int(previous)].next = next } else { oldest = next }
        if next >= 0 { nodes[Int(next)].previous = previous } else { newest = previous }
    }
}
