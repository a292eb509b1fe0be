import Foundation
import NetLab

/// Packets of the sleeve as they came over the underlay, to be sent again.
struct Underlay {
    /// What is done to a packet before it is sent again.
    enum Change: String, CaseIterable, Sendable {
        case none, flippedBit, flippedClass, cut, trailing
    }

    let cluster: LabCluster
    private let script: URL

    init(_ cluster: LabCluster) throws {
        self.cluster = cluster
        script = cluster.directory.appendingPathComponent("underlay.py")
        try Self.text.write(to: script, atomically: true, encoding: .utf8)
    }

    /// Lets the kernel cut and join nothing, so that each captured packet is one datagram. Before the launch.
    static func separateDatagrams(_ hosts: [LabHost]) throws {
        for host in hosts {
            try host.run("ethtool", "-K", "up1", "gso", "off", "gro", "off", "tx-udp-segmentation", "off")
        }
    }

    /// Waits until `host` has got `count` packets with frames of containers, and keeps them.
    func capture(_ count: Int, at host: LabHost) throws -> URL {
        let file = cluster.directory.appendingPathComponent("captured-\(UInt32.random(in: 0 ... .max))")
        try host.run("python3", script.path, "capture", file.path, String(count), seconds: 15)
        return file
    }

    /// Sends what was captured to `address` from `host`, from another port than the router's.
    func send(_ packets: URL, from host: LabHost, to address: String, _ change: Change = .none) throws {
        try host.run("python3", script.path, "send", packets.path, address, change.rawValue)
    }

    private static let text = """
        import socket, sys, time
        if sys.argv[1] == 'capture':
            s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x800)); s.bind(('up1', 0x800))
            s.settimeout(10); kept = []
            while len(kept) < int(sys.argv[3]):
                d, a = s.recvfrom(65536)
                # Incoming, UDP, no fragment, to the port, longer than a heartbeat and shorter than a probe.
                if a[2] != 0 or d[9] != 17 or (d[6] & 0x3f) or d[7] or d[22:24] != b'\\x1a\\x7f': continue
                p = d[28:int.from_bytes(d[2:4], 'big')]
                if 100 < len(p) < 1000: kept.append(p)
            open(sys.argv[2], 'w').write('\\n'.join(p.hex() for p in kept))
        else:
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            for line in open(sys.argv[2]).read().split():
                p = bytearray.fromhex(line)
                if sys.argv[4] == 'flippedBit': p[len(p) // 2] ^= 4
                if sys.argv[4] == 'flippedClass': p[6] ^= 0x80
                if sys.argv[4] == 'cut': p = p[:-1]
                if sys.argv[4] == 'trailing': p += b'\\0'
                s.sendto(p, (sys.argv[3], 6783)); time.sleep(0.002)
        """
}

/// Two containers that send each other numbered datagrams all the time.
struct Flood {
    /// What one of them saw.
    struct Figures {
        var sent = 0
        var received = 0
        /// Datagrams that arrived again.
        var repeated = 0
        /// Times without a datagram for a fifth of a second or longer, as seconds since 1970.
        var gaps: [(from: Double, to: Double)] = []

        /// How often nothing came for more than a second, which no busy machine explains.
        var silences: Int { gaps.filter { $0.to - $0.from > 1 }.count }

        /// How long after `moment` datagrams flow: the end of the last gap that began before `later`, 0 without any.
        func recovery(after moment: Date, before later: Date = .distantFuture) -> Double {
            let gap = gaps.last { $0.to > moment.timeIntervalSince1970 && $0.from < later.timeIntervalSince1970 }
            return gap.map { $0.to - moment.timeIntervalSince1970 } ?? 0
        }
    }

    private let tasks: [LabTask]

    /// Starts; each container sends about a thousand datagrams a second.
    init(_ cluster: LabCluster, _ containers: [LabContainer], seconds: Int) throws {
        let script = """
            import socket, sys, threading, time
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 7779)); s.settimeout(0.2)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            end = time.time() + int(sys.argv[2]); sent = 0
            def send():
                global sent
                o = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); pad = bytes(200)
                while time.time() < end:
                    try: o.sendto(b'%12d' % sent + pad, (sys.argv[1], 7779)); sent += 1
                    except OSError: pass
                    time.sleep(0.001)
            threading.Thread(target=send, daemon=True).start()
            seen = set(); repeated = 0; last = time.time()
            while time.time() < end + 1:
                try: n = int(s.recv(2000)[:12])
                except OSError: continue
                now = time.time()
                if now - last > 0.2: print('gap %f %f' % (last, now))
                last = now
                if n in seen: repeated += 1
                seen.add(n)
            if time.time() - last > 2: print('gap %f %f' % (last, time.time()))
            print('figures %d %d %d' % (sent, len(seen), repeated))
            """
        tasks = try zip(containers, containers.reversed()).map { container, other in
            try cluster.start([
                "ip", "netns", "exec", container.namespace, "python3", "-c", script, other.address ?? "",
                String(seconds),
            ])
        }
    }

    /// Waits for the end.
    func figures(within seconds: Double) throws -> [Figures] {
        try tasks.map { task in
            guard let output = task.outcome(within: seconds)?.output else {
                throw LabShell.Failure(description: "a flood of datagrams does not end")
            }
            var figures = Figures()
            for line in output.split(separator: "\n") {
                let words = line.split(separator: " ")
                if words.count == 3, words[0] == "gap", let from = Double(words[1]), let to = Double(words[2]) {
                    figures.gaps.append((from, to))
                } else if words.count == 4, words[0] == "figures" {
                    (figures.sent, figures.received, figures.repeated) = (
                        Int(words[1]) ?? 0, Int(words[2]) ?? 0, Int(words[3]) ?? 0
                    )
                }
            }
            guard figures.sent > 0 else { throw LabShell.Failure(description: "a flood failed: \(output)") }
            return figures
        }
    }
}

extension LabHost {
    /// A counter of our router's packet threads; nil when it has none of that name.
    func counter(_ name: String) throws -> Int? {
        (try report()["CaptureStats"] as? [String: Any])?[name] as? Int
    }
}
