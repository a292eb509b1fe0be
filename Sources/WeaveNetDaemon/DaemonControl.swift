import WeaveCore

/// What the control interface can ask of the daemon.
protocol DaemonControl: Sendable {
    func status() async -> DaemonStatus

    /// Adds targets, or puts them in place of all there are, and keeps them for a restart.
    ///
    /// - Returns: One line for each peer that cannot be one; the others are targets now.
    func connect(_ peers: [String], replace: Bool) async throws -> [String]

    /// Stops dialling targets and forgets them. Unknown ones are ignored; live connections stay.
    func forget(_ peers: [String]) async throws

    /// Joins a container to the overlay. Doing it twice is doing it once.
    ///
    /// - Returns: The addresses it got, in the order of the words of the order.
    func attach(_ order: AttachOrder) async throws -> [IPv4CIDR]

    /// Takes addresses from a container, and its interface when no address is left.
    ///
    /// - Returns: The addresses it had.
    func detach(_ order: AttachOrder) async throws -> [IPv4CIDR]

    /// Gives this host addresses in the network, one of the default subnet without words, and a way for containers to
    /// other networks.
    ///
    /// - Parameter masquerade: Whether containers reach those under the host's address.
    /// - Returns: The address for each word.
    func expose(_ words: [AddressWord], masquerade: Bool) async throws -> [IPv4CIDR]

    /// Takes such addresses back, all of them without words.
    ///
    /// - Returns: The addresses that the host had.
    func hide(_ words: [AddressWord]) async throws -> [IPv4CIDR]

    /// The part that deals with addresses; nil when allocation is off.
    var addresses: (any AddressControl)? { get }
}

/// A container and the addresses it is to get, or to lose.
struct AttachOrder: Sendable, Equatable {
    /// The longest path the kernel takes.
    static let maximumContainerLength = 4095

    /// A network namespace by name, by path, or by the id of a process in it.
    var container: String
    /// Which addresses; none asks for one of the default subnet, or takes all away.
    var words: [AddressWord]
    /// Whether the container gets a route for multicast through the overlay.
    var multicastRoute = true

    /// - Throws: `DaemonError` that says what is wrong with the fields `container` and `address` of a form.
    init(form: FormFields) throws(DaemonError) {
        guard let container = form.only("container"), !container.isEmpty else {
            throw DaemonError(
                .badRequest, "give exactly one container: a network namespace by name, path or process id")
        }
        guard container.utf8.count <= Self.maximumContainerLength, container == printable(container),
            !container.split(separator: "/").contains("..")
        else { throw DaemonError(.badRequest, "'\(printable(container))' cannot name a network namespace") }
        self.container = container
        words = try AddressWord.list(form.all("address"))
        multicastRoute = form.only("multicast-route") != "false"
    }
}
