import Foundation
import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveDatapath

@Suite("The system's peer name")
struct SystemPeerNameTests {
    private static func cases() -> [Vectors.Case] {
        (try? Vectors.load("shortid", kind: "mac-from-system-id")) ?? []
    }

    @Test("There are recordings")
    func present() { #expect(Self.cases().count >= 10) }

    @Test("The name made from an identity is the one 2.8.1 makes", arguments: cases())
    func recorded(vector: Vectors.Case) throws {
        let text = try #require(vector["system_id"] as? String)
        let name = try #require(vector["mac"] as? String)
        #expect(SystemPeerName.name(systemID: Array(text.utf8)).description == name)
    }

    @Test("Machine and product count as they are in their files, newline and all")
    func composition() {
        let machine = Array("0123456789abcdef0123456789abcdef\n".utf8)
        let product = Array("4C4C4544-0042-3510-8052-B4C04F4A4E31\n".utf8)
        #expect(SystemPeerName.name(machineID: machine, productID: [])?.description == "0a:39:ab:6e:42:c6")
        #expect(SystemPeerName.name(machineID: machine, productID: product)?.description == "e6:ca:61:0b:2e:e9")
        #expect(SystemPeerName.name(machineID: [], productID: product)?.description == "02:15:8c:3d:d2:4d")
        #expect(SystemPeerName.name(machineID: [], productID: []) == nil)
    }

    @Test("A name of the old kind is kept, any other is not")
    func persisted() {
        let machine = Array("m\n".utf8)
        let product = Array("p\n".utf8)
        let old = SystemPeerName.name(systemID: product)
        let new = SystemPeerName.name(systemID: machine + product)
        #expect(SystemPeerName.name(machineID: machine, productID: product, persisted: old) == old)
        #expect(SystemPeerName.name(machineID: machine, productID: product, persisted: PeerName(truncating: 7)) == new)
        // The name of an empty identity is nobody's old name.
        let empty = SystemPeerName.name(systemID: [])
        #expect(SystemPeerName.name(machineID: machine, productID: [], persisted: empty) != empty)
    }

    @Test("The second place of the machine's identity is looked at when the first is empty of it")
    func files() throws {
        let root = FileManager.default.temporaryDirectory.appendingPathComponent("wn-root-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: root) }
        let directory = root.appendingPathComponent("var/lib/dbus")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        try Data("a\n".utf8).write(to: directory.appendingPathComponent("machine-id"))
        let found = try SystemPeerName.ofMachine(root: root.path)
        try FileManager.default.createDirectory(
            at: root.appendingPathComponent("etc/machine-id"), withIntermediateDirectories: true)
        #expect(found != nil)
        let error = #expect(throws: SystemPeerNameError.self) { try SystemPeerName.ofMachine(root: root.path) }
        #expect(error?.description.contains("etc/machine-id") == true)
    }
}
