import Testing
import WeaveCore
import WeaveTestKit

@Suite("Peer names and short ids") struct PeerNameTests {
    private static func cases(_ kind: String) -> [Vectors.Case] { (try? Vectors.load("shortid", kind: kind)) ?? [] }

    @Test("the recordings are there")
    func recordings() {
        #expect(Self.cases("peer-name-from-string").count == 39)
        #expect(Self.cases("peer-name-from-bytes").count == 8)
        #expect(Self.cases("short-id-from-feature").count == 10)
    }

    @Test("text is a name where 2.8.1 takes it for one", arguments: cases("peer-name-from-string"))
    func parsing(_ recorded: Vectors.Case) throws {
        let input = try #require(recorded["input"] as? String)
        guard recorded["error"] == nil else {
            #expect(throws: InvalidPeerName.self) { try PeerName(parsing: input) }
            return
        }
        let name = try PeerName(parsing: input)
        #expect(name.description == recorded["peer_name"] as? String)
        #expect(String(name.rawValue) == recorded["number"] as? String)
        #expect(name.bytes.hex == recorded["bytes"] as? String)
    }

    @Test(
        "six bytes are a name, as in 2.8.1, and any other number of bytes is none",
        arguments: cases("peer-name-from-bytes"))
    func bytes(_ recorded: Vectors.Case) throws {
        let bytes = try #require([UInt8](hex: recorded["bytes"] as? String ?? "none"))
        let number = try #require(UInt64(recorded["number"] as? String ?? "none"))
        let name = PeerName(bytes: bytes)
        // 2.8.1 makes a number of any bytes; only six of them can be the name of a peer.
        #expect((name != nil) == (bytes.count == 6))
        if let name {
            #expect(name.description == recorded["peer_name"] as? String)
            #expect(name.bytes.hex == recorded["name_bytes"] as? String)
        }
        #expect(PeerName(truncating: number).description == recorded["peer_name"] as? String)
        #expect((PeerName(exactly: number) != nil) == (number < 1 << 48))
    }

    @Test("names sort by number, and the unknown one is zero")
    func order() throws {
        let low = try PeerName(parsing: "01::2")
        let high = try PeerName(parsing: "7a:00:00:00:00:01")
        #expect(low < high)
        #expect(PeerName.unknown.rawValue == 0)
        #expect(throws: InvalidPeerName.self) { try PeerName(parsing: "nonsense") }
    }

    @Test("text is a short id where 2.8.1 takes it for one", arguments: cases("short-id-from-feature"))
    func shortID(_ recorded: Vectors.Case) throws {
        let parsed = ShortID(try #require(recorded["input"] as? String))
        #expect(parsed.map { Int($0.rawValue) } == recorded["short_id"] as? Int)
        #expect((parsed == nil) == (recorded["error"] != nil))
    }

    @Test("a short id has twelve bits")
    func shortIDs() {
        #expect(ShortID(exactly: 4095)?.description == "4095")
        #expect(ShortID(exactly: 4096) == nil)
        #expect(ShortID(exactly: -1) == nil)
        var generator = SeededGenerator(seed: 4)
        let drawn = Set((0..<20_000).map { _ in ShortID.random(using: &generator) })
        #expect(drawn.count > 4000)
        #expect(drawn.allSatisfy { $0.rawValue < 4096 })
        #expect(drawn.min().map { $0.rawValue < 10 } == true)
    }
}
