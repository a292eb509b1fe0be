public import WeaveCore

/// Where a frame captured on the local bridge goes (section 5.2).
public enum CaptureDecision: Sendable, Hashable {
    case drop(FrameDrop)
    /// To each of `ForwardingRoutes.ownBroadcastHops`, the record addressed to that neighbour.
    case flood
    /// To the neighbour `via`, the record addressed to `peer`.
    case unicast(peer: PeerName, via: PeerName)
}

/// Where a frame from the overlay goes (section 5.3).
public enum OverlayDecision: Sendable, Hashable {
    case drop(FrameDrop)
    /// About the link itself.
    case special
    /// On to the neighbour `via` with its record unchanged.
    case relay(via: PeerName)
    /// To the local bridge.
    case deliver
    /// To the local bridge, and to each of `ForwardingRoutes.broadcastHops(source)`, the record addressed to that
    /// neighbour.
    case deliverAndFlood
}

/// Where frames go: pure functions over what has been learned and the routes. Learning is part of them.
public enum ForwardingDecision {
    /// A frame was captured on the local bridge.
    ///
    /// - Returns: what to do, and what was learned about the frame's source.
    public static func captured(
        _ frame: FrameHeader, routes: ForwardingRoutes, table: inout MACTable, now: MonotonicTime
    ) -> (action: CaptureDecision, learned: MACTable.Learned) {
        let learned = table.learn(frame.source, at: routes.ourself, announces: frame.destination.isGroup, now: now)
        switch learned {
        case .held: return (.drop(.foreignSource), learned)
        case .invalid: return (.drop(.invalidSource), learned)
        case .unchanged, .new, .moved: break
        }
        if frame.destination == .spanningTree { return (.drop(.spanningTree), learned) }
        if frame.carriesRouterControl { return (.drop(.routerControl), learned) }
        guard let peer = table.lookup(frame.destination) else { return (.flood, learned) }
        if peer == routes.ourself { return (.drop(.local), learned) }
        guard let via = routes.nextHop(to: peer) else { return (.drop(.noRoute), learned) }
        return (.unicast(peer: peer, via: via), learned)
    }

    /// A frame arrived in a packet from the neighbour `neighbour`, with the peers of its record.
    ///
    /// - Returns: what to do, and what was learned about the frame's source.
    public static func received(
        _ frame: FrameHeader, source: PeerName, destination: PeerName, from neighbour: PeerName,
        routes: ForwardingRoutes, table: inout MACTable, now: MonotonicTime
    ) -> (action: OverlayDecision, learned: MACTable.Learned) {
        guard routes.knows(source), routes.knows(destination) else { return (.drop(.unknownPeer), .unchanged) }
        if frame.isSpecial {
            let isForUs = source == neighbour && destination == routes.ourself
            return (isForUs ? .special : .drop(.straySpecial), .unchanged)
        }
        if source == routes.ourself { return (.drop(.ownFrame), .unchanged) }
        if frame.carriesRouterControl { return (.drop(.routerControl), .unchanged) }
        if destination != routes.ourself {
            guard let via = routes.nextHop(to: destination) else { return (.drop(.noRoute), .unchanged) }
            return (.relay(via: via), .unchanged)
        }
        // A frame whose source we hold is delivered all the same, as any claim against the holder: only where
        // answers go is undecided.
        let learned = table.learn(frame.source, at: source, announces: frame.destination.isGroup, now: now)
        if learned == .invalid { return (.drop(.invalidSource), learned) }
        let isHere = table.lookup(frame.destination) == routes.ourself
        return (isHere ? .deliver : .deliverAndFlood, learned)
    }

    /// 2.8.1's text for a captured frame whose source is at another peer.
    public static func foreignSourceText(_ frame: FrameHeader, at peer: PeerName) -> String {
        "Captured frame from MAC (\(frame.source)) to (\(frame.destination)) associated with another peer \(peer)"
    }
}
