import Foundation
import NetLab
import Testing

extension InteropTests {
    @Suite("What the path takes, towards 2.8.1", .serialized, .enabled(if: InteropTests.isPossible))
    struct Paths {
        @Test(
            "a packet too large is answered with the path MTU, by the remote container's address",
            arguments: Pairing.all)
        func fragmentationNeeded(_ pairing: Pairing) throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            try pair.launch(pairing)
            let overlay = pairing.password == nil ? 1438 : 1414
            let (mine, other) = try pair.attachContainers()
            #expect(try mine.reaches("10.40.0.2"))
            #expect(try pair.hosts.allSatisfy { try $0.measures(overlay) }, "\(pair.hosts.shown)")
            for (from, to) in [(mine, "10.40.0.2"), (other, "10.40.0.1")] {
                #expect(try from.pings(to, size: overlay - 28, dontFragment: true))
                let answer = try LabShell.outcome([
                    "ip", "netns", "exec", from.namespace, "ping", "-c", "1", "-W", "1", "-M", "do", "-s",
                    String(overlay - 27), to,
                ]).output
                #expect(answer.contains("From \(to)") && answer.contains("mtu = \(overlay)"), "\(answer)")
            }
        }

        @Test("the largest datagrams pass whole", arguments: [Pairing.all[0], Pairing.all[2]])
        func largestDatagrams(_ pairing: Pairing) throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            try pair.launch(pairing)
            let (mine, other) = try pair.attachContainers()
            #expect(try mine.reaches("10.40.0.2"))
            // What fits into one UDP datagram of the underlay: 65,473 bytes of IP plain, 24 less encrypted.
            let payload = (pairing.password == nil ? 65_473 : 65_449) - 28
            #expect(try mine.reaches("10.40.0.2", within: 5, size: payload))
            #expect(try other.reaches("10.40.0.1", within: 5, size: payload))
        }

        @Test(
            "of one byte more 2.8.1 says that it drops it, and we carry it in pieces",
            arguments: [Pairing.all[0], Pairing.all[2]])
        func oneByteMore(_ pairing: Pairing) throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            try pair.launch(pairing)
            let (mine, other) = try pair.attachContainers()
            #expect(try mine.reaches("10.40.0.2"))
            let largest = (pairing.password == nil ? 65_473 : 65_449) - 28
            let script = """
                import socket, sys, time
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                # No DF: it may be cut on the way.
                s.setsockopt(socket.IPPROTO_IP, 10, 0)
                if sys.argv[1] == 'hear':
                    s.bind(('', 7780)); s.settimeout(0.5); heard = set(); end = time.time() + 6
                    while time.time() < end:
                        try: heard.add(len(s.recv(70000)))
                        except OSError: pass
                    print('heard', *sorted(heard))
                else:
                    time.sleep(1.5)
                    for _ in range(3):
                        for n in map(int, sys.argv[3:]): s.sendto(bytes(n), (sys.argv[2], 7780)); time.sleep(0.2)
                """
            let file = pair.cluster.directory.appendingPathComponent("more.py")
            try script.write(to: file, atomically: true, encoding: .utf8)
            // The last is the most that IP can carry.
            let sizes = [largest, largest + 1, 65_507]
            for (from, to, arriving) in [(mine, other, sizes), (other, mine, [largest])] {
                let words = sizes.map(String.init).joined(separator: " ")
                let output = try LabShell.run(
                    "sh", "-c",
                    """
                    ip netns exec \(to.namespace) python3 \(file.path) hear &
                    ip netns exec \(from.namespace) python3 \(file.path) send \(to.address ?? "") \(words); wait
                    """)
                let heard = "heard " + arriving.map(String.init).joined(separator: " ")
                #expect(output.contains(heard + "\n"), "\(from === mine ? "ours" : "2.8.1") sends \(sizes): \(output)")
            }
            let frame = largest + 28 + 14
            let text = "Dropping too big frame during forwarding: frame len "
            #expect(!pair.theirs.log.contains("\(text)\(frame),"), "\(pair.theirs.log)")
            // It captures no more than 65,535 bytes of a frame.
            for length in [frame + 1, 65_535] {
                #expect(pair.theirs.log.contains("\(text)\(length), limit 65507"), "\(pair.theirs.log)")
            }
            #expect(!pair.ours.log.contains(text), "\(pair.ours.log)")
            #expect(try (pair.ours.counter("frames_fragmented") ?? 0) >= 6)
            #expect(try mine.reaches("10.40.0.2") && other.reaches("10.40.0.1"))
            for host in pair.hosts { host.expectsOneConnection(each: 1, "after datagrams that are too large") }
        }

        @Test("when a link in the middle takes less, both ends follow and tell their containers")
        func middleLink() throws {
            let cluster = try LabCluster()
            defer { cluster.takeDown() }
            let ours = try cluster.addHost(.weaver)
            let nearer = try cluster.addHost(.weaver)
            let farther = try cluster.addHost(.weaver)
            let theirs = try cluster.addHost(.reference)
            try cluster.link(ours, nearer)
            try cluster.link(nearer, farther)
            try cluster.link(farther, theirs)
            for host in [nearer, farther] { try host.run("sysctl", "-qw", "net.ipv4.ip_forward=1") }
            for (host, gateway) in [(ours, "10.99.1.2"), (theirs, "10.99.3.3"), (nearer, "10.99.2.3")] {
                try host.run("ip", "route", "add", "default", "via", gateway)
            }
            try farther.run("ip", "route", "add", "default", "via", "10.99.2.2")
            try theirs.launch()
            try ours.launch(peers: ["10.99.3.4"])
            let hosts = [ours, theirs]
            #expect(try hosts.allSatisfy { try $0.measures(1438) }, "\(hosts.shown)")
            let mine = try cluster.addContainer()
            try mine.attach(to: ours, "10.40.0.1")
            let other = try cluster.addContainer()
            try other.attach(to: theirs, "10.40.0.2")
            #expect(try mine.reaches("10.40.0.2"))

            for host in [nearer, farther] { try host.run("ip", "link", "set", "up2", "mtu", "1400") }
            for (host, from, to) in [(ours, mine, "10.40.0.2"), (theirs, other, "10.40.0.1")] {
                let follows = try LabShell.poll(seconds: 20, every: 0.5) {
                    _ = try from.pings(to, size: 1410, dontFragment: true)
                    return try host.connections().contains { $0.contains("mtu=1338") }
                }
                #expect(follows, "\(host.shown)")
                #expect(try from.reaches(to, within: 5, size: 1310))
                let answer = try LabShell.outcome([
                    "ip", "netns", "exec", from.namespace, "ping", "-c", "1", "-W", "1", "-M", "do", "-s", "1311", to,
                ]).output
                #expect(answer.contains("mtu = 1338") || answer.contains("mtu=1338"), "\(answer)")
            }
        }

        @Test("a path that swallows large packets is measured, and larger ones pass in pieces")
        func blackHole() throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            for host in pair.hosts {
                // A filter sees super-packets where the device leaves cutting to the receiver.
                try host.run("ethtool", "-K", "up1", "gso", "off", "gro", "off", "tx-udp-segmentation", "off")
                try host.addRules(
                    """
                    table inet hole {
                        chain input {
                            type filter hook input priority 0;
                            udp dport 6783 meta length > 700 drop;
                        }
                    }
                    """)
            }
            try pair.launch(Pairing(oursDials: true))
            #expect(try pair.hosts.allSatisfy { try $0.measures(638, within: 45) }, "\(pair.hosts.shown)")
            let (mine, other) = try pair.attachContainers()
            #expect(try mine.reaches("10.40.0.2") && other.reaches("10.40.0.1"))
            #expect(try mine.reaches("10.40.0.2", within: 15, size: 10_000))
            #expect(try other.reaches("10.40.0.1", within: 15, size: 10_000))
        }

        @Test("IPv6, multicast and tagged frames cross unchanged")
        func otherFrames() throws {
            let pair = try MixedPair()
            defer { pair.cluster.takeDown() }
            try pair.launch(Pairing(oursDials: true))
            let (mine, other) = try pair.attachContainers()
            #expect(try mine.reaches("10.40.0.2"))
            let script = """
                import socket, struct, sys, time
                s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind(('ethwe', 0))
                if sys.argv[1] == 'hear':
                    # The kernel tells a tag beside the frame (PACKET_AUXDATA).
                    s.setsockopt(263, 8, 1); s.settimeout(0.5); heard = set(); end = time.time() + 6
                    while time.time() < end and len(heard) < 4:
                        try: d, extra, flags, a = s.recvmsg(4096, 64)
                        except OSError: continue
                        if a[2] == socket.PACKET_OUTGOING or d[-4:-1] != b'LAB': continue
                        status, tag = struct.unpack('IIIHHHH', extra[0][2])[0::5]
                        if d[-1:] != b'4' or (status & 16 and tag == 77): heard.add(chr(d[-1]))
                    print('heard ' + ''.join(sorted(heard)))
                else:
                    own = bytes.fromhex('7a11223344' + sys.argv[2])
                    ipv6 = bytes.fromhex('6000000000403bff' + 'fe80' + '00' * 13 + '01' + 'ff02' + '00' * 12 + 'aaaa')
                    for _ in range(8):
                        s.send(bytes.fromhex('33330000aaaa') + own + b'\\x86\\xdd' + ipv6 + bytes(60) + b'LAB1')
                        s.send(bytes.fromhex('01005e0000fb') + own + b'\\x88\\xb5' + bytes(60) + b'LAB2')
                        s.send(b'\\xff' * 6 + own + b'\\x88\\xb5' + bytes(60) + b'LAB3')
                        s.send(b'\\xff' * 6 + own + b'\\x81\\x00\\x00\\x4d\\x88\\xb5' + bytes(60) + b'LAB4')
                        time.sleep(0.25)
                """
            for (from, to, number) in [(mine, other, "01"), (other, mine, "02")] {
                let file = pair.cluster.directory.appendingPathComponent("frames.py")
                try script.write(to: file, atomically: true, encoding: .utf8)
                let heard = try LabShell.run(
                    "sh", "-c",
                    """
                    ip netns exec \(to.namespace) python3 \(file.path) hear & sleep 0.7
                    ip netns exec \(from.namespace) python3 \(file.path) send \(number); wait
                    """)
                #expect(heard.contains("heard 1234"), "\(from.namespace) to \(to.namespace): \(heard)")
            }
        }
    }
}

extension MixedPair {
    var hosts: [LabHost] { [ours, theirs] }
}

extension LabHost {
    /// Whether every connection shows `mtu` within `seconds`.
    func measures(_ mtu: Int, within seconds: Double = 15) throws -> Bool {
        try LabShell.poll(seconds: seconds) {
            let lines = try connections()
            return !lines.isEmpty && lines.allSatisfy { $0.contains("mtu=\(mtu)") }
        }
    }
}
