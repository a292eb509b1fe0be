import WeaveNetlink

/// Keeps containers from making themselves the router of other containers or of the host: router advertisements and
/// redirects that enter the bridge from a container are dropped before anybody sees them, whatever the receiver accepts.
/// The overlay drops those it captures itself; this is for neighbours on one host.
enum RouterAdvertisementGuard {
    static let table = "weave-guard"

    /// Both kinds of container ports: those we make, and those a container engine makes for us.
    static let rules = """
        table bridge \(table) {
            chain ports {
                type filter hook prerouting priority -300; policy accept;
                iifname "vethwepl*" icmpv6 type { nd-router-advert, nd-redirect } drop
                iifname "vethwl*" icmpv6 type { nd-router-advert, nd-redirect } drop
            }
        }
        """

    /// Installs the rules in the calling thread's namespace, replacing earlier ones in the same transaction.
    ///
    /// - Returns: nil, or why containers of this host can send one another router advertisements.
    static func install() -> String? {
        let script = "table bridge \(table) {}\ndelete table bridge \(table)\n" + rules
        guard let failure = Tool.run("nft", [script]) else { return nil }
        return "router advertisements between containers of this host are not filtered (containers ignore them by "
            + "their own settings): \(failure)"
    }

    static func remove() { _ = Tool.run("nft", ["delete table bridge \(table)"]) }
}
