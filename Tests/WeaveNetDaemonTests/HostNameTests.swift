import Testing

@testable import WeaveNetDaemon

struct HostNameTests {
    private let names = HostNames(["Box", "metrics.example.org.", "0.0.0.0"])

    @Test(
        "addresses, localhost, this host's name and those given are admitted",
        arguments: [
            "", "127.0.0.1", "127.0.0.1:6784", "192.0.2.7:80", "[::1]", "[::1]:6784", "[fd00::1]:6784", "::1",
            "localhost", "LOCALHOST:6784", "weave.localhost", "localhost.:80", "box", "BOX:6784", "box.",
            "metrics.example.org", "Metrics.Example.Org.:6784",
        ])
    func admitted(_ header: String) {
        #expect(names.complaint(about: header) == nil)
    }

    @Test(
        "any other name is refused, however it looks like one of those",
        arguments: [
            "evil.example", "evil.example:6784", "localhost.evil.example", "evillocalhost", "127.0.0.1.evil.example",
            "box.evil.example", "127.0.0.1:80.evil.example", "[evil.example]:6784", "[::1].evil", "0x7f.1", "a:b:c",
            "127.0.0.1@evil.example", "example.org",
        ])
    func refused(_ header: String) throws {
        let complaint = try #require(names.complaint(about: header), "\(header)")
        #expect(complaint.contains("--http-host"))
    }

    @Test("what is told of a name is short and printable")
    func told() throws {
        let complaint = try #require(names.complaint(about: String(repeating: "x\u{1b}", count: 5000)))
        #expect(complaint.utf8.count < 1000 && !complaint.contains("\u{1b}"))
    }
}
