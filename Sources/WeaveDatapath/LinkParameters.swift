public import WeaveCore

/// What a packet thread must know of a link to send on it: an immutable snapshot, replaced whole on every change.
public struct LinkParameters: Sendable, Hashable {
    /// Where packets go; nil while the peer has not been heard: nothing can be sent yet.
    public var remoteAddress: Endpoint?
    /// The largest overlay IP packet: a larger one with the don't-fragment flag is answered with ICMP quoting this.
    /// Optimistic while a search runs.
    public var mtu: Int
    /// The largest packet (UDP payload) with DF that the path may take; the limit of a batch in both classes.
    public var maximumPayload: Int
    /// Whether the path carries fragments, so that large packets may be left to the kernel to fragment.
    public var stackFragments: Bool
    /// The largest overlay IP packet known to arrive: what IPv4 packets are cut to. Never above `mtu`; less only
    /// while a search has found that `mtu` may be too much.
    public var fragmentMTU: Int
    /// Whether packets are sealed, which makes them 24 bytes longer.
    public var encrypted: Bool

    public init(
        remoteAddress: Endpoint?, mtu: Int, maximumPayload: Int, stackFragments: Bool, fragmentMTU: Int,
        encrypted: Bool
    ) {
        self.remoteAddress = remoteAddress
        self.mtu = mtu
        self.maximumPayload = maximumPayload
        self.stackFragments = stackFragments
        self.fragmentMTU = fragmentMTU
        self.encrypted = encrypted
    }

    /// The parameters of a link before anything is known of its path.
    public static func initial(remoteAddress: Endpoint?, encrypted: Bool) -> LinkParameters {
        LinkParameters(
            remoteAddress: remoteAddress, mtu: SleeveLayout.initialMTU,
            maximumPayload: SleeveLayout.maximumPacketLength, stackFragments: false,
            fragmentMTU: SleeveLayout.initialMTU, encrypted: encrypted)
    }

    /// The largest packet that carries overlay IP packets of `mtu` bytes.
    static func maximumPayload(mtu: Int, overhead: Int) -> Int {
        min(mtu + overhead - SleeveLayout.udpOverhead, SleeveLayout.maximumPacketLength)
    }
}
