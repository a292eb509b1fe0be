import Testing
import WeaveCore
import WeaveDatapath

private func peer(_ number: UInt64) -> PeerName { PeerName(truncating: 0x7a00_0000_0000 + number) }
private func mac(_ number: UInt64) -> MACAddress { MACAddress(truncating: 0x0200_0000_0000 + number) }

/// An Ethernet frame with this type and body.
private func frame(
    from source: MACAddress, to destination: MACAddress, type: UInt16 = 0x0806,
    body: [UInt8] = [UInt8](repeating: 0, count: 28)
) throws -> FrameHeader {
    try #require(FrameHeader(destination.bytes + source.bytes + big16(type) + body))
}

/// The bytes of an ICMPv6 message in IPv6, behind extension headers.
private func icmp6(_ type: UInt8, extensions: [[UInt8]] = [], first: UInt8 = 58, length: Int = 8) -> [UInt8] {
    let payload = extensions.flatMap { $0 } + [type] + [UInt8](repeating: 0, count: length - 1)
    return [0x60, 0, 0, 0] + big16(UInt16(payload.count)) + [extensions.isEmpty ? 58 : first, 255]
        + [0xfe, 0x80] + [UInt8](repeating: 1, count: 14) + [0xfd] + [UInt8](repeating: 2, count: 15) + payload
}

@Suite("Forwarding")
struct ForwardingTests {
    private let now = MonotonicTime.zero + .seconds(1000)
    private let here = peer(1)
    /// A chain: 1 — 2 — 3, with 4 known and not reachable.
    private let routes = ForwardingRoutes(
        ourself: peer(1), unicast: [peer(2): peer(2), peer(3): peer(2)], knownPeers: [peer(2), peer(3), peer(4)]
    ) { $0 == peer(1) ? [peer(2)] : [] }

    @Test("captured frames go to the one who has the address, or to all")
    func captured() throws {
        var table = MACTable(ourself: here)
        func decide(_ frame: FrameHeader) -> CaptureDecision {
            ForwardingDecision.captured(frame, routes: routes, table: &table, now: now).action
        }
        #expect(try decide(frame(from: mac(1), to: .broadcast)) == .flood)
        #expect(try decide(frame(from: mac(2), to: mac(1))) == .drop(.local))
        #expect(try decide(frame(from: mac(1), to: mac(9))) == .flood)
        _ = table.learn(mac(3), at: peer(3), announces: false, now: now)
        #expect(try decide(frame(from: mac(1), to: mac(3))) == .unicast(peer: peer(3), via: peer(2)))
        _ = table.learn(mac(4), at: peer(4), announces: false, now: now)
        #expect(try decide(frame(from: mac(1), to: mac(4))) == .drop(.noRoute))
        #expect(try decide(frame(from: mac(3), to: .broadcast)) == .drop(.foreignSource))
        #expect(try decide(frame(from: mac(1), to: .spanningTree)) == .drop(.spanningTree))
        let linkLocal = MACAddress(truncating: 0x0180_c200_000e)
        #expect(try decide(frame(from: mac(1), to: linkLocal)) == .flood)
        #expect(try decide(frame(from: .broadcast, to: mac(1))) == .drop(.invalidSource))
        #expect(try decide(frame(from: MACAddress(truncating: 0), to: mac(1))) == .drop(.invalidSource))
    }

    @Test("no container becomes the router of all others")
    func routerControl() throws {
        func isDropped(_ body: [UInt8], type: UInt16 = 0x86dd) throws -> Bool {
            var table = MACTable(ourself: here)
            let header = try frame(from: mac(1), to: .broadcast, type: type, body: body)
            return ForwardingDecision.captured(header, routes: routes, table: &table, now: now).action
                == .drop(.routerControl)
        }
        #expect(try isDropped(icmp6(134)))
        #expect(try isDropped(icmp6(137)))
        for type: UInt8 in [1, 128, 133, 135, 136] { #expect(try !isDropped(icmp6(type))) }
        let hop: [UInt8] = [58, 0, 1, 4, 0, 0, 0, 0]
        #expect(try isDropped(icmp6(134, extensions: [hop], first: 0)))
        #expect(try isDropped(icmp6(134, extensions: [[58, 0, 0, 1, 0, 0, 0, 9]], first: 44)))
        #expect(try !isDropped(icmp6(135, extensions: [hop], first: 0)))
        #expect(try isDropped([0, 5, 0x86, 0xdd] + icmp6(134), type: 0x8100))
        #expect(try isDropped([0, 5, 0x81, 0, 0, 6, 0x86, 0xdd] + icmp6(134), type: 0x88a8))
        // A chain that never ends hides something.
        let again: [UInt8] = [0, 0, 1, 4, 0, 0, 0, 0]
        #expect(try isDropped(icmp6(134, extensions: Array(repeating: again, count: 12), first: 0)))
    }

    @Test("frames from the overlay are delivered, flooded or relayed")
    func received() throws {
        var table = MACTable(ourself: here)
        func decide(
            _ frame: FrameHeader, _ source: PeerName, _ destination: PeerName, from neighbour: PeerName = peer(2)
        ) -> OverlayDecision {
            ForwardingDecision.received(
                frame, source: source, destination: destination, from: neighbour, routes: routes, table: &table,
                now: now
            ).action
        }
        _ = table.learn(mac(1), at: here, announces: false, now: now)
        #expect(try decide(frame(from: mac(3), to: mac(1)), peer(3), here) == .deliver)
        #expect(table.lookup(mac(3)) == peer(3))
        #expect(try decide(frame(from: mac(3), to: .broadcast), peer(3), here) == .deliverAndFlood)
        #expect(try decide(frame(from: mac(3), to: mac(99)), peer(3), here) == .deliverAndFlood)
        #expect(try decide(frame(from: mac(1), to: mac(3)), here, peer(3)) == .drop(.ownFrame))
        #expect(try decide(frame(from: mac(9), to: mac(3)), peer(9), here) == .drop(.unknownPeer))
        #expect(try decide(frame(from: mac(9), to: mac(3)), peer(3), peer(9)) == .drop(.unknownPeer))
        // A relay does not learn.
        #expect(try decide(frame(from: mac(8), to: mac(3)), peer(2), peer(3)) == .relay(via: peer(2)))
        #expect(table.lookup(mac(8)) == nil)
        #expect(try decide(frame(from: mac(8), to: mac(3)), peer(2), peer(4)) == .drop(.noRoute))
        let special = try #require(FrameHeader(SpecialFrame.heartbeat(uid: 1).bytes))
        #expect(decide(special, peer(2), here) == .special)
        #expect(decide(special, peer(3), here) == .drop(.straySpecial))
        #expect(decide(special, peer(2), peer(3)) == .drop(.straySpecial))
        #expect(table.lookup(MACAddress(truncating: 0)) == nil)
    }

    @Test("each frame is carried in the way its kind and the path allow")
    func decisions() {
        var parameters = LinkParameters(
            remoteAddress: nil, mtu: 1438, maximumPayload: 1472, stackFragments: false, fragmentMTU: 1438,
            encrypted: false)
        func decide(_ isIPv6: Bool, _ dontFragment: Bool, _ length: Int, broadcast: Bool = false) -> FrameDecision? {
            var packet = TransportFrame(isIPv6: isIPv6, isTCP: false, dontFragment: dontFragment)
            packet.payload = [UInt8](repeating: 0, count: length - packet.headerEnd)
            return FrameHeader(packet.bytes()).map { parameters.decision(for: $0, broadcast: broadcast) }
        }
        #expect(decide(false, true, 100) == .drop(.noContact))
        parameters.remoteAddress = Endpoint("192.0.2.1:6783")
        #expect(decide(false, true, 1452) == .sendDontFragment)
        #expect(decide(false, true, 1453) == .answerTooBig(mtu: 1438))
        #expect(decide(false, true, 1453, broadcast: true) == .drop(.tooBigBroadcast))
        #expect(decide(false, false, 1452) == .sendDontFragment)
        #expect(decide(false, false, 1453) == .fragment(mtu: 1438))
        #expect(decide(true, false, 1452) == .send)
        #expect(decide(true, false, 1453) == .answerTooBig(mtu: 1438))
        parameters.stackFragments = true
        #expect(decide(false, false, 1453) == .send)
        #expect(decide(false, false, 65_487) == .send)
        #expect(decide(false, false, 65_488) == .fragment(mtu: 1438))
        parameters.mtu = 800
        #expect(decide(true, false, 1294) == .send)
        #expect(decide(true, false, 1295) == .answerTooBig(mtu: 1280))
    }

    @Test("ICMPv6 tells what fits, and errors are not answered")
    func packetTooBig() throws {
        var packet = TransportFrame(isIPv6: true, isTCP: false)
        packet.payload = [UInt8](repeating: 3, count: 3000)
        let answer = try #require(PacketTooBig.answer(to: packet.bytes(), mtu: 1438))
        let header = try #require(FrameHeader(answer))
        #expect(header.destination == FrameHeader(packet.bytes())?.source)
        #expect(answer.count == PacketTooBig.maximumLength)
        #expect(answer[54] == 2)
        #expect(Array(answer[58..<62]) == big32(1438))
        let pseudo = Array(answer[22..<54]) + big32(UInt32(answer.count - 54)) + [0, 0, 0, 58]
        #expect(slowChecksum(pseudo + answer[54...]) == 0)
        #expect(Array(answer[62...]) == Array(packet.bytes()[14..<14 + answer.count - 62]))
        let ethernet = mac(1).bytes + mac(2).bytes + big16(0x86dd)
        #expect(PacketTooBig.answer(to: ethernet + icmp6(1, length: 2000), mtu: 1438) == nil)
        #expect(PacketTooBig.answer(to: ethernet + icmp6(128, length: 2000), mtu: 1438) != nil)
        #expect(
            PacketTooBig.answer(to: MACAddress.broadcast.bytes + mac(2).bytes + big16(0x86dd) + icmp6(128), mtu: 1438)
                == nil)
        let icmpError = try #require(
            FragmentationNeeded.answer(to: TransportFrame(payload: [1, 2, 3, 4, 5]).bytes(), mtu: 1000))
        var again = icmpError
        again[20] = 0x40
        #expect(FragmentationNeeded.answer(to: again, mtu: 1000) == nil)
    }

    @Test("frames that lie about their length are cut nowhere")
    func lyingFragments() {
        var random = SeededGenerator(seed: 20)
        var packet = TransportFrame(isTCP: false, dontFragment: false)
        packet.payload = randomBytes(3000, &random)
        let bytes = packet.bytes()
        for (length, mtu) in [(2000, 1438), (3042, 20), (3042, 27)] {
            let pieces = unsafe IPv4Fragmenter.fragments(of: Array(bytes.prefix(length)), mtu: mtu)
            #expect(pieces == nil)
        }
        // IP in IP keeps its outer header.
        var tunnel = bytes
        tunnel[23] = 4
        let pieces = unsafe IPv4Fragmenter.fragments(of: tunnel, mtu: 1438) ?? []
        #expect(pieces.count == 3)
        #expect(pieces.allSatisfy { $0[23] == 4 && slowChecksum(Array($0[14..<34])) == 0 })
        for _ in 0..<2000 {
            var damaged = Array(bytes.prefix(Int.random(in: 0...200, using: &random)))
            for _ in 0..<3 where !damaged.isEmpty {
                damaged[Int.random(in: damaged.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            _ = unsafe IPv4Fragmenter.fragments(of: damaged, mtu: Int.random(in: 0...300, using: &random))
            _ = FragmentationNeeded.answer(to: damaged, mtu: 1000)
            _ = PacketTooBig.answer(to: damaged, mtu: 1000)
            _ = SleevePacket.decodeRecords(damaged)
        }
    }
}

@Suite("MAC table")
struct MACTableTests {
    private let here = peer(1)

    @Test("a container that moves here is reached within a second, and at once when it announces itself")
    func moves() {
        var table = MACTable(ourself: here)
        var now = MonotonicTime.zero + .seconds(1)
        #expect(table.learn(mac(1), at: peer(2), announces: false, now: now) == .new)
        now = now + .milliseconds(50)
        #expect(table.learn(mac(1), at: here, announces: true, now: now) == .held(at: peer(2)))
        now = now + .milliseconds(100)
        #expect(table.learn(mac(1), at: here, announces: false, now: now) == .held(at: peer(2)))
        #expect(table.learn(mac(1), at: here, announces: true, now: now) == .moved(from: peer(2)))
        now = now + .milliseconds(900)
        #expect(table.learn(mac(1), at: peer(3), announces: false, now: now) == .moved(from: here))
        // Between others the latest is right.
        #expect(table.learn(mac(1), at: peer(2), announces: false, now: now) == .moved(from: peer(3)))
        now = now + MACTable.holdTime
        #expect(table.learn(mac(1), at: here, announces: false, now: now) == .moved(from: peer(2)))
        #expect(table.lookup(mac(1)) == here)
    }

    @Test("a holder that talks keeps its address against reflections")
    func holds() {
        var table = MACTable(ourself: here)
        for step in 0..<100 {
            let now = MonotonicTime.zero + .milliseconds(50 * step)
            _ = table.learn(mac(1), at: peer(2), announces: true, now: now)
            #expect(table.learn(mac(1), at: here, announces: true, now: now + .milliseconds(1)) == .held(at: peer(2)))
        }
    }

    @Test("silent addresses go after ten minutes")
    func expires() {
        var table = MACTable(ourself: here)
        let start = MonotonicTime.zero + .seconds(5)
        for number in 1...100 { _ = table.learn(mac(UInt64(number)), at: peer(2), announces: false, now: start) }
        for number in 1...50 {
            _ = table.learn(mac(UInt64(number)), at: peer(2), announces: false, now: start + .seconds(300))
        }
        #expect(table.expire(start + .seconds(600)).isEmpty)
        #expect(table.expire(start + .seconds(601)).count == 50)
        #expect(table.count == 50)
        #expect(table.lookup(mac(1)) == peer(2))
        #expect(table.lookup(mac(51)) == nil)
        #expect(table.expire(start + .seconds(901)).count == 50)
    }

    @Test("the table is bounded and behaves as a dictionary", arguments: 0..<4)
    func model(_ seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var table = MACTable(ourself: here, limit: 300)
        var model: [UInt64: PeerName] = [:]
        for step in 0..<5000 {
            let now = MonotonicTime.zero + .seconds(step)
            let number = UInt64.random(in: 1...250, using: &random)
            let place = peer(UInt64.random(in: 2...5, using: &random))
            _ = table.learn(mac(number), at: place, announces: false, now: now)
            model[number] = place
            if step % 97 == 0 {
                let gone = peer(UInt64.random(in: 2...5, using: &random))
                #expect(table.forget(gone) == model.values.count { $0 == gone })
                model = model.filter { $0.value != gone }
            }
            #expect(table.lookup(mac(number)) == model[number])
        }
        #expect(table.count == model.count)
        #expect(Set(table.entries.map(\.mac)) == Set(model.keys.map { mac($0) }))
        for number in 1000...2000 {
            _ = table.learn(mac(UInt64(number)), at: peer(2), announces: false, now: .zero + .seconds(9000))
        }
        #expect(table.count == 300)
        #expect(table.lookup(mac(2000)) == peer(2))
    }
}

@Suite("Overlay switch")
struct OverlaySwitchTests {
    @Test("the best overlay that works carries frames")
    func promotion() {
        var chooser = OverlaySwitch(overlays: ["fastdp", "sleeve"], peer: "7a:00:00:00:00:02(host2)")
        #expect(chooser.name == "none")
        #expect(chooser.onPrepared() == [.log(.info, "using fastdp"), .use(index: 0, name: "fastdp")])
        #expect(
            chooser.onEstablished(1) == [.established, .log(.info, "using sleeve"), .use(index: 1, name: "sleeve")])
        #expect(chooser.onEstablished(0) == [.log(.info, "using fastdp"), .use(index: 0, name: "fastdp")])
        #expect(chooser.candidates == [0, 1])
        #expect(chooser.onHealth(0, isHealthy: false).last == .use(index: 1, name: "sleeve"))
        #expect(chooser.onHealth(0, isHealthy: true).last == .use(index: 0, name: "fastdp"))
        #expect(chooser.onFailed(0, reason: "timed out").last == .use(index: 1, name: "sleeve"))
        #expect(chooser.onEstablished(0).isEmpty)
        let last = chooser.onFailed(1, reason: "timed out waiting for UDP heartbeat")
        #expect(last.last == .failed(reason: "no working forwarders to 7a:00:00:00:00:02(host2)"))
        #expect(chooser.name == "none")
        #expect(chooser.onFailed(1, reason: "again").isEmpty)
        #expect(chooser.onEstablished(7).isEmpty)
    }

    /// 2.8.1 ends its whole process on each of these.
    @Test("control messages that fit no overlay are errors, and none is ever made")
    func envelope() throws {
        let common = OverlayNegotiation.Outcome.common(["fastdp", "sleeve"])
        for payload: [UInt8] in [[], [0], [2, 1], [255, 3, 0, 0]] {
            #expect(throws: OverlayControlEnvelope.Unusable.self) {
                try OverlayControlEnvelope(tag: 7, payload: payload, for: common)
            }
        }
        let long = [UInt8](repeating: 0, count: OverlayControlEnvelope.maximumBodyLength + 3)
        #expect(throws: OverlayControlEnvelope.Unusable.self) {
            try OverlayControlEnvelope(tag: 7, payload: long, for: common)
        }
        #expect(OverlayControlEnvelope(index: 2, tag: 1, body: []).encode(for: common) == nil)
        #expect(OverlayControlEnvelope(index: -1, tag: 1, body: []).encode(for: common) == nil)
        let direct = try #require(OverlayControlEnvelope(index: 0, tag: 3, body: [5, 0x9e]).encode(for: .sleeveOnly))
        #expect(direct.tag == 3)
        #expect(direct.payload == [5, 0x9e])
        #expect(try OverlayControlEnvelope(tag: 3, payload: [5, 0x9e], for: .sleeveOnly).body == [5, 0x9e])
        #expect(throws: OverlayControlEnvelope.Unusable.self) {
            try OverlayControlEnvelope(tag: 7, payload: [0, 1], for: .sleeveOnly)
        }
        #expect(throws: OverlayNegotiation.Refusal.self) {
            try OverlayNegotiation.choose(ours: ["fastdp"], remote: nil)
        }
        #expect(try OverlayNegotiation.choose(ours: ["fastdp", "sleeve"], remote: nil) == .sleeveOnly)
        let truncated = #expect(throws: SleeveControl.Unusable.self) { try SleeveControl(tag: 3, body: [1]) }
        #expect(truncated?.description == "Received truncated MTUTestAck")
        #expect(try SleeveControl(tag: 3, body: [5, 0x9e, 9, 9]) == .pathMTUVerified(1438))
        let unknown = #expect(throws: SleeveControl.Unusable.self) { try SleeveControl(tag: 9, body: []) }
        #expect(unknown?.description == "Ignoring unknown control message tag: 9")
    }
}
