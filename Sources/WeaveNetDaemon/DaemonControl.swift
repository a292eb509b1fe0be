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
    func attach(_ order: AttachOrder) async throws

    /// Takes addresses from a container, and its interface when no address is left.
    ///
    /// - Returns: The addresses it had.
    func detach(_ order: AttachOrder) async throws -> [IPv4CIDR]
}

/// A container and the addresses it is to get, or to lose.
struct AttachOrder: Sendable, Equatable {
    /// A container has few addresses; more are a mistake.
    static let maximumAddresses = 64
    /// The longest path the kernel takes.
    static let maximumContainerLength = 4095

    /// A network namespace by name, by path, or by the id of a process in it.
    var container: String
    var addresses: [IPv4CIDR]
    /// Whether the container gets a route for multicast through the overlay.
    var multicastRoute = true

    /// - Throws: `DaemonError` that says what is wrong with the fields `container` and `address` of a form.
    init(form: FormFields, needsAddress: Bool) throws(DaemonError) {
        guard let container = form.only("container"), !container.isEmpty else {
            throw DaemonError(
                .badRequest, "give exactly one container: a network namespace by name, path or process id")
        }
        guard container.utf8.count <= Self.maximumContainerLength, container == printable(container),
            !container.split(separator: "/").contains("..")
        else { throw DaemonError(.badRequest, "'\(printable(container))' cannot name a network namespace") }
        let texts = form.all("address")
        guard texts.count <= Self.maximumAddresses else {
            throw DaemonError(.badRequest, "more than \(Self.maximumAddresses) addresses for one container")
        }
        if needsAddress, texts.isEmpty {
            throw DaemonError(
                .badRequest,
                "IP address allocation must be enabled to attach without an address, and this release has none: "
                    + "give the address, such as 10.32.0.1/12")
        }
        self.container = container
        addresses = []
        for text in texts {
            guard let address = IPv4CIDR(text) else {
                throw DaemonError(
                    .badRequest, "'\(printable(text))' is no address with prefix length, such as 10.32.0.1/12")
            }
            if !addresses.contains(address) { addresses.append(address) }
        }
        multicastRoute = form.only("multicast-route") != "false"
    }
}
