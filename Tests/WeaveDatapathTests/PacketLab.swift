import Glibc
import Logging
import NetLab
import Synchronization
import Testing
import WeaveCore
import WeaveCrypto
import WeaveNetlink
import WeaveTestKit

@testable import WeaveDatapath

/// A chain of hosts, each a network namespace with a sleeve and a TAP device that has an address of its own. Control
/// messages go from sleeve to sleeve within the process.
final class PacketLab {
    /// What the sleeves logged instead.
    struct NotEstablished: Error, CustomStringConvertible {
        let description: String
    }

    static let key = SessionKey(bytes: (0..<32).map { UInt8($0) })
    private static let serial = Atomic<Int>(0)

    let namespaces: [NetworkNamespace]
    let names: [String]
    private(set) var overlays: [SleeveOverlay] = []
    private(set) var events: [LabEvents] = []

    /// Makes the hosts, joined one to the next by a veth pair of the MTU given.
    init(hosts: Int = 2, underlayMTU: Int = 1500, hasQueues: Bool = false) throws {
        let number = Self.serial.wrappingAdd(1, ordering: .relaxed).newValue
        let tag = "wp\(getpid())x\(number)"
        names = (1...hosts).map { "\(tag)h\($0)" }
        do {
            for name in names {
                try LabShell.run("ip", "netns", "add", name)
                try LabShell.run("ip", "-n", name, "link", "set", "lo", "up")
            }
            for index in 1..<hosts { try Self.join(names[index - 1], names[index], number: index, mtu: underlayMTU) }
            for (index, name) in names.enumerated() {
                let mac = "02:00:00:00:00:0\(index + 1)"
                let ip = ["ip", "-n", name]
                try LabShell.run(
                    ["ip", "netns", "exec", name, "ip", "tuntap", "add", "weavetap", "mode", "tap"]
                        + (hasQueues ? ["multi_queue"] : []))
                try LabShell.run(ip + ["link", "set", "weavetap", "address", mac, "mtu", "65521", "up"])
                try LabShell.run(ip + ["address", "add", "\(Self.address(index))/24", "dev", "weavetap"])
            }
            namespaces = try names.map { try NetworkNamespace(named: $0) }
        } catch {
            for name in names { _ = try? LabShell.run("ip", "netns", "delete", name) }
            throw error
        }
    }

    deinit {
        for overlay in overlays { overlay.shutdown() }
        for name in names { _ = try? LabShell.run("ip", "netns", "delete", name) }
    }

    private static func join(_ left: String, _ right: String, number: Int, mtu: Int) throws {
        let device = "up\(number)"
        try LabShell.run(
            "ip", "link", "add", device, "netns", left, "type", "veth", "peer", "name", device, "netns", right)
        for (index, name) in [left, right].enumerated() {
            try LabShell.run("ip", "-n", name, "address", "add", "10.99.\(number).\(index + 1)/24", "dev", device)
            try LabShell.run("ip", "-n", name, "link", "set", device, "mtu", "\(mtu)", "up")
        }
    }

    /// The overlay address of a host.
    static func address(_ index: Int) -> String { "10.40.0.\(index + 1)" }
    static func peer(_ index: Int) -> PeerName { PeerName(truncating: 0x7a00_0000_0001 + UInt64(index)) }

    /// Starts the sleeves and waits until all links are established with a verified MTU.
    func start(
        key: SessionKey? = nil, threads: Int = 1, offloads: SleeveConfiguration.Offloads = .init(), wait: Bool = true,
        features: [String: String]? = nil
    ) throws {
        events = names.indices.map { LabEvents(index: $0) }
        for (index, namespace) in namespaces.enumerated() {
            var configuration = SleeveConfiguration(
                ourself: Self.peer(index), device: .name("weavetap"), threads: threads)
            configuration.offloads = offloads
            let (ready, log) = (configuration, events[index].log)
            let overlay = try namespace.run {
                return try SleeveOverlay(configuration: ready, logger: log.logger)
            }
            overlays.append(overlay)
        }
        for index in names.indices { overlays[index].onRoutes(routes(index)) }
        for index in 1..<names.count { try connect(index - 1, index, key: key, features: features) }
        guard wait else { return }
        let links = (1..<names.count).flatMap { [($0 - 1, $0), ($0, $0 - 1)] }
        let isReady = LabShell.poll(seconds: 10, every: 0.02) {
            links.allSatisfy { here, there in
                let state = events[here].state(id: UInt64(max(here, there)))
                return state.established && state.mtu < 65535
            }
        }
        guard isReady else {
            throw NotEstablished(description: "links not established: \(events.map { $0.log.lines })")
        }
    }

    private func connect(_ left: Int, _ right: Int, key: SessionKey?, features: [String: String]?) throws {
        let ends = [(left, right, 1), (right, left, 2)]
        for (here, there, number) in ends {
            let id = UInt64(right)
            let (local, remote) = ("10.99.\(right).\(number):6783", "10.99.\(right).\(3 - number):6783")
            let connection = SleeveConnection(
                id: id, remoteName: Self.peer(there), remoteNickname: "host\(there + 1)",
                localAddress: try #require(Endpoint(local)), remoteAddress: try #require(Endpoint(remote)),
                outbound: here == left, uid: 0x0123_4567_89ab_cdef, sessionKey: key,
                remoteFeatures: features ?? overlays[there].features)
            events[here].setPeer(id, overlays[there])
            try overlays[here].prepare(connection, events: events[here])
        }
        for (here, _, _) in ends { overlays[here].confirm(UInt64(right)) }
    }

    /// The routes of a chain: every peer towards its end.
    private func routes(_ index: Int) -> ForwardingRoutes {
        let count = names.count
        var unicast: [PeerName: PeerName] = [:]
        for other in 0..<count where other != index {
            unicast[Self.peer(other)] = Self.peer(index + (other > index ? 1 : -1))
        }
        return ForwardingRoutes(
            ourself: Self.peer(index), unicast: unicast, knownPeers: Set((0..<count).map(Self.peer))
        ) { source in
            let neighbours = [index - 1, index + 1].filter { (0..<count).contains($0) }
            guard let origin = (0..<count).first(where: { Self.peer($0) == source }) else { return [] }
            return neighbours.filter { abs($0 - origin) > abs(index - origin) }.map(Self.peer)
        }
    }

    // MARK: - Traffic

    func run(_ host: Int, _ words: String..., seconds: Int = 20) throws -> String {
        try LabShell.run(["ip", "netns", "exec", names[host]] + words, seconds: seconds)
    }

    func outcome(_ host: Int, _ words: String..., seconds: Int = 20) throws -> LabShell.Outcome {
        try LabShell.outcome(["ip", "netns", "exec", names[host]] + words, seconds: seconds)
    }

    func ping(_ from: Int, _ to: Int, _ options: String...) throws -> LabShell.Outcome {
        let words = ["ip", "netns", "exec", names[from], "ping", "-c", "1", "-W", "2"] + options
        return try LabShell.outcome(words + [Self.address(to)], seconds: 20)
    }

    /// How many TCP and UDP checksums the stack of a host found wrong.
    func checksumErrors(_ host: Int) throws -> Int {
        let text = try run(host, "cat", "/proc/net/snmp")
        var errors = 0
        for kind in ["Tcp:", "Udp:"] {
            let lines = text.split(separator: "\n").filter { $0.hasPrefix(kind) }.map { $0.split(separator: " ") }
            let column = try #require(lines.first?.firstIndex(of: "InCsumErrors"))
            errors += try #require(Int(lines[1][column]))
        }
        return errors
    }
}

/// What one sleeve reported, and where its control messages go.
final class LabEvents: SleeveEvents {
    struct State {
        var established = false
        var mtu = 65535
        var failure: String?
        var controls: [[UInt8]] = []
    }

    let index: Int
    let log = LogRecorder()
    private let states = Mutex<[UInt64: State]>([:])
    private let peers = Mutex<[UInt64: Peer]>([:])

    private final class Peer: Sendable {
        let overlay: Mutex<SleeveOverlay?>
        init(_ overlay: SleeveOverlay) { self.overlay = Mutex(overlay) }
    }

    init(index: Int) { self.index = index }

    func setPeer(_ id: UInt64, _ overlay: SleeveOverlay) { peers.withLock { $0[id] = Peer(overlay) } }
    func state(id: UInt64) -> State { states.withLock { $0[id] ?? State() } }

    func established(_ id: UInt64) { states.withLock { $0[id, default: State()].established = true } }
    func failed(_ id: UInt64, reason: String) { states.withLock { $0[id, default: State()].failure = reason } }
    func attributes(_ id: UInt64, _ attributes: SleeveAttributes) {
        states.withLock { $0[id, default: State()].mtu = attributes.mtu }
    }
    func sendControl(_ id: UInt64, tag: UInt8, payload: [UInt8]) {
        states.withLock { $0[id, default: State()].controls.append([tag] + payload) }
        peers.withLock { $0[id] }?.overlay.withLock { $0 }?.onControl(id, tag: tag, payload: payload)
    }
}
