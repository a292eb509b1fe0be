import WeaveCore

/// How a host gets its peer name, in the order of 2.8.1, so that a replaced daemon keeps its name.
enum PeerIdentity {
    /// What the name was derived from.
    enum Source: String, Sendable { case flag, bridge, system, stored, random }

    /// The first that there is: the flag, the address of the bridge, the system's ids, the name stored before, a
    /// random name.
    static func choose(
        flag: PeerName?, bridge: PeerName?, system: PeerName?, stored: PeerName?,
        using generator: inout some RandomNumberGenerator
    ) -> (name: PeerName, source: Source) {
        if let flag { return (flag, .flag) }
        if let bridge, bridge != .unknown { return (bridge, .bridge) }
        if let system { return (system, .system) }
        if let stored { return (stored, .stored) }
        return (local(PeerName(truncating: generator.next())), .random)
    }

    /// Makes the name a locally administered address of one interface, as a bridge needs.
    private static func local(_ name: PeerName) -> PeerName {
        PeerName(truncating: name.rawValue & ~(0x01 << 40) | 0x02 << 40)
    }
}
