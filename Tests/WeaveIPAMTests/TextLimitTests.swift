import Testing
import WeaveCore

@testable import WeaveIPAM

@Suite("Nicknames that grow")
struct TextLimitTests {
    /// Each byte that is no UTF-8 becomes three when it is repaired. Whoever takes such a name and passes it on makes
    /// honest neighbours refuse the state of an honest peer.
    @Test("a nickname is taken only if others take it from us", arguments: [85, 86, 256, 257])
    func nickname(_ count: Int) throws {
        let peer = PeerName(truncating: 0x20)
        var bytes = StateMessage(unixSeconds: 1, nicknames: [peer: String(repeating: "~", count: count)]).encode()
        let place = try #require(bytes.firstIndex(of: 0x7e))
        let isTaken = (try? StateMessage.decode(bytes)) != nil
        #expect(isTaken == (count <= StateMessage.maximumNicknameBytes))
        for index in place..<place + count { bytes[index] = 0xff }
        guard count * 3 <= StateMessage.maximumNicknameBytes else {
            #expect(throws: IPAMError.self) { try StateMessage.decode(bytes) }
            return
        }
        let state = try StateMessage.decode(bytes)
        #expect(try StateMessage.decode(state.encode()) == state)
    }
}
