public import WeaveCore

/// An address of the host in the overlay.
public struct Exposure: Hashable, Sendable, CustomStringConvertible {
    /// The address with the length of its subnet's prefix; host bits are the host's.
    public var address: IPv4CIDR
    /// Whether traffic between the subnet and the world outside takes the host's address. Without, containers reach only
    /// hosts that have a route back to them.
    public var isMasqueraded: Bool

    public init(_ address: IPv4CIDR, isMasqueraded: Bool = true) {
        self.address = address
        self.isMasqueraded = isMasqueraded
    }

    public var description: String { isMasqueraded ? "\(address)" : "\(address) without masquerade" }
}

/// What should be exposed: for the daemon to keep over restarts, because the kernel forgets it when rules are flushed.
public struct ExposureState: Hashable, Sendable {
    /// In any order. Of two addresses in one subnet it takes one to have the subnet masqueraded.
    public var exposures: [Exposure]
    /// The ranges whose containers run here and see the true source of what is sent to them; nil for none, as 2.8.1
    /// without `--no-masq-local`.
    public var localRanges: [IPv4CIDR]?

    public init(_ exposures: [Exposure] = [], localRanges: [IPv4CIDR]? = nil) {
        self.exposures = exposures
        self.localRanges = localRanges
    }

    /// Notes what `HostExposure.expose` does.
    public mutating func expose(_ addresses: [IPv4CIDR], masquerade: Bool = true) {
        exposures.expose(addresses, masquerade: masquerade)
    }

    /// Notes what `HostExposure.hide` does.
    public mutating func hide(_ addresses: [IPv4CIDR]) { exposures.removeAll { addresses.contains($0.address) } }
}

extension [Exposure] {
    /// Adds addresses, each once. The last word on a subnet counts for all its addresses, because they share its rules.
    mutating func expose(_ addresses: [IPv4CIDR], masquerade: Bool) {
        let networks = Set(addresses.map(\.masked))
        for index in indices where networks.contains(self[index].address.masked) {
            self[index].isMasqueraded = masquerade
        }
        for address in addresses where !contains(where: { $0.address == address }) {
            append(Exposure(address, isMasqueraded: masquerade))
        }
    }
}

/// How the host's firewall is to be set up.
public struct HostExposureOptions: Hashable, Sendable {
    /// The bridge's name.
    public var bridge = "weave"
    /// The TCP port on 127.0.0.1 that neighbours of the host must not reach even where the host routes packets to
    /// loopback (CVE-2020-8558); nil when the daemon listens on none.
    public var controlPort: UInt16? = 6784
    /// Whether a network policy controller decides what containers receive (2.8.1's `--expect-npc`). Until it does,
    /// nothing new reaches them.
    public var expectsPolicy = false
    /// Whether masqueraded connections take ports at random, which keeps simultaneous DNS queries of one container from
    /// being lost. Needs iptables 1.6.2.
    public var randomizesPorts = false
    /// Whether exposing switches on the host's forwarding of IPv4 between all its devices. Otherwise a host that does not
    /// forward is left alone, and a warning says so.
    public var switchesOnForwarding = false

    public init() {}
}

/// What an operation did.
public struct ExposureReport: Hashable, Sendable {
    /// One line for each thing that was not as it should be and is now.
    public var repairs: [String] = []
    /// What could not be done and does not stop the host from working; worth one line each in the log.
    public var warnings: [String] = []

    /// Whether anything had to be changed.
    public var isRepaired: Bool { !repairs.isEmpty }

    public init(repairs: [String] = [], warnings: [String] = []) {
        self.repairs = repairs
        self.warnings = warnings
    }
}
