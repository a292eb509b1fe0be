import Testing
import WeaveCore
import WeaveCrypto

@Suite("Secrets in memory")
struct SecretTests {
    /// The slot at an address inside an arena, which never gives its pages back.
    private func slot(at place: UInt) -> [UInt8] {
        unsafe Array(
            UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: place), count: SecretArena.slotSize))
    }

    @Test("A secret is wiped when its last reference goes, not before", arguments: [1, 32, 64])
    func wiped(_ count: Int) {
        // Nobody else uses this arena, so its slots can be looked at after they were released.
        let arena = SecretArena()
        var references = [SecretBytes(copying: [UInt8](repeating: 0xa5, count: count), arena: arena)]
        let place = references[0].place
        references.append(references[0])
        for _ in 0..<2 {
            let seen = slot(at: place)
            #expect(seen.prefix(count).allSatisfy { $0 == 0xa5 })
            #expect(seen.dropFirst(count).allSatisfy { $0 == 0 })
            references.removeLast()
        }
        #expect(slot(at: place).allSatisfy { $0 == 0 })
        withExtendedLifetime(arena) {}
    }

    @Test("Slots are used again")
    func reused() {
        let arena = SecretArena()
        var places: Set<UInt> = []
        for byte in 0..<100 { places.insert(SecretBytes(copying: [UInt8(byte)], arena: arena).place) }
        #expect(places.count == 1)
    }

    @Test("A thousand keys at once have places of their own and keep their bytes")
    func many() {
        let arena = SecretArena()
        let secrets = (0..<1_000).map { index in
            SecretBytes(copying: [UInt8](repeating: UInt8(index & 255), count: 32), arena: arena)
        }
        #expect(Set(secrets.map(\.place)).count == 1_000)
        for (index, secret) in secrets.enumerated() {
            #expect(secret.copy == [UInt8](repeating: UInt8(index & 255), count: 32))
        }
    }

    @Test("Keys made and released by many tasks stay what they were")
    func concurrent() async {
        let arena = SecretArena()
        let intact = await withTaskGroup(of: Bool.self) { group in
            for task in 0..<8 {
                group.addTask {
                    (0..<2_000).allSatisfy { round in
                        let byte = UInt8(truncatingIfNeeded: task * 31 + round)
                        let secret = SecretBytes(copying: [UInt8](repeating: byte, count: 32), arena: arena)
                        return secret.copy == [UInt8](repeating: byte, count: 32)
                    }
                }
            }
            return await group.allSatisfy { $0 }
        }
        #expect(intact)
    }

    @Test("Keys compare by their bytes")
    func equality() {
        let a = SessionKey(bytes: Array(0..<32))
        let b = SessionKey(bytes: Array(0..<32))
        let c = SessionKey(bytes: Array(1..<33))
        #expect(a == b)
        #expect(a != c)
    }
}
