import Synchronization
import WeaveCore
import WeaveCrypto

/// What packet threads share of one link: its keys, and counts for reports.
final class PacketLink: Sendable {
    let id: UInt64
    let name: PeerName
    let sealer: PacketSealer?
    let opener: PacketOpener?
    let datagramsSent = Atomic<UInt64>(0)
    let bytesSent = Atomic<UInt64>(0)
    let datagramsReceived = Atomic<UInt64>(0)
    let bytesReceived = Atomic<UInt64>(0)

    init(id: UInt64, name: PeerName, key: SessionKey?, role: TrafficRole) {
        self.id = id
        self.name = name
        sealer = key.map { PacketSealer(key: $0, role: role) }
        opener = key.map { PacketOpener(key: $0, role: role) }
    }

    var isEncrypted: Bool { sealer != nil }
}

/// What a packet thread needs of one link while it handles a batch: plain values. The references are kept alive by the
/// snapshot that holds the entry.
@safe struct LinkEntry {
    let name: PeerName
    let parameters: LinkParameters
    let headerLength: Int
    /// The remote address in network byte order; 0 while it is not known.
    let address: UInt32
    let port: UInt16
    /// The address to send from in network byte order; 0 leaves it to the kernel.
    let source: UInt32
    private let reference: Unmanaged<PacketLink>
    private let sealerReference: Unmanaged<PacketSealer>?
    private let openerReference: Unmanaged<PacketOpener>?

    init(link: PacketLink, parameters: LinkParameters, source: IPv4Address?) {
        name = link.name
        self.parameters = parameters
        headerLength = SleeveLayout.headerLength(encrypted: link.isEncrypted)
        address = parameters.remoteAddress?.address.v4?.rawValue.bigEndian ?? 0
        port = parameters.remoteAddress?.port ?? 0
        self.source = source?.rawValue.bigEndian ?? 0
        unsafe reference = .passUnretained(link)
        unsafe sealerReference = link.sealer.map { unsafe .passUnretained($0) }
        unsafe openerReference = link.opener.map { unsafe .passUnretained($0) }
    }

    var isEncrypted: Bool { unsafe sealerReference != nil }

    @inline(__always)
    func withLink<Result>(_ body: (PacketLink) -> Result) -> Result {
        unsafe reference._withUnsafeGuaranteedRef { body($0) }
    }

    /// Seals a packet; false when it cannot be sent any more. Plain packets stay as they are.
    @inline(__always)
    func seal(_ packet: UnsafeMutableRawBufferPointer, dontFragment: Bool) -> Bool {
        guard let sealer = unsafe sealerReference else { return true }
        return unsafe sealer._withUnsafeGuaranteedRef { sealer in
            do throws(CryptoError) {
                unsafe try sealer.seal(packet, dontFragment: dontFragment)
                return true
            } catch {
                return false
            }
        }
    }

    /// Opens a packet; plain packets are accepted as they are.
    @inline(__always)
    func open(_ packet: UnsafeMutableRawBufferPointer) -> PacketOpening {
        guard let opener = unsafe openerReference else { return .accepted }
        return unsafe opener._withUnsafeGuaranteedRef { unsafe $0.open(packet) }
    }
}

/// What the packet threads go by: routes and links. Never changed, replaced whole.
///
/// Unchecked: all memory is written in `init` alone, and lives as long as the object.
@safe final class ForwardingSnapshot: @unchecked Sendable {
    let routes: ForwardingRoutes
    let count: Int
    /// The entries of `routes.ownBroadcastHops` that have a link.
    let ownHopCount: Int
    private let links: [PacketLink]
    private let entries: UnsafeMutablePointer<LinkEntry>
    private let ownHops: UnsafeMutablePointer<Int32>
    private let slots: UnsafeMutablePointer<Slot>
    private let mask: Int

    /// Bit 63 marks a used slot.
    private struct Slot { var key: UInt64; var index: Int32 }
    private static let used: UInt64 = 1 << 63

    init(
        routes: ForwardingRoutes, links: [(link: PacketLink, parameters: LinkParameters, source: IPv4Address?)]
    ) {
        self.routes = routes
        self.links = links.map(\.link)
        count = links.count
        unsafe entries = .allocate(capacity: max(links.count, 1))
        var capacity = 8
        while capacity < links.count * 2 { capacity *= 2 }
        mask = capacity - 1
        unsafe slots = .allocate(capacity: capacity)
        unsafe slots.initialize(repeating: Slot(key: 0, index: -1), count: capacity)
        var places: [PeerName: Int32] = [:]
        for (index, item) in links.enumerated() {
            unsafe (entries + index).initialize(
                to: LinkEntry(link: item.link, parameters: item.parameters, source: item.source))
            let name = item.link.name
            places[name] = Int32(truncatingIfNeeded: index)
            var slot = flatHash(name.rawValue) & mask
            while unsafe slots[slot].key != 0 { slot = (slot + 1) & mask }
            unsafe slots[slot] = Slot(key: name.rawValue | Self.used, index: Int32(truncatingIfNeeded: index))
        }
        let hops = routes.ownBroadcastHops.compactMap { places[$0] }
        ownHopCount = hops.count
        unsafe ownHops = .allocate(capacity: max(hops.count, 1))
        for (index, hop) in hops.enumerated() { unsafe (ownHops + index).initialize(to: hop) }
    }

    deinit {
        unsafe entries.deallocate()
        unsafe ownHops.deallocate()
        unsafe slots.deallocate()
    }

    /// The place of the link to a peer, -1 when there is none.
    @inline(__always)
    func find(_ name: PeerName) -> Int {
        let key = name.rawValue | Self.used
        var slot = flatHash(name.rawValue) & mask
        while true {
            // At most half of the slots are used, so an empty one ends the walk.
            let found = unsafe slots[slot]
            if found.key == key { return Int(found.index) }
            if found.key == 0 { return -1 }
            slot = (slot &+ 1) & mask
        }
    }

    /// The entry at a place that `find` or a list of hops gave.
    @inline(__always)
    func entry(_ index: Int) -> UnsafePointer<LinkEntry> { unsafe UnsafePointer(entries + index) }

    @inline(__always)
    func ownHop(_ index: Int) -> Int { unsafe Int(ownHops[index]) }

    /// What each link carried.
    var statistics: [SleeveLinkStatistics] {
        links.map { link in
            SleeveLinkStatistics(
                id: link.id, peer: link.name, datagramsSent: link.datagramsSent.load(ordering: .relaxed),
                bytesSent: link.bytesSent.load(ordering: .relaxed),
                datagramsReceived: link.datagramsReceived.load(ordering: .relaxed),
                bytesReceived: link.bytesReceived.load(ordering: .relaxed))
        }
    }

    /// The places of the links to which a broadcast that began at `source` goes on.
    func hops(from source: PeerName) -> [Int] {
        routes.broadcastHops(source).map { find($0) }.filter { $0 >= 0 }
    }
}

/// Where the control thread leaves the latest snapshot. Threads look at the generation once per batch, and take the
/// lock only when it has changed.
final class SnapshotBox: Sendable {
    private let generation = Atomic<UInt64>(1)
    private let current: Mutex<ForwardingSnapshot>

    init(_ snapshot: ForwardingSnapshot) { current = Mutex(snapshot) }

    func publish(_ snapshot: ForwardingSnapshot) {
        current.withLock { $0 = snapshot }
        generation.wrappingAdd(1, ordering: .releasing)
    }

    var latest: ForwardingSnapshot { current.withLock { $0 } }

    /// The latest snapshot when it is not that of `seen`, which is brought up to date.
    @inline(__always)
    func refresh(_ seen: inout UInt64) -> ForwardingSnapshot? {
        let latest = generation.load(ordering: .acquiring)
        guard latest != seen else { return nil }
        seen = latest
        return current.withLock { $0 }
    }
}
