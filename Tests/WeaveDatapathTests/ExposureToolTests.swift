import Foundation
import NetLab
import Testing
import WeaveNetlink

@testable import WeaveDatapath

/// Programs that answer like iptables on a bad day.
private final class FakeTools {
    private let directory = FileManager.default.temporaryDirectory.appendingPathComponent("fake-\(UUID().uuidString)")

    var flavour: IPTablesFlavour { IPTablesFlavour(description: directory.appendingPathComponent("iptables").path) }
    var iptables: IPTables { IPTables(flavour) }

    /// - Parameters: what each of the three programs does, as shell scripts; `$D` is a directory for them to write to.
    init(check: String = "exit 1", save: String = "exit 0", restore: String = "cat > $D/script") throws {
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        for (suffix, script) in [("", check), ("-save", save), ("-restore", restore)] {
            let file = directory.appendingPathComponent("iptables" + suffix)
            let text = "#!/bin/sh\nD='\(directory.path)'\necho x >> $D/calls\(suffix)\n\(script)\n"
            try text.write(to: file.appendingPathExtension("txt"), atomically: true, encoding: .utf8)
            // A child of another test may hold open for writing what this process writes, and then it cannot be run.
            try LabShell.run("install", "-m", "755", file.path + ".txt", file.path)
        }
    }

    deinit { try? FileManager.default.removeItem(at: directory) }

    func calls(_ suffix: String) -> Int {
        let file = directory.appendingPathComponent("calls" + suffix)
        return (try? String(contentsOf: file, encoding: .utf8).split(separator: "\n").count) ?? 0
    }

    func apply() throws -> [String] {
        try iptables.apply { present in
            ExposurePlan(ExposureRules(HostExposureOptions(), shownBy: present, addresses: []), from: present)
        }
    }
}

@Suite("Exposure: tools that fail")
struct ExposureToolTests {
    @Test("A lock that is never free ends in an error after a bounded number of tries")
    func busy() throws {
        let tools = try FakeTools(restore: "echo 'Another app is currently holding the xtables lock.' >&2; exit 4")
        let error = #expect(throws: NetlinkError.self) { try tools.apply() }
        #expect(error?.code == .busy && error?.message.contains("Another app") == true)
        #expect(tools.calls("-restore") == IPTables.attempts)
        // Rules are not even tried when it cannot be told whether they are there.
        let deaf = try FakeTools(check: "exit 4")
        let other = #expect(throws: NetlinkError.self) { try deaf.apply() }
        #expect(other?.code == .busy && deaf.calls("") == IPTables.attempts && deaf.calls("-restore") == 0)
    }

    @Test("Rules that do not stick are told of, and not put in without end")
    func undone() throws {
        let tools = try FakeTools()
        let error = #expect(throws: NetlinkError.self) { try tools.apply() }
        #expect(error?.code == .busy && error?.message.contains("removes them") == true)
        #expect(tools.calls("-restore") == IPTables.attempts)
    }

    @Test("Rules that are there in words we do not know are never put in again")
    func otherWords() throws {
        let tools = try FakeTools(check: "exit 0")
        let error = #expect(throws: NetlinkError.self) { try tools.apply() }
        #expect(error?.code == .failed && error?.message.contains("in other words") == true)
        #expect(tools.calls("-restore") == 0)
    }

    @Test("A change of others in between is no error")
    func race() throws {
        // The first try meets a rule that has just gone; then all is as it should be.
        let tools = try FakeTools(
            save: "test -e $D/done && cat $D/done; exit 0",
            restore: """
                test -e $D/tried || { touch $D/tried; echo 'iptables-restore: line 2 failed' >&2; exit 1; }
                sed -e 's/-I FORWARD [0-9]*/-A FORWARD/' > $D/done
                """)
        let changes = try tools.apply()
        #expect(tools.calls("-restore") == 2)
        #expect(changes.count == 5)
        #expect(try tools.apply() == [] && tools.calls("-restore") == 2)
    }

    @Test("Who may not is told so, and the tool's own words come through")
    func refused() throws {
        let denied = try FakeTools(save: "echo 'Permission denied (you must be root)' >&2; exit 4")
        let first = #expect(throws: NetlinkError.self) { try denied.apply() }
        #expect(first?.code == .notPermitted)
        let half = try FakeTools(restore: "echo 'iptables-restore: Operation not permitted' >&2; exit 1")
        let third = #expect(throws: NetlinkError.self) { try half.apply() }
        #expect(third?.code == .notPermitted && half.calls("-restore") == 1)
        let broken = try FakeTools(save: "echo '# remark' >&2; echo 'table `nat'\\'' is incompatible' >&2; exit 1")
        let second = #expect(throws: NetlinkError.self) { try broken.iptables.rules() }
        #expect(second?.code == .failed && second?.message.contains("is incompatible") == true)
    }
}
