import WeaveCore
import WeaveDatapath
import WeaveIPAM
import WeaveMesh

/// Lets the mesh drive the sleeve: the two rooms do not know each other. The allocator hears of peers on the way.
struct SleeveAdapter: MeshOverlay {
    let sleeve: SleeveOverlay
    /// nil when addresses are not allocated here.
    var allocator: AddressAllocator?

    var features: [String: String] { sleeve.features }

    func prepare(_ connection: OverlayConnection, events: any OverlayEvents) async throws {
        try sleeve.prepare(
            SleeveConnection(
                id: connection.id.rawValue, remoteName: connection.remoteName,
                remoteNickname: connection.remoteNickname, localAddress: connection.localAddress,
                remoteAddress: connection.remoteAddress, outbound: connection.outbound, uid: connection.uid,
                sessionKey: connection.sessionKey, remoteFeatures: connection.remoteFeatures),
            events: EventsAdapter(events: events))
    }

    func confirm(_ id: ConnectionID) async { sleeve.confirm(id.rawValue) }

    func onControl(_ id: ConnectionID, tag: UInt8, payload: [UInt8]) async {
        sleeve.onControl(id.rawValue, tag: tag, payload: payload)
    }

    func stop(_ id: ConnectionID) async { sleeve.stop(id.rawValue) }

    func onRoutes(_ routes: MeshRoutes) async {
        sleeve.onRoutes(
            ForwardingRoutes(
                ourself: routes.ourself, unicast: routes.unicast, knownPeers: routes.knownPeers,
                broadcastHops: routes.broadcastHops))
        await allocator?.peersChanged(routes.knownPeers.union([routes.ourself]))
    }

    func onPeerRemoved(_ peer: PeerName) async {
        sleeve.onPeerRemoved(peer)
        await allocator?.peerGone(peer)
    }

    private struct EventsAdapter: SleeveEvents {
        let events: any OverlayEvents

        func established(_ id: UInt64) { events.established(ConnectionID(rawValue: id)) }

        func failed(_ id: UInt64, reason: String) { events.failed(ConnectionID(rawValue: id), reason: reason) }

        func sendControl(_ id: UInt64, tag: UInt8, payload: [UInt8]) {
            events.sendControl(ConnectionID(rawValue: id), tag: tag, payload: payload)
        }

        func attributes(_ id: UInt64, _ attributes: SleeveAttributes) {
            events.attributes(
                ConnectionID(rawValue: id),
                OverlayAttributes(name: attributes.name, mtu: attributes.mtu, encrypted: attributes.encrypted))
        }
    }
}
