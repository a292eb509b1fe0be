import Testing

@testable import WeaveNetDaemon

struct ContainerLedgerTests {
    private func entry(_ container: String, _ namespace: String) -> ContainerLedger.Entry {
        .init(container: container, namespace: namespace)
    }

    @Test("one namespace has one name, however it is called")
    func sameNamespace() {
        var ledger = ContainerLedger()
        #expect(ledger.file(entry("web", "4:1"), wish: "web") { _ in false } == "web")
        ledger.setDevice("vethweplweb", of: "web")
        #expect(ledger.file(entry("/proc/7/ns/net", "4:1"), wish: "7") { _ in false } == "web")
        #expect(ledger.entries["web"] == .init(container: "/proc/7/ns/net", namespace: "4:1", device: "vethweplweb"))
        #expect(ledger.ident(of: "4:1") == "web" && ledger.ident(of: "4:2") == nil)
    }

    @Test("containers with one name do not share it, nor with names that have addresses")
    func sameName() {
        var ledger = ContainerLedger()
        #expect(ledger.file(entry("/a/web", "4:1"), wish: "web") { _ in false } == "web")
        #expect(ledger.file(entry("/b/web", "4:2"), wish: "web") { _ in false } == "web@4:2")
        #expect(ledger.file(entry("c", "4:3"), wish: "c") { $0 == "c" || $0 == "c@4:3" } == "c@4:3.1")
        ledger.remove("web")
        #expect(ledger.file(entry("/c/web", "4:4"), wish: "web") { _ in false } == "web")
    }

    @Test("each death and each return is told once")
    func looks() {
        var ledger = ContainerLedger(["a": entry("a", "4:1"), "b": entry("b", "4:2")])
        #expect(ledger.onLook(alive: ["a", "b"]) == .init())
        #expect(ledger.onLook(alive: ["a"]) == .init(died: ["b"]))
        #expect(ledger.onLook(alive: ["a"]) == .init())
        #expect(ledger.departed == ["b"])
        #expect(ledger.onLook(alive: ["a", "b"]) == .init(returned: ["b"]))
        #expect(ledger.departed.isEmpty)
        #expect(ledger.onLook(alive: []) == .init(died: ["a", "b"]))
        // Attached anew: alive without a look.
        _ = ledger.file(entry("a", "4:1"), wish: "a") { _ in false }
        #expect(ledger.departed == ["b"])
        ledger.remove("b")
        #expect(ledger.departed.isEmpty && ledger.entries.count == 1)
    }
}
