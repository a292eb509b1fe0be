import Foundation
import Testing

@testable import WeaveDatapath

@Suite("Kernel settings")
struct SysctlTests {
    private func withRoot(_ body: (String) throws -> Void) throws {
        let root = FileManager.default.temporaryDirectory.appendingPathComponent("wn-sys-\(UUID().uuidString)")
        try FileManager.default.createDirectory(
            at: root.appendingPathComponent("net/a"), withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: root) }
        try body(root.path)
    }

    @Test("A setting is written when it differs, and the file of one that is right is not opened for writing")
    func writesWhatDiffers() throws {
        try withRoot { root in
            try Data("1\n".utf8).write(to: URL(fileURLWithPath: root + "/net/a/x"))
            let sysctl = Sysctl(root: root)
            #expect(sysctl.read("net/a/x") == "1")
            #expect(sysctl.apply(SysctlSetting("net/a/x", "1")) == .unchanged)
            #expect(sysctl.read("net/a/x") == "1")
            #expect(sysctl.apply(SysctlSetting("net/a/x", "0")) == .changed)
            #expect(sysctl.read("net/a/x")?.first == "0")
        }
    }

    @Test("A setting the kernel does not have is passed over and not made")
    func absent() throws {
        try withRoot { root in
            let sysctl = Sysctl(root: root)
            #expect(sysctl.apply(SysctlSetting("net/ipv6/conf/weave/accept_ra", "0")) == .absent)
            #expect(sysctl.apply(SysctlSetting.ignoreRouterAdvertisements("weave")) == [])
            #expect(!FileManager.default.fileExists(atPath: root + "/net/ipv6"))
        }
    }

    @Test("A refusal names the file and the reason")
    func refused() throws {
        try withRoot { root in
            let warnings = Sysctl(root: root).apply([SysctlSetting("net/a", "0")])
            #expect(warnings.count == 1 && warnings.first?.contains("\(root)/net/a: is a directory") == true)
        }
    }
}
