import Testing

@testable import WeaveDatapath

@Suite("System tools")
struct BridgeToolTests {
    @Test("A tool that is not installed, fails, or hangs is told apart")
    func outcomes() {
        #expect(Tool.run("true", []) == nil)
        #expect(Tool.run("no-such-tool-anywhere", []) == "no-such-tool-anywhere is not installed")
        #expect(Tool.run("sh", ["-c", "echo first; echo second; exit 3"]) == "sh ended with status 3: first")
        #expect(Tool.run("sleep", ["30"], timeoutMilliseconds: 50) == "sleep did not end within 50 ms")
    }

    @Test("A tool that talks without end does not block us, and its words are cut")
    func talkative() throws {
        let failure = try #require(
            Tool.run("sh", ["-c", "head -c 1000000 /dev/zero | tr '\\0' x; exit 1"], timeoutMilliseconds: 3000))
        #expect(failure.utf8.count < 400)
    }
}
