internal import NIOCore
internal import WeaveCore

/// One socket of a router and all that belongs to it. Confined to the router.
final class MeshLink {
    enum Phase {
        case handshaking
        /// The handshake is over; the overlay is being asked.
        case preparing
        case accepted
    }

    let id: ConnectionID
    let channel: any Channel
    let outbound: Bool
    let local: Endpoint
    let remote: Endpoint
    let acceptAnyName: Bool
    var machine: ConnectionMachine
    var phase = Phase.handshaking
    var introduction: RemoteIntroduction?
    /// Steps of the handshake that the remote had taken when we last looked.
    var steps = 0
    /// Whether the overlay knows of the connection and must hear of its end.
    var overlayIsPrepared = false
    /// What the overlay said before the core knew of the connection.
    var earlyAttributes: OverlayAttributes?

    /// Bytes given to the socket that the system has not taken.
    var unwritten = 0
    /// Bytes given to the socket of whose fate nobody will tell.
    var untold = 0
    /// Whether the core has more to send.
    var hasMore = false

    /// Messages and bytes that wait for handlers or the overlay.
    var waitingMessages = 0
    var waitingBytes = 0
    var isPaused = false
    lazy var deliveries = JobQueue(isSteady: false)
    lazy var overlayJobs = JobQueue(isSteady: true)

    init(
        id: ConnectionID, channel: any Channel, outbound: Bool, local: Endpoint, remote: Endpoint,
        acceptAnyName: Bool, machine: ConnectionMachine
    ) {
        self.id = id
        self.channel = channel
        self.outbound = outbound
        self.local = local
        self.remote = remote
        self.acceptAnyName = acceptAnyName
        self.machine = machine
    }

    /// How the log calls the connection.
    var label: String {
        guard let introduction else { return "->[\(remote)]" }
        return "->[\(remote)|\(introduction.name)(\(introduction.nickname))]:"
    }
}

/// Asynchronous jobs that run one after the other. Confined to the router, which runs them.
final class JobQueue {
    /// Those before `position` are taken, and hold nothing any more: a queue that is never empty must not keep all that
    /// ever went through it.
    private var jobs: [(@Sendable () async -> Void)?] = []
    private var position = 0
    /// Places of taken jobs that are kept before the others move up.
    private static let takenPlaces = 64
    var task: Task<Void, Never>?
    /// Whether the jobs are to finish in peace when the router stops.
    let isSteady: Bool

    init(isSteady: Bool) { self.isSteady = isSteady }

    var count: Int { jobs.count - position }

    func append(_ job: @escaping @Sendable () async -> Void) { jobs.append(job) }

    func next() -> (@Sendable () async -> Void)? {
        guard position < jobs.count else {
            removeAll()
            return nil
        }
        let job = jobs[position]
        jobs[position] = nil
        position += 1
        if position > Self.takenPlaces, position * 2 > jobs.count {
            jobs.removeFirst(position)
            position = 0
        }
        return job
    }

    func removeAll() {
        jobs = []
        position = 0
    }
}
