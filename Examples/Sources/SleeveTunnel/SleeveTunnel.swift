// Two hosts, joined by a sleeve and nothing else: no mesh, no gossip. Each host is a network namespace with a TAP device;
// the control messages of the sleeve go over a socket pair, as they would go over any reliable connection.
//
//     SleeveTunnel --demo                 sets the hosts up, pings through, takes everything down again
//     SleeveTunnel --demo --encrypted     the same with sealed packets
//
// Needs root, and says so without.

import Foundation
import Logging
import WeaveCore
import WeaveCrypto
import WeaveDatapath
import WeaveNetlink

@main
struct SleeveTunnel {
    static func main() throws {
        guard CommandLine.arguments.contains("--demo") else {
            return print("usage: SleeveTunnel --demo [--encrypted]")
        }
        guard getuid() == 0 else { return print("skipped: making network namespaces needs root") }
        let key = CommandLine.arguments.contains("--encrypted") ? try sharedKey() : nil
        let lab = try Namespaces()
        defer { lab.remove() }
        let (first, second) = try connect(lab, key: key)
        defer {
            first.overlay.shutdown()
            second.overlay.shutdown()
        }
        Thread.sleep(forTimeInterval: 1)
        print(try shell("ip", "netns", "exec", lab.names[0], "ping", "-c", "3", "-i", "0.3", "10.77.0.2"))
        for end in [first, second] {
            let statistics = end.overlay.statistics
            print(
                "\(end.name): \(statistics[.framesCaptured]) frames captured, \(statistics[.framesInjected]) injected,",
                "\(statistics[.datagramsSent]) datagrams sent")
            for entry in end.overlay.macs { print("  \(entry.mac) is at \(entry.peer)") }
        }
    }

    /// What the handshake of a mesh connection would agree on.
    private static func sharedKey() throws -> SessionKey? {
        let (own, other) = (KeyPair(), KeyPair())
        return try Password("a secret").map { try own.sessionKey(with: other.publicKey, password: $0) }
    }

    /// Makes a sleeve in each namespace, and tells each about its one connection.
    private static func connect(_ lab: Namespaces, key: SessionKey?) throws -> (End, End) {
        let wires = try Wire.pair()
        let names = [PeerName(truncating: 0x7a00_0000_0001), PeerName(truncating: 0x7a00_0000_0002)]
        let addresses = ["10.99.77.1:6783", "10.99.77.2:6783"].compactMap { Endpoint($0) }
        var ends: [End] = []
        for index in 0...1 {
            let (own, peer) = (names[index], names[1 - index])
            // Sockets and threads belong to the namespace of the thread that makes the overlay.
            let overlay = try NetworkNamespace(named: lab.names[index]).run {
                let configuration = SleeveConfiguration(ourself: own, device: .name("tunnel"))
                return try SleeveOverlay(configuration: configuration, logger: Logger(label: "host\(index + 1)"))
            }
            overlay.onRoutes(
                ForwardingRoutes(ourself: own, unicast: [peer: peer], knownPeers: [own, peer]) { source in
                    source == own ? [peer] : []
                })
            ends.append(End(name: "host\(index + 1)", overlay: overlay, wire: wires[index]))
        }
        for (index, end) in ends.enumerated() {
            let connection = SleeveConnection(
                id: 1, remoteName: names[1 - index], remoteNickname: ends[1 - index].name,
                localAddress: addresses[index], remoteAddress: addresses[1 - index], outbound: index == 0,
                uid: 0x1234_5678, sessionKey: key, remoteFeatures: ends[1 - index].overlay.features)
            try end.overlay.prepare(connection, events: end)
        }
        for end in ends {
            end.listen()
            end.overlay.confirm(1)
        }
        return (ends[0], ends[1])
    }
}

/// One end of the tunnel: prints what its sleeve reports, and carries its control messages.
final class End: SleeveEvents {
    let name: String
    let overlay: SleeveOverlay
    private let wire: Wire

    init(name: String, overlay: SleeveOverlay, wire: Wire) {
        self.name = name
        self.overlay = overlay
        self.wire = wire
    }

    /// Hands what arrives on the wire to the sleeve, on a thread of its own.
    func listen() {
        Thread { [overlay, wire] in
            while let message = wire.receive() { overlay.onControl(1, tag: message.tag, payload: message.payload) }
        }
        .start()
    }

    func established(_ id: UInt64) { print("\(name): established") }
    func failed(_ id: UInt64, reason: String) { print("\(name): failed: \(reason)") }
    func attributes(_ id: UInt64, _ attributes: SleeveAttributes) {
        print("\(name): \(attributes.name), MTU \(attributes.mtu)\(attributes.encrypted ? ", encrypted" : "")")
    }
    func sendControl(_ id: UInt64, tag: UInt8, payload: [UInt8]) { wire.send(tag: tag, payload: payload) }
}
