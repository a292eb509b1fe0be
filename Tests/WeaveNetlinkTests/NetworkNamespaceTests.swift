import Glibc
import NetLab
import Testing
import WeaveNetlink

@Suite("Network namespaces")
struct NetworkNamespaceTests {
    @Test("The same namespace found by name, path and process is equal", .enabled(if: LabShell.canMakeNamespaces))
    func identity() throws {
        let lab = try LabCluster()
        let name = try lab.addContainer().namespace
        let other = try lab.addContainer().namespace
        let byName = try NetworkNamespace(named: name)
        #expect(try byName == NetworkNamespace(path: "/var/run/netns/\(name)"))
        #expect(try byName != NetworkNamespace(named: other))
        #expect(try NetworkNamespace.current() == NetworkNamespace(processID: getpid()))
        #expect(NetworkNamespace.names().contains(name))
    }

    @Test("Code runs inside, and the caller stays where it was", .enabled(if: LabShell.canMakeNamespaces))
    func run() throws {
        let lab = try LabCluster()
        let inside = try NetworkNamespace(named: lab.addContainer().namespace)
        let outside = try NetworkNamespace.current()
        #expect(try inside.run { try NetworkNamespace.current() } == inside)
        #expect(try NetworkNamespace.current() == outside)
        struct Told: Error {}
        #expect(throws: Told.self) { try inside.run { throw Told() } }
        #expect(try NetworkNamespace.current() == outside)
    }

    @Test("Callers that must not block are suspended instead", .enabled(if: LabShell.canMakeNamespaces))
    func suspended() async throws {
        let lab = try LabCluster()
        let inside = try NetworkNamespace(named: lab.addContainer().namespace)
        let found = try await inside.run { try NetworkNamespace.current() }
        #expect(found == inside)
        struct Told: Error {}
        await #expect(throws: Told.self) { try await OwnThread.run { throw Told() } }
    }

    @Test("A socket opened inside keeps talking about the inside", .enabled(if: LabShell.canMakeNamespaces))
    func socketStays() throws {
        let lab = try LabCluster()
        let inside = try NetworkNamespace(named: lab.addContainer().namespace)
        let netlink = try inside.routeNetlink()
        #expect(
            try netlink.links().filter { !["lo", "sit0", "ip6tnl0", "gre0", "erspan0", "gretap0"].contains($0.name) }
                == [])
    }

    @Test("A namespace has a number once a device leads there", .enabled(if: LabShell.canMakeNamespaces))
    func numbers() throws {
        let lab = try LabCluster()
        let here = try NetworkNamespace(named: lab.addContainer().namespace)
        let there = try NetworkNamespace(named: lab.addContainer().namespace)
        let (before, after, shown) = try here.run { () throws in
            let before = try there.number()
            let netlink = try RouteNetlink()
            try netlink.createVeth(.init("a"), .init("b"), in: there)
            let shown = try netlink.existingLink(named: "a").peerNamespace
            return (before, try there.number(), shown)
        }
        #expect(before == nil && after != nil && after == shown)
    }

    @Test("A namespace stays usable after its name is gone", .enabled(if: LabShell.canMakeNamespaces))
    func outlivesName() throws {
        let name = "wlgone\(getpid())"
        try LabShell.run("ip", "netns", "add", name)
        let inside = try NetworkNamespace(named: name)
        try LabShell.run("ip", "netns", "delete", name)
        #expect(try inside.run { try RouteNetlink().link(named: "lo") } != nil)
    }

    @Test(
        "Bad names, missing ones and other files are refused with words",
        arguments: [
            ("a/b", "cannot name"), ("..", "cannot name"), ("", "cannot name"), ("nobody-here", "no such file"),
        ])
    func refusals(name: String, words: String) throws {
        let error = #expect(throws: NetlinkError.self) { try NetworkNamespace(named: name) }
        #expect(error?.message.contains(words) == true)
    }

    @Test("A file that is no network namespace is refused")
    func notANamespace() {
        for path in ["/etc/passwd", "/proc/self/ns/uts", "/dev/null"] {
            let error = #expect(throws: NetlinkError.self) { try NetworkNamespace(path: path) }
            #expect(error?.code == .invalid, "\(path)")
        }
        #expect(throws: NetlinkError.self) { try NetworkNamespace(processID: 0) }
        let gone = #expect(throws: NetlinkError.self) { try NetworkNamespace(processID: Int32.max) }
        #expect(gone?.message == "there is no process 2147483647")
    }
}
