import WeaveCore

/// How one frame goes to one neighbour (section 4.4).
public enum FrameDecision: Sendable, Hashable {
    /// In a packet with DF.
    case sendDontFragment
    /// In a packet without DF, which the kernel may fragment.
    case send
    /// Cut by `IPv4Fragmenter` for `mtu`, each piece in a packet with DF.
    case fragment(mtu: Int)
    /// Not sent: answered with `FragmentationNeeded` or `PacketTooBig` quoting `mtu`, routed as if it came from the
    /// overlay with the peers of the frame exchanged.
    case answerTooBig(mtu: Int)
    /// Not sent.
    case drop(FrameDrop)
}

/// Why a frame was not carried: the label of a counter.
public enum FrameDrop: Int, Sendable, Hashable, CaseIterable {
    /// The address of the neighbour is not known yet.
    case noContact
    /// A broadcast frame with the don't-fragment flag does not fit the path.
    case tooBigBroadcast
    /// A frame fits neither the path nor a UDP datagram, and nobody can be told.
    case tooBig
    /// Shorter than its headers say.
    case malformed
    /// Spanning tree stays on its own bridge.
    case spanningTree
    /// The destination is on the bridge the frame came from.
    case local
    /// The source MAC is at another peer.
    case foreignSource
    /// The source MAC is a group address or zero.
    case invalidSource
    /// An IPv6 router advertisement or redirect.
    case routerControl
    /// A frame of ours came back.
    case ownFrame
    /// A peer of the record is not in the topology.
    case unknownPeer
    /// There is no route to the destination peer.
    case noRoute
    /// A special frame that is not from the neighbour to us.
    case straySpecial

    /// The name of the counter.
    public var label: String {
        switch self {
        case .noContact: "no_contact"
        case .tooBigBroadcast: "too_big_broadcast"
        case .tooBig: "too_big"
        case .malformed: "malformed"
        case .spanningTree: "spanning_tree"
        case .local: "local"
        case .foreignSource: "foreign_source"
        case .invalidSource: "invalid_source"
        case .routerControl: "router_control"
        case .ownFrame: "own_frame"
        case .unknownPeer: "unknown_peer"
        case .noRoute: "no_route"
        case .straySpecial: "stray_special"
        }
    }
}

/// How many frames were dropped, by reason. One owner; merge those of several threads for reports.
public struct FrameDropCounters: Sendable, Equatable {
    private var counts = [UInt64](repeating: 0, count: FrameDrop.allCases.count)

    public init() {}

    /// The number of frames dropped for `reason`.
    public subscript(reason: FrameDrop) -> UInt64 { counts[reason.rawValue] }

    /// Counts one frame.
    public mutating func add(_ reason: FrameDrop) { counts[reason.rawValue] &+= 1 }

    /// Adds the counts of another owner.
    public mutating func merge(_ other: FrameDropCounters) {
        for index in counts.indices { counts[index] &+= other.counts[index] }
    }

    /// All frames dropped.
    public var total: UInt64 { counts.reduce(0, &+) }
}

extension LinkParameters {
    /// The largest overlay IP packet that goes in one packet with DF: `mtu`, or what a UDP datagram holds.
    public var largestDatagram: Int { min(mtu, maximumPayload - packetOverhead) }

    /// What a packet adds to the overlay IP packet inside it.
    private var packetOverhead: Int { SleeveLayout.overhead(encrypted: encrypted) - SleeveLayout.udpOverhead }

    /// How a frame goes to this neighbour. `broadcast`: it is one of several copies, so nobody is told when it does
    /// not fit.
    public func decision(for frame: FrameHeader, broadcast: Bool) -> FrameDecision {
        guard remoteAddress != nil else { return .drop(.noContact) }
        switch frame.frameClass {
        case .dontFragment:
            let mtu = largestDatagram
            guard frame.length > mtu + SleeveLayout.ethernetHeaderLength else { return .sendDontFragment }
            return broadcast ? .drop(.tooBigBroadcast) : .answerTooBig(mtu: mtu)
        case .fragmentable:
            let fitsDatagram = frame.length <= largestPacketFrame
            if stackFragments, fitsDatagram { return .send }
            let mtu = min(fragmentMTU, largestDatagram)
            return frame.length > mtu + SleeveLayout.ethernetHeaderLength ? .fragment(mtu: mtu) : .sendDontFragment
        case .other:
            return decisionForOther(frame, broadcast: broadcast)
        }
    }

    /// The largest frame that the kernel can carry in fragments.
    private var largestPacketFrame: Int {
        SleeveLayout.maximumPacketLength - packetOverhead + SleeveLayout.ethernetHeaderLength
    }

    /// IPv6 has no fragmentation on the way, so a source is told what fits; the smallest MTU that it must accept is
    /// always left to the kernel to fragment. ARP and the rest always are.
    private func decisionForOther(_ frame: FrameHeader, broadcast: Bool) -> FrameDecision {
        let mtu = max(largestDatagram, PacketTooBig.minimumMTU)
        let isTooBig = frame.length > mtu + SleeveLayout.ethernetHeaderLength
        if isTooBig, frame.etherType == EtherType.ipv6, !broadcast, !frame.destination.isGroup {
            return .answerTooBig(mtu: mtu)
        }
        return frame.length <= largestPacketFrame ? .send : .drop(.tooBig)
    }
}
