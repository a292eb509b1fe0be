import Testing
import WeaveCore

@Suite("Gossip seam") struct GossipTests {
    private struct Other: GossipData {
        func merged(with newer: any GossipData) -> any GossipData { newer }
        func encode() -> [[UInt8]] { [] }
    }

    @Test("opaque data keeps every payload once, in order")
    func opaque() {
        let both = OpaqueGossip([1]).merged(with: OpaqueGossip([2]))
        let all = both.merged(with: OpaqueGossip([1]).merged(with: OpaqueGossip([3])))
        #expect(all.encode() == [[1], [2], [3]])
    }

    @Test("data of another type replaces what was there")
    func otherType() {
        #expect(OpaqueGossip([1]).merged(with: Other()) is Other)
    }

    @Test("an error says what happened")
    func errors() {
        let error = GossipError(.noRoute, "no route to 7a:00:00:00:00:01")
        #expect(error.code == .noRoute)
        #expect("\(error)" == "no route to 7a:00:00:00:00:01")
    }
}
