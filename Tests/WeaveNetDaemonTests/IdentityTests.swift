import Foundation
import Testing
import WeaveCore

@testable import WeaveNetDaemon

struct IdentityTests {
    @Test("flag, bridge, system, stored, random: the first wins")
    func order() {
        var generator = SeededGenerator(seed: 5)
        let names = (1...4).map { PeerName(truncating: UInt64($0)) }
        func choose(_ flag: PeerName?, _ bridge: PeerName?, _ system: PeerName?, _ stored: PeerName?) -> String {
            let choice = PeerIdentity.choose(
                flag: flag, bridge: bridge, system: system, stored: stored, using: &generator)
            return "\(choice.source.rawValue) \(choice.name.rawValue)"
        }
        #expect(choose(names[0], names[1], names[2], names[3]) == "flag 1")
        #expect(choose(nil, names[1], names[2], names[3]) == "bridge 2")
        #expect(choose(nil, .unknown, names[2], names[3]) == "system 3")
        #expect(choose(nil, nil, nil, names[3]) == "stored 4")
        let random = PeerIdentity.choose(flag: nil, bridge: nil, system: nil, stored: nil, using: &generator)
        #expect(random.source == .random && random.name.bytes[0] & 0x03 == 0x02)
    }
}
