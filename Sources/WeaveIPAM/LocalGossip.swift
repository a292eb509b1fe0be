public import WeaveCore

/// Gossip among peers of one process, without a network: for tests, examples, and programs that embed several allocators.
public actor LocalGossip {
    private struct Member {
        var handler: any GossipHandler
        var mailbox: AsyncStream<Delivery>.Continuation
        var reader: Task<Void, Never>
    }

    private enum Delivery: Sendable {
        case unicast(PeerName, [UInt8])
        case broadcast(PeerName, [UInt8])
        case gossip([UInt8])
    }

    private var members: [PeerName: Member] = [:]
    private var cuts: Set<[PeerName]> = []

    /// Messages that wait for one peer; beyond, the oldest go, as on a connection that breaks.
    static let mailboxSize = 4096

    /// An exchange with no peers.
    public init() {}

    /// The peers that are here.
    public var peers: Set<PeerName> { Set(members.keys) }

    /// A peer joins. Its channel works from now on; call `introduce` when its handler is ready.
    public func join(_ peer: PeerName, _ handler: any GossipHandler) -> any GossipChannel {
        leave(peer)
        let (stream, mailbox) = AsyncStream.makeStream(
            of: Delivery.self, bufferingPolicy: .bufferingNewest(Self.mailboxSize))
        let reader = Task {
            for await delivery in stream { await Self.deliver(delivery, to: handler) }
        }
        members[peer] = Member(handler: handler, mailbox: mailbox, reader: reader)
        return Channel(exchange: self, peer: peer)
    }

    /// Exchanges states between a peer and all others, as a mesh does on new connections.
    public func introduce(_ peer: PeerName) async {
        guard let newcomer = members[peer] else { return }
        for (name, member) in members where name != peer && isJoined(peer, name) {
            for bytes in await member.handler.completeState()?.encode() ?? [] { newcomer.mailbox.yield(.gossip(bytes)) }
            for bytes in await newcomer.handler.completeState()?.encode() ?? [] { member.mailbox.yield(.gossip(bytes)) }
        }
    }

    /// A peer goes, with all that was on its way to it.
    public func leave(_ peer: PeerName) {
        guard let member = members.removeValue(forKey: peer) else { return }
        member.mailbox.finish()
        member.reader.cancel()
    }

    /// Two peers lose sight of each other.
    public func cut(_ one: PeerName, _ other: PeerName) { cuts.insert([one, other].sorted()) }

    /// Two peers see each other again.
    public func mend(_ one: PeerName, _ other: PeerName) { cuts.remove([one, other].sorted()) }

    private func isJoined(_ one: PeerName, _ other: PeerName) -> Bool { !cuts.contains([one, other].sorted()) }

    private static func deliver(_ delivery: Delivery, to handler: any GossipHandler) async {
        // There is no connection to close for a bad message.
        switch delivery {
        case .unicast(let source, let bytes): try? await handler.onUnicast(from: source, bytes)
        case .broadcast(let origin, let bytes): _ = try? await handler.onBroadcast(from: origin, bytes)
        case .gossip(let bytes): _ = try? await handler.onGossip(bytes)
        }
    }

    private func unicast(from source: PeerName, to destination: PeerName, _ payload: [UInt8]) throws {
        guard let member = members[destination], isJoined(source, destination) else {
            throw GossipError(.noRoute, "unknown relay destination: \(destination)")
        }
        member.mailbox.yield(.unicast(source, payload))
    }

    private func broadcast(from origin: PeerName, _ payloads: [[UInt8]]) {
        for (name, member) in members where name != origin && isJoined(origin, name) {
            for payload in payloads { member.mailbox.yield(.broadcast(origin, payload)) }
        }
    }

    private func gossip(from source: PeerName, _ payloads: [[UInt8]]) {
        for (name, member) in members where name != source && isJoined(source, name) {
            for payload in payloads { member.mailbox.yield(.gossip(payload)) }
        }
    }

    private struct Channel: GossipChannel {
        let exchange: LocalGossip
        let peer: PeerName

        func unicast(to destination: PeerName, _ payload: [UInt8]) async throws {
            try await exchange.unicast(from: peer, to: destination, payload)
        }

        func broadcast(_ data: any GossipData) async { await exchange.broadcast(from: peer, data.encode()) }

        func gossipToNeighbours(_ data: any GossipData) async { await exchange.gossip(from: peer, data.encode()) }
    }
}
