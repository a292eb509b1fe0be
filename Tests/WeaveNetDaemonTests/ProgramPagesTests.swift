import Foundation
import Testing

@testable import WeaveNetDaemon

@Suite("Code in memory")
struct ProgramPagesTests {
    static let smaps = """
        55d0c0a00000-55d0c0e00000 r--p 00000000 fe:00 11 /usr/bin/weaver
        Size:               4096 kB
        Anonymous:             0 kB
        55d0c0e00000-55d0c1e00000 r-xp 00400000 fe:00 11 /usr/bin/weaver
        Size:              16384 kB
        Rss:               10912 kB
        Private_Dirty:         0 kB
        Anonymous:             0 kB
        VmFlags: rd ex mr mw me
        7f0000000000-7f0000100000 r-xp 00000000 fe:00 12 /usr/lib/with a blank.so (deleted)
        Anonymous:             0 kB
        7f0000200000-7f0000300000 r-xp 00000000 fe:00 13 /usr/lib/with-a-breakpoint.so
        Anonymous:             4 kB
        7f0000400000-7f0000500000 rw-p 00000000 00:00 0
        Anonymous:           100 kB
        7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0 [vdso]
        Anonymous:             0 kB
        not-hex r-xp 00000000 fe:00 14 /usr/lib/odd.so
        Anonymous:             0 kB
        """

    @Test("Only what can be run, comes from a file and is unchanged is code")
    func parse() {
        let pages = ProgramPages(smaps: Self.smaps)
        #expect(pages.ranges == [0x55d0_c0e0_0000..<0x55d0_c1e0_0000, 0x7f00_0000_0000..<0x7f00_0010_0000])
        #expect(ProgramPages(smaps: "").ranges.isEmpty)
    }

    @Test("Released code leaves memory, and what is needed comes back and runs")
    func release() {
        let pages = ProgramPages.ofThisProcess()
        #expect(pages.ranges.count > 3)
        let before = ProcessUsage.current().residentBytes
        pages.release()
        let after = ProcessUsage.current().residentBytes
        #expect(after < before)
        #expect(ISO8601DateFormatter().string(from: Date(timeIntervalSince1970: 0)) == "1970-01-01T00:00:00Z")
    }
}
