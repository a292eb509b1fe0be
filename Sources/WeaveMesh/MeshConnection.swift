import WeaveCore

/// Who is at the other end of a live connection, and where. It does not change, so it can be handed about while the
/// connection's queues are being changed, and shared by all copies of the core.
final class MeshNeighbour: Sendable {
    let id: ConnectionID
    /// The place of the remote peer in the table. It keeps it while the connection lives.
    let slot: Int
    let introduction: RemoteIntroduction
    let local: Endpoint
    let remote: Endpoint
    let outbound: Bool
    /// Whether topology is compared with the neighbour before it is sent.
    let takesDigests: Bool

    init(
        id: ConnectionID, slot: Int, introduction: RemoteIntroduction, local: Endpoint, remote: Endpoint,
        outbound: Bool, takesDigests: Bool
    ) {
        self.id = id
        self.slot = slot
        self.introduction = introduction
        self.local = local
        self.remote = remote
        self.outbound = outbound
        self.takesDigests = takesDigests
    }

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
