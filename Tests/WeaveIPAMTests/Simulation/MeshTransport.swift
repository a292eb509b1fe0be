import Synchronization
import WeaveCore
import WeaveMesh
import WeaveTestKit

@testable import WeaveIPAM

/// Whole mesh peers beneath the allocators: connections that come and go, topology, relays, periodic gossip.
struct MeshTransport: AllocatorTransport {
    /// What each peer would say now; read when a message leaves.
    private final class States: Sendable {
        private let states = Mutex<[PeerName: StateMessage]>([:])

        subscript(peer: PeerName) -> StateMessage? {
            get { states.withLock { $0[peer] } }
            set { states.withLock { $0[peer] = newValue } }
        }
    }

    /// The state of a peer on its way, as the shell of an allocator would hand it to the mesh.
    private struct LiveState: GossipData {
        let states: States
        let peer: PeerName

        func merged(with newer: any GossipData) -> any GossipData { newer }
        func encode() -> [[UInt8]] { states[peer].map { [$0.encode()] } ?? [] }
    }

    private static let channel = AddressAllocator.channelName
    private var mesh: MeshSimulation
    private let states = States()
    /// The bytes of a broadcast are the same for many; they are read once.
    private var read: (bytes: [UInt8], state: StateMessage)?

    init(seed: UInt64, peers: Int) {
        mesh = MeshSimulation(seed: seed, options: .init(peers: peers, connectionLimit: 6, extraTargets: 2))
        mesh.guestChannels = [Self.channel]
        let states = states
        mesh.guestState = { host, _ in
            let peer = MeshSimulation.name(of: host)
            return states[peer] == nil ? nil : LiveState(states: states, peer: peer)
        }
    }

    private func host(_ peer: PeerName) -> Int { Int(peer.rawValue & 0xffff) - 1 }

    func name(of number: Int) -> PeerName { MeshSimulation.name(of: number - 1) }

    mutating func publish(_ state: StateMessage, of peer: PeerName) { states[peer] = state }

    var discoversPresence: Bool { true }

    mutating func unicast(_ message: PeerMessage, from: PeerName, to: PeerName, now: MonotonicTime) -> String? {
        guard let bytes = message.encode() else { return nil }
        return mesh.unicast(bytes, on: Self.channel, from: host(from), to: to)
    }

    mutating func broadcast(_ state: StateMessage, from: PeerName, now: MonotonicTime) {
        states[from] = state
        mesh.broadcast(LiveState(states: states, peer: from), on: Self.channel, from: host(from))
    }

    // The mesh asks for states itself, periodically and for new neighbours.
    mutating func gossip(_ state: StateMessage, from: PeerName, now: MonotonicTime) { states[from] = state }

    mutating func introduce(now: MonotonicTime, state: (PeerName) -> StateMessage?) {}

    /// Virtual time of the mesh goes on in steps; messages may be so much late.
    var nextArrival: MonotonicTime? { mesh.now + .milliseconds(25) }

    mutating func arrivals(by now: MonotonicTime) -> [AllocatorArrival] {
        if now > mesh.now { mesh.run(for: now - mesh.now) }
        return mesh.takeGuestDeliveries().compactMap { host, delivery in
            let to = MeshSimulation.name(of: host)
            switch delivery.kind {
            case .unicast:
                guard let message = try? PeerMessage.decode(delivery.payload) else { return nil }
                return AllocatorArrival(from: delivery.source, to: to, payload: .message(message))
            case .broadcast, .gossip:
                guard let state = decode(delivery.payload) else { return nil }
                let isBroadcast = delivery.kind == .broadcast
                return AllocatorArrival(
                    from: delivery.source, to: to, payload: isBroadcast ? .broadcast(state) : .gossip(state))
            }
        }
    }

    private mutating func decode(_ bytes: [UInt8]) -> StateMessage? {
        if let read, read.bytes == bytes { return read.state }
        guard let state = try? StateMessage.decode(bytes) else { return nil }
        read = (bytes, state)
        return state
    }

    func present(at peer: PeerName) -> Set<PeerName> { mesh.knownPeers(of: host(peer)) }

    mutating func setGroups(_ groups: [Set<PeerName>], now: MonotonicTime) {
        if now > mesh.now { mesh.run(for: now - mesh.now) }
        let up = groups.reduce(into: Set<Int>()) { all, group in all.formUnion(group.map(host)) }
        for running in mesh.running where !up.contains(running) {
            mesh.crash(running)
            states[MeshSimulation.name(of: running)] = nil
        }
        for host in up.subtracting(mesh.running).sorted() { mesh.restart(host) }
        mesh.heal()
        mesh.isolate((groups.dropFirst().first ?? []).map(host).sorted())
    }
}
