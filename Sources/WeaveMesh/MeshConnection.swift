import WeaveCore

/// Who is at the other end of a live connection, and where. It does not change, so it can be handed about while the
/// connection's queues are being changed.
struct MeshNeighbour: Sendable {
    let id: ConnectionID
    /// The place of the remote peer in the table. It keeps it while the connection lives.
    let slot: Int
    let introduction: RemoteIntroduction
    let local: Endpoint
    let remote: Endpoint
    let outbound: Bool
    /// Whether topology is compared with the neighbour before it is sent.
    let takesDigests: Bool

    var name: PeerName { introduction.name }

    /// How the log speaks of the connection.
    var label: String { "->[\(remote)|\(introduction.name)(\(introduction.nickname))]" }
}

/// A live connection as the core sees it.
struct MeshConnection: Sendable {
    let neighbour: MeshNeighbour
    var isEstablished = false
    var overlay: OverlayAttributes?
    var outbox = GossipOutbox()
    var topology = TopologyOutbox()

    var takesDigests: Bool { neighbour.takesDigests }
}

/// The topology that waits to be sent on one connection. It is a set of places in the peer table; what they hold is read
/// when the message leaves.
struct TopologyOutbox: Sendable {
    /// Records to send in any case, and those to send unless the neighbour turns out to have them.
    var wanted = SlotSet()
    var news = SlotSet()
    /// Records to announce by version, unless the neighbour turns out to have them.
    var announcements = SlotSet()
    /// Whether to announce every record there is.
    var announcesAll = false
    /// Records to ask for.
    var questions: [PeerName] = []
    /// Broadcasts of topology, as only releases before 2.6 begin them.
    var broadcasts: [PeerName: SlotSet] = [:]
    /// What is left of an update too large for one message, and the tag and origin of its messages.
    var rest: [Int] = []
    var restOrigin: PeerName?
    /// For each slot the stamp of the record that the neighbour has been sent, has been told of, or has sent.
    private var known: [UInt64] = []
    /// The state of the table when all of it was last given to the neighbour.
    var lastFull: UInt64?
    var heldBack = 0

    /// Whether the neighbour knows of the record with this stamp.
    func knows(_ slot: Int, _ stamp: UInt64) -> Bool { slot < known.count && known[slot] == stamp }

    mutating func note(_ slot: Int, _ stamp: UInt64) {
        while known.count <= slot { known.append(0) }
        known[slot] = stamp
    }
}
