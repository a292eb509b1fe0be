import WeaveCore

/// Which addresses the daemon hands out, and whether the operator said so.
struct AllocationRange: Sendable, Equatable {
    /// What 2.8.1 takes when nothing is said.
    static let standard = "10.32.0.0/12"

    /// As given; empty switches allocation off.
    let text: String
    let isGiven: Bool
    /// Routes of this device are the network's own.
    let bridge: String

    /// Whether the host reaches something else where the containers' addresses would be.
    ///
    /// - Returns: A warning, when the operator chose the range.
    /// - Throws: `CommandError` when it is the standard range.
    func check(_ routes: [HostRoute]) throws(CommandError) -> String? {
        // What is no range the daemon refuses in its own words.
        guard let range = IPv4CIDR(text),
            let route = routes.first(where: { $0.device != bridge && $0.destination.overlaps(range) })
        else { return nil }
        guard isGiven else {
            throw CommandError(
                "the default --ipalloc-range \(text) overlaps with existing route \(route) on this host. Pick another "
                    + "range and give it on all hosts with --ipalloc-range, or switch allocation off with "
                    + "--ipalloc-range ''")
        }
        return "WARNING: --ipalloc-range \(text) overlaps with existing route \(route) on this host. Unless this is "
            + "deliberate, pick another range, the same on all hosts"
    }
}
