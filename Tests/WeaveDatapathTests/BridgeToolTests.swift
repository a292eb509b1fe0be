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

    @Test("A tool reads what it is given, and its words and complaints come back apart, as long as they may be")
    func inputAndOutput() throws {
        let input = String(repeating: "0123456789", count: 50_000)
        let outcome = try Tool.execute(
            "sh", ["-c", "cat; echo '# remark' >&2; echo why >&2; exit 4"], input: input, outputLimit: 1 << 20
        ).get()
        #expect(outcome.output == input && outcome.complaints == "# remark\nwhy\n")
        #expect(outcome.description == "sh ended with status 4: why")
        let short = try Tool.execute("cat", [], input: input, outputLimit: 10).get()
        #expect(short.output == "0123456789" && short.status == 0)
        #expect(Tool.run("sh", ["-c", "kill -9 $$"]) == "sh ended with status 137: ")
        let missing = Tool.execute("no-such-tool-anywhere", [])
        #expect(throws: Tool.Failure.self) { try missing.get() }
    }
}
