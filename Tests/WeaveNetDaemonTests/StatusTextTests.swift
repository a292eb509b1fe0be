import Foundation
import Testing
import WeaveCore
import WeaveMesh

@testable import WeaveNetDaemon

struct StatusTextTests {
    @Test("the summary has the labels and columns of 2.8.1")
    func summary() {
        let expected = """
                    Version: \(WeaveNetVersion.current) (version check update disabled)

                    Service: router
                   Protocol: weave 1..2
                       Name: 00:00:00:00:00:02(host2)
                 Encryption: disabled
              PeerDiscovery: disabled
                    Targets: 2
                Connections: 3 (2 established, 1 retrying)
                      Peers: 3 (with 4 established connections)
             TrustedSubnets: none

            """
        #expect(StatusText(status: Sample.status()).summary == expected)
    }

    @Test("a lone peer has no counts in parentheses")
    func alone() {
        var mesh = Sample.mesh(
            connections: [],
            peers: [.init(name: Sample.two, nickname: "x", uid: 1, shortID: nil, version: 1, connections: [])])
        mesh.minimumProtocolVersion = 2
        mesh.trustedSubnets = [IPv4CIDR("10.0.0.0/8"), IPv4CIDR("192.168.0.0/16")].compactMap { $0 }
        let text = StatusText(status: Sample.status(mesh)).summary
        #expect(
            text.contains("\n    Connections: 0\n          Peers: 1\n TrustedSubnets: 10.0.0.0/8, 192.168.0.0/16\n"))
        #expect(text.contains("\n       Protocol: weave 2\n"))
    }

    @Test("connections without a password look as in 2.8.1, in a fixed order")
    func plainConnections() {
        let lines = [
            "-> 192.168.48.11:6783    established sleeve 00:00:00:00:00:01(host1) mtu=1438",
            "<- 192.168.48.13:33747   established sleeve 00:00:00:00:00:03(host3) mtu=1438",
            "-> 192.168.48.99:6783    retrying    dial tcp :0->192.168.48.99:6783: connect: no route to host ",
        ]
        #expect(StatusText(status: Sample.status()).connections == lines.joined(separator: "\n") + "\n")
        let reversed = Sample.mesh(connections: Sample.connections.reversed())
        #expect(StatusText(status: Sample.status(reversed)).connections == lines.joined(separator: "\n") + "\n")
    }

    @Test("with a password every live line says whether it is encrypted, and attributes stand apart")
    func encryptedConnections() {
        let four = PeerName(truncating: 4)
        let mesh = Sample.mesh(
            connections: [
                Sample.live("192.168.48.12:45019", outbound: false, peer: Sample.two, "host2"),
                Sample.live(
                    "192.168.48.13:43495", outbound: false, peer: Sample.three, "host3", mtu: 1414, encrypted: true),
                Sample.live(
                    "192.168.48.14:51705", outbound: false, peer: four, "host4", mtu: 65535, encrypted: true,
                    state: .pending),
                .init(address: "192.168.48.15:6783", outbound: true, state: .connecting),
                .init(
                    address: "192.168.48.16:6783", outbound: true, state: .failed,
                    lastError: "cannot connect to ourself", neverRetry: true),
                .init(
                    address: "192.168.48.17:7000", outbound: true, state: .failed,
                    lastError: "dial tcp :0->192.168.48.17:7000: connect: connection refused", retryIn: .seconds(61)),
                .init(address: "192.168.48.18:7000", outbound: true, state: .waiting, retryIn: .milliseconds(1500)),
                .init(
                    address: "192.168.48.19:6783", outbound: true, state: .pending, peer: Sample.one, nickname: "host1"),
            ], encryption: true)
        let lines = [
            "<- 192.168.48.12:45019   established unencrypted sleeve 00:00:00:00:00:02(host2) mtu=1438",
            "<- 192.168.48.13:43495   established encrypted   sleeve 00:00:00:00:00:03(host3) encrypted=true mtu=1414",
            "<- 192.168.48.14:51705   pending     encrypted   sleeve 00:00:00:00:00:04(host4) encrypted=true mtu=65535",
            "-> 192.168.48.19:6783    pending     unencrypted none   00:00:00:00:00:01(host1) ",
            "-> 192.168.48.15:6783    connecting   ",
            "-> 192.168.48.16:6783    failed      cannot connect to ourself, retry: never ",
            "-> 192.168.48.17:7000    failed      dial tcp :0->192.168.48.17:7000: connect: connection refused, "
                + "retry: 2031-02-03T04:06:07Z ",
            "-> 192.168.48.18:7000    waiting     until: 2031-02-03T04:05:07Z ",
        ]
        #expect(StatusText(status: Sample.status(mesh)).connections == lines.joined(separator: "\n") + "\n")
    }

    @Test("peers are listed by name with their connections")
    func peers() {
        let expected = """
            00:00:00:00:00:01(host1)
               <- 192.168.48.12:42561   00:00:00:00:00:02(host2)              established
            00:00:00:00:00:02(host2)
               <- 192.168.48.13:33747   00:00:00:00:00:03(host3)              established
               -> 192.168.48.11:6783    00:00:00:00:00:01(host1)              established
            00:00:00:00:00:03(host3)
               -> 192.168.48.12:6783    00:00:00:00:00:02(host2)              established

            """
        #expect(StatusText(status: Sample.status(Sample.mesh(peers: Sample.peers.reversed()))).peers == expected)
    }

    @Test("targets are what the operator typed, one a line")
    func targets() {
        #expect(StatusText(status: Sample.status()).targets == "192.168.48.11\n192.168.48.99\n")
    }

    @Test("a nickname cannot break a line or steer a terminal")
    func hostileNickname() {
        let hostile = "x\n-> 6.6.6.6:1 established\u{1b}[2J\u{202e}"
        let mesh = Sample.mesh(connections: [Sample.live("1.2.3.4:5", outbound: true, peer: Sample.one, hostile)])
        let text = StatusText(status: Sample.status(mesh)).connections
        #expect(text.split(separator: "\n").count == 1)
        #expect(text.contains("(x?-> 6.6.6.6:1 established?[2J?)"))
    }

    @Test("civil time is right around leap days, eras and before 1970")
    func civilTime() {
        #expect(CivilTime(Date(timeIntervalSince1970: 0)).rfc3339 == "1970-01-01T00:00:00Z")
        #expect(CivilTime(Date(timeIntervalSince1970: -1)).rfc3339 == "1969-12-31T23:59:59Z")
        #expect(CivilTime(Date(timeIntervalSince1970: 951_782_400)).rfc3339 == "2000-02-29T00:00:00Z")
        #expect(CivilTime(Date(timeIntervalSince1970: 4_107_542_400)).rfc3339 == "2100-03-01T00:00:00Z")
        #expect(
            CivilTime(Date(timeIntervalSince1970: 1.25), secondsFromUTC: 3600).logStamp == "1970/01/01 01:00:01.250000")
    }
}
