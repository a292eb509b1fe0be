import Glibc
import Logging
import NetLab
import Testing
import WeaveCore
import WeaveCrypto
import WeaveNetlink
import WeaveTestKit

@testable import WeaveDatapath

@Suite("Sleeves between namespaces", .serialized, .enabled(if: LabShell.canMakeNamespaces))
struct PacketLabTests {
    private static let seed: UInt64 = 0x5eed_0001

    @Test("Two hosts establish, measure 1438, learn each other's MAC addresses and ping, plain")
    func plain() throws {
        let lab = try PacketLab()
        try lab.start()
        #expect(try lab.ping(0, 1).status == 0)
        #expect(try lab.ping(1, 0).status == 0)
        #expect(lab.events.map { $0.state(id: 1).mtu } == [1438, 1438])
        let macs = lab.overlays[0].macs
        #expect(macs.first { $0.mac.rawValue == 0x0200_0000_0001 }?.peer == PacketLab.peer(0))
        #expect(macs.first { $0.mac.rawValue == 0x0200_0000_0002 }?.peer == PacketLab.peer(1))
        #expect(lab.overlays[0].links.first?.datagramsReceived ?? 0 > 0)
        // A switched 2.8.1 peer needs the index and the tag in each control message.
        for events in lab.events {
            let controls = events.state(id: 1).controls
            #expect(controls.allSatisfy { $0.count >= 3 && $0[0] == 7 && $0[1] == 0 })
            #expect(controls.filter { $0 == [7, 0, 1] }.count == 1)
        }
    }

    @Test("Peers without an overlay switch get control messages without index, and no overlay in common is refused")
    func features() throws {
        let lab = try PacketLab()
        try lab.start(features: [:])
        #expect(try lab.ping(0, 1).status == 0)
        for events in lab.events {
            let controls = events.state(id: 1).controls
            #expect(controls.contains([1]) && controls.allSatisfy { (1...3).contains($0[0]) })
        }
        let stranger = try PacketLab()
        #expect(throws: OverlayNegotiation.Refusal.self) { try stranger.start(features: ["Overlays": "fastdp"]) }
    }

    @Test("A device that is removed is reported once, and the rest goes on without spinning")
    func deviceRemoved() throws {
        let lab = try PacketLab()
        try lab.start()
        try LabShell.run("ip", "-n", lab.names[0], "link", "delete", "weavetap")
        let isReported = LabShell.poll(seconds: 3, every: 0.05) { lab.events[0].log.contains("was removed") }
        #expect(isReported)
        let before = try sleeveTicks()
        usleep(500_000)
        #expect(try sleeveTicks() - before <= 2)
        #expect(lab.events[0].state(id: 1).failure == nil)
    }

    @Test(
        "A packet with DF passes up to the MTU, and one more byte is answered with it",
        arguments: [false, true])
    func boundary(encrypted: Bool) throws {
        let lab = try PacketLab()
        try lab.start(key: encrypted ? PacketLab.key : nil)
        let mtu = encrypted ? 1414 : 1438
        #expect(lab.events.map { $0.state(id: 1).mtu } == [mtu, mtu])
        #expect(try lab.ping(0, 1, "-M", "do", "-s", "\(mtu - 28)").status == 0)
        let refused = try lab.ping(0, 1, "-M", "do", "-s", "\(mtu - 27)")
        #expect(refused.status != 0)
        let again = try lab.ping(0, 1, "-M", "do", "-s", "\(mtu - 27)")
        #expect((refused.output + again.output).contains("\(mtu)"))
        #expect(lab.overlays[0].statistics[.tooBigAnswers] > 0)
    }

    @Test("TCP and UDP arrive unharmed with super-frames, and no checksum is wrong", arguments: [false, true])
    func transfer(encrypted: Bool) throws {
        let lab = try PacketLab()
        try lab.start(key: encrypted ? PacketLab.key : nil)
        let isSame = try PacketTransfer.tcp(
            from: lab.namespaces[0], to: lab.namespaces[1], address: PacketLab.address(1), count: 4 << 20,
            seed: Self.seed)
        #expect(isSame)
        let sizes = (0..<60).map { 20 + $0 * 23 }
        let intact = try PacketTransfer.udp(
            from: lab.namespaces[1], to: lab.namespaces[0], address: PacketLab.address(0), sizes: sizes,
            seed: Self.seed)
        #expect(intact == sizes.count)
        for host in 0...1 { #expect(try lab.checksumErrors(host) == 0) }
        let (sender, receiver) = (lab.overlays[0].statistics, lab.overlays[1].statistics)
        #expect(sender[.segmentsCut] > 2000)
        #expect(sender[.sendCalls] * 4 < sender[.datagramsSent])
        #expect(receiver[.segmentsCoalesced] > 1000)
        #expect(receiver[.undecryptable] == 0 && receiver[.malformedDatagrams] == 0)
    }

    @Test("Two packet threads share the work, whether the device has several queues or not", arguments: [false, true])
    func threads(hasQueues: Bool) throws {
        let lab = try PacketLab(hasQueues: hasQueues)
        try lab.start(key: PacketLab.key, threads: 2)
        let isSame = try PacketTransfer.tcp(
            from: lab.namespaces[0], to: lab.namespaces[1], address: PacketLab.address(1), count: 4 << 20,
            seed: Self.seed)
        #expect(isSame)
        #expect(lab.overlays[1].statistics[.replays] == 0)
    }

    @Test(
        "Whatever the kernel cannot do is done without",
        arguments: ["superFrames", "segmentedSends", "mergedReceives", "steering", "all"])
    func fallback(without: String) throws {
        var offloads = SleeveConfiguration.Offloads()
        if without == "superFrames" || without == "all" { offloads.superFrames = false }
        if without == "segmentedSends" || without == "all" { offloads.segmentedSends = false }
        if without == "mergedReceives" || without == "all" { offloads.mergedReceives = false }
        if without == "steering" || without == "all" { offloads.steering = false }
        let lab = try PacketLab()
        try lab.start(key: PacketLab.key, offloads: offloads)
        let isSame = try PacketTransfer.tcp(
            from: lab.namespaces[0], to: lab.namespaces[1], address: PacketLab.address(1), count: 1 << 20,
            seed: Self.seed)
        #expect(isSame)
        for host in 0...1 { #expect(try lab.checksumErrors(host) == 0) }
        let sender = lab.overlays[0].statistics
        #expect((sender[.segmentsCut] > 0) == offloads.superFrames)
        let lines = [
            "superFrames": "without offload header", "segmentedSends": "UDP_SEGMENT is not used",
            "mergedReceives": "UDP_GRO is not used", "steering": "not steered",
        ]
        for (name, line) in lines {
            #expect(lab.events[0].log.contains(line) == (without == name || without == "all"), "\(name)")
        }
    }

    @Test("Packets larger than the path go in fragments of the kernel")
    func kernelFragments() throws {
        let lab = try PacketLab()
        try lab.start()
        // Both have told each other that fragments arrive.
        let isKnown = LabShell.poll(seconds: 5, every: 0.05) {
            lab.events.allSatisfy { $0.state(id: 1).controls.contains([7, 0, 2]) }
        }
        #expect(isKnown)
        #expect(try lab.ping(0, 1, "-M", "dont", "-s", "9000").status == 0)
        #expect(lab.overlays.allSatisfy { $0.statistics[.framesFragmented] == 0 })
        // The largest that a datagram holds goes whole; one more byte is cut by us.
        #expect(try lab.ping(0, 1, "-M", "dont", "-s", "\(65473 - 28)").status == 0)
        #expect(lab.overlays.allSatisfy { $0.statistics[.framesFragmented] == 0 })
        #expect(try lab.ping(0, 1, "-M", "dont", "-s", "\(65473 - 27)").status == 0)
        #expect(lab.overlays.allSatisfy { $0.statistics[.framesFragmented] > 0 })
    }

    @Test("Where the path drops fragments, packets are cut into our own", arguments: [false, true])
    func ownFragments(encrypted: Bool) throws {
        let lab = try PacketLab()
        for host in 0...1 {
            let chain = "type filter hook prerouting priority -500; iifname up1 ip frag-off & 0x3fff != 0 drop"
            _ = try lab.run(host, "nft", "table ip t { chain c { \(chain); }; }")
        }
        try lab.start(key: encrypted ? PacketLab.key : nil)
        #expect(try lab.ping(0, 1, "-M", "dont", "-s", "9000").status == 0)
        #expect(lab.overlays.allSatisfy { $0.statistics[.framesFragmented] > 0 })
    }

    @Test("When a link in the middle takes less, the MTU follows and containers are told")
    func shrink() throws {
        let lab = try PacketLab()
        try lab.start()
        #expect(try lab.ping(0, 1, "-M", "do", "-s", "1410").status == 0)
        for name in lab.names { try LabShell.run("ip", "-n", name, "link", "set", "up1", "mtu", "1400") }
        let hasFollowed = try LabShell.poll(seconds: 5) {
            _ = try lab.ping(0, 1, "-M", "do", "-s", "1410", "-W", "1")
            return lab.events[0].state(id: 1).mtu == 1338
        }
        #expect(hasFollowed)
        #expect(try lab.ping(0, 1, "-M", "do", "-s", "\(1338 - 28)").status == 0)
    }

    @Test("A path that swallows large packets without a word is searched until its size is known")
    func blackHole() throws {
        let lab = try PacketLab()
        for host in 0...1 {
            let rules =
                "table ip t { chain c { type filter hook prerouting priority -500; udp dport 6783 meta length > 700 drop; }; }"
            _ = try lab.run(host, "nft", rules)
        }
        // Between namespaces several datagrams sent at once stay one packet, whose length is not what the rule means.
        var offloads = SleeveConfiguration.Offloads()
        offloads.segmentedSends = false
        try lab.start(offloads: offloads, wait: false)
        let isFound = LabShell.poll(seconds: 40) {
            lab.events.allSatisfy { $0.log.contains("Effective MTU verified at 638") }
        }
        #expect(isFound)
        #expect(lab.events.map { $0.state(id: 1).mtu } == [638, 638])
        #expect(try lab.ping(0, 1, "-M", "do", "-s", "\(638 - 28)").status == 0)
        #expect(try lab.ping(0, 1, "-M", "dont", "-s", "10000").status == 0)
    }

    @Test("Garbage on the port is counted and does no harm")
    func garbage() throws {
        let lab = try PacketLab()
        try lab.start()
        let name = PacketLab.peer(0).bytes
        let known = PacketLab.peer(0).bytes + PacketLab.peer(1).bytes
        var generator = SeededGenerator(seed: Self.seed)
        var datagrams: [[UInt8]] = [[], [1, 2, 3], name, name + [0], name + known + [0xff, 0xff, 1]]
        // A special frame that is none of the kinds, one for somebody else, and a frame of a peer nobody knows.
        datagrams.append(name + known + [0, 14] + [UInt8](repeating: 0, count: 14))
        datagrams.append(name + known.reversed() + [0, 14] + [UInt8](repeating: 0, count: 14))
        for length in 0..<200 {
            let noise = (0..<length * 7).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
            datagrams.append(noise)
            datagrams.append(name + noise)
        }
        try PacketTransfer.send(from: lab.namespaces[0], to: "10.99.1.2", port: 6783, datagrams)
        let isCounted = LabShell.poll(seconds: 3, every: 0.05) {
            let statistics = lab.overlays[1].statistics
            return statistics[.shortDatagrams] >= 2 && statistics[.unknownSenders] >= 190
                && statistics[.malformedDatagrams] >= 150
        }
        #expect(isCounted, "seed \(Self.seed)")
        #expect(lab.events[1].log.lines.filter { $0.contains("Failed to decode") }.count <= 8)
        #expect(try lab.ping(0, 1).status == 0)
        #expect(lab.events[1].state(id: 1).failure == nil)
    }

    @Test("Garbage on an encrypted link is never accepted")
    func encryptedGarbage() throws {
        let lab = try PacketLab()
        try lab.start(key: PacketLab.key)
        let name = PacketLab.peer(0).bytes
        let datagrams = (0..<100).map { name + [UInt8](repeating: UInt8($0), count: $0) }
        try PacketTransfer.send(from: lab.namespaces[0], to: "10.99.1.2", port: 6783, datagrams)
        let isCounted = LabShell.poll(seconds: 3, every: 0.05) {
            lab.overlays[1].statistics[.undecryptable] >= 100
        }
        #expect(isCounted)
        #expect(try lab.ping(0, 1).status == 0)
    }

    @Test("A middle host relays in both directions, and quotes its own MTU to the origin", arguments: [false, true])
    func relay(encrypted: Bool) throws {
        let lab = try PacketLab(hosts: 3)
        try LabShell.run("ip", "-n", lab.names[1], "link", "set", "up2", "mtu", "1300")
        try LabShell.run("ip", "-n", lab.names[2], "link", "set", "up2", "mtu", "1300")
        try lab.start(key: encrypted ? PacketLab.key : nil)
        #expect(try lab.ping(0, 2).status == 0)
        #expect(try lab.ping(2, 0).status == 0)
        #expect(lab.overlays[1].statistics[.framesRelayed] > 0)
        let limit = 1300 - (encrypted ? 86 : 62)
        let isTold = try LabShell.poll(seconds: 5) {
            try lab.ping(0, 2, "-M", "do", "-s", "1380", "-W", "1").output.contains("\(limit)")
        }
        #expect(isTold)
        #expect(lab.overlays[1].statistics[.tooBigAnswers] > 0)
        let isSame = try PacketTransfer.tcp(
            from: lab.namespaces[0], to: lab.namespaces[2], address: PacketLab.address(2), count: 4 << 20,
            seed: Self.seed)
        #expect(isSame)
        // The address of the far host is known where it is, not at the relay that sent the packet.
        let far = lab.overlays[0].macs.first { $0.mac.rawValue == 0x0200_0000_0003 }
        #expect(far?.peer == PacketLab.peer(2))
    }

    @Test("Ending a connection stops its traffic, and an idle sleeve takes no processor time")
    func stopAndIdle() throws {
        let lab = try PacketLab()
        try lab.start()
        #expect(try lab.ping(0, 1).status == 0)
        let before = try sleeveTicks()
        usleep(1_500_000)
        // A tick is 10 ms: two threads a sleeve, and a heartbeat or two.
        #expect(try sleeveTicks() - before <= 2)
        for overlay in lab.overlays { overlay.stop(1) }
        #expect(try lab.ping(0, 1, "-W", "1").status != 0)
        #expect(lab.overlays[0].links.isEmpty)
        for overlay in lab.overlays {
            overlay.shutdown()
            overlay.shutdown()
        }
    }

    @Test("A port that is taken and a device that cannot be are errors with a text")
    func setupErrors() throws {
        let lab = try PacketLab()
        var configuration = SleeveConfiguration(ourself: PacketLab.peer(0), device: .name("a-name-beyond-15-bytes"))
        #expect(try refusal(lab, configuration)?.description.contains("a-name-beyond-15-bytes") == true)
        configuration.device = .name("weavetap")
        configuration.host = IPv4Address(rawValue: 0x0102_0304)
        #expect(try refusal(lab, configuration)?.code == EADDRNOTAVAIL)
    }

    /// Why a sleeve cannot be set up; nil when it can.
    private func refusal(_ lab: PacketLab, _ configuration: SleeveConfiguration) throws -> SleeveOverlay.SetupError? {
        try lab.namespaces[0].run { () throws -> SleeveOverlay.SetupError? in
            do {
                _ = try SleeveOverlay(configuration: configuration, logger: Logger(label: "test"))
                return nil
            } catch let error as SleeveOverlay.SetupError {
                return error
            }
        }
    }

    /// The processor time of all threads of sleeves in this process, in ticks.
    private func sleeveTicks() throws -> Int {
        let listing = try LabShell.run("sh", "-c", "cat /proc/\(getpid())/task/*/stat")
        return listing.split(separator: "\n").filter { $0.contains("(sleeve-") }.reduce(0) { total, line in
            let fields = line.split(separator: " ")
            return total + (Int(fields[13]) ?? 0) + (Int(fields[14]) ?? 0)
        }
    }
}
