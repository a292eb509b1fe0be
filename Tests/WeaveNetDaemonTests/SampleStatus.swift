import Foundation
import WeaveCore
import WeaveMesh

@testable import WeaveNetDaemon

/// A status put together by hand: the middle peer of a chain of three.
enum Sample {
    static let one = PeerName(truncating: 1)
    static let two = PeerName(truncating: 2)
    static let three = PeerName(truncating: 3)
    /// 2031-02-03T04:05:06Z.
    static let now = Date(timeIntervalSince1970: 1_927_857_906)

    static func live(
        _ address: String, outbound: Bool, peer: PeerName, _ nickname: String, mtu: Int? = 1438,
        encrypted: Bool = false, state: MeshStatus.ConnectionState = .established
    ) -> MeshStatus.Connection {
        .init(
            address: address, outbound: outbound, state: state, peer: peer, nickname: nickname,
            overlay: .init(name: "sleeve", mtu: mtu, encrypted: encrypted))
    }

    static var connections: [MeshStatus.Connection] {
        [
            live("192.168.48.11:6783", outbound: true, peer: one, "host1"),
            live("192.168.48.13:33747", outbound: false, peer: three, "host3"),
            .init(
                address: "192.168.48.99:6783", outbound: true, state: .retrying,
                lastError: "dial tcp :0->192.168.48.99:6783: connect: no route to host"),
        ]
    }

    static var peers: [MeshStatus.Peer] {
        [
            .init(
                name: one, nickname: "host1", uid: 11, shortID: ShortID(exactly: 100), version: 3,
                connections: [
                    .init(
                        name: two, nickname: "host2", address: "192.168.48.12:42561", outbound: false, established: true
                    )
                ]),
            .init(
                name: two, nickname: "host2", uid: .max, shortID: ShortID(exactly: 4095), version: 5,
                connections: [
                    .init(
                        name: three, nickname: "host3", address: "192.168.48.13:33747", outbound: false,
                        established: true),
                    .init(
                        name: one, nickname: "host1", address: "192.168.48.11:6783", outbound: true, established: true),
                ]),
            .init(
                name: three, nickname: "host3", uid: 33, shortID: nil, version: 2,
                connections: [
                    .init(
                        name: two, nickname: "host2", address: "192.168.48.12:6783", outbound: true, established: true)
                ]),
        ]
    }

    static func mesh(
        connections: [MeshStatus.Connection] = connections, peers: [MeshStatus.Peer] = peers, encryption: Bool = false
    ) -> MeshStatus {
        MeshStatus(
            name: two, nickname: "host2", port: 6783, minimumProtocolVersion: 1, maximumProtocolVersion: 2,
            encryption: encryption, peerDiscovery: false, peers: peers,
            unicastRoutes: [
                .init(destination: one, via: one), .init(destination: two, via: .unknown),
                .init(destination: three, via: three),
            ],
            broadcastRoutes: [.init(source: one, via: [three]), .init(source: three, via: [])],
            connections: connections, terminationCount: 0, targets: ["192.168.48.11", "192.168.48.99"],
            trustedSubnets: [])
    }

    static var meshCounters: [MeshStatistics.Series] {
        var statistics = MeshStatistics()
        statistics.closes = [.timeout: 2]
        statistics.routeCalculations = 5
        return statistics.series
    }

    static func status(_ mesh: MeshStatus = mesh()) -> DaemonStatus {
        DaemonStatus(
            mesh: mesh, interface: "vethwe-tap (via tap)",
            counters: [("frames_captured", 7), ("bytes_captured", 900)], meshCounters: meshCounters,
            macs: [
                .init(address: MACAddress(truncating: 0x0200_0000_0001), peer: one, nickname: "host1", lastSeen: now)
            ], time: now)
    }
}

/// Records what it is asked and answers from its properties.
actor FakeControl: DaemonControl {
    private(set) var calls: [String] = []
    var complaints: [String] = []
    var failure: DaemonError?

    func set(complaints: [String]) { self.complaints = complaints }
    func set(failure: DaemonError?) { self.failure = failure }

    func status() -> DaemonStatus { Sample.status() }

    func connect(_ peers: [String], replace: Bool) throws -> [String] {
        calls.append("connect \(peers) \(replace)")
        if let failure { throw failure }
        return complaints
    }

    func forget(_ peers: [String]) { calls.append("forget \(peers)") }

    func attach(_ order: AttachOrder) throws -> [IPv4CIDR] {
        calls.append("attach \(order.container) \(order.words.map(\.shown)) \(order.multicastRoute)")
        if let failure { throw failure }
        return order.words.compactMap(\.given)
    }

    func detach(_ order: AttachOrder) -> [IPv4CIDR] {
        calls.append("detach \(order.container) \(order.words.map(\.shown))")
        return order.words.compactMap(\.given)
    }

    func expose(_ words: [AddressWord], masquerade: Bool) -> [IPv4CIDR] {
        calls.append("expose \(words.map(\.shown)) \(masquerade)")
        return words.compactMap(\.given)
    }

    func hide(_ words: [AddressWord]) -> [IPv4CIDR] {
        calls.append("hide \(words.map(\.shown))")
        return words.compactMap(\.given)
    }

    nonisolated let addresses: (any AddressControl)?

    init(addresses: (any AddressControl)? = nil) { self.addresses = addresses }
}

extension AddressWord {
    /// As it was typed.
    var shown: String {
        switch self {
        case .subnet(let subnet): "net:" + (subnet.map(\.description) ?? "default")
        case .address(let address): "\(address)"
        }
    }

    var given: IPv4CIDR? {
        if case .address(let address) = self { address } else { nil }
    }
}
