import CSodium
import Testing
import WeaveCore
import WeaveCrypto
import WeaveTestKit

@Suite("Packets")
struct PacketTests {
    private static let name = PeerName(truncating: 0x7a00_0000_0001)

    @Test("Every length up to three kernels of the cipher equals secretbox, and comes back")
    func sameAsSecretbox() throws {
        let session = try key(countingKey)
        let sealer = PacketSealer(key: session, role: .dialler)
        let opener = PacketOpener(key: session, role: .acceptor)
        var generator = SeededGenerator(seed: 7)
        for length in 0...1_536 {
            let records = (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
            let packet = try sealer.seal(name: Self.name, records: records, dontFragment: length % 2 == 0)
            let nonce = [0x80] + [UInt8](repeating: 0, count: 15) + packet[6..<14]
            var expected = [UInt8](repeating: 0, count: length + 16)
            _ = try unsafe crypto_secretbox_easy(&expected, records, UInt64(length), nonce, bytes(countingKey))
            #expect(Array(packet[14...]) == expected, "length \(length)")
            #expect(try opener.open(packet) == records, "length \(length)")
        }
    }

    @Test("Both kinds of packet are numbered from 0 on their own, in the word after the name")
    func words() throws {
        let sealer = try PacketSealer(key: key(countingKey), role: .dialler)
        func word(_ dontFragment: Bool) throws -> String {
            let packet = try sealer.seal(name: Self.name, records: [1], dontFragment: dontFragment)
            #expect(Array(packet[..<6]) == Self.name.bytes)
            return Array(packet[6..<14]).hex
        }
        #expect(try word(true) == "8000000000000000")
        #expect(try word(false) == "0000000000000000")
        #expect(try word(true) == "8000000000000001")
        #expect(try word(true) == "8000000000000002")
        #expect(try word(false) == "0000000000000001")
    }

    @Test("Any single changed bit after the name makes a packet fail, and a failed packet leaves no trace")
    func damaged() throws {
        let session = try key(countingKey)
        let opener = PacketOpener(key: session, role: .acceptor)
        let packet = try PacketSealer(key: session, role: .dialler, firstSequence: 5 << 20)
            .seal(name: Self.name, records: Array(0..<100), dontFragment: true)
        for bit in 6 * 8..<packet.count * 8 {
            var damaged = packet
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            let before = damaged
            let opening = unsafe damaged.withUnsafeMutableBytes { unsafe opener.open($0) }
            #expect(opening == .undecryptable, "bit \(bit)")
            #expect(damaged == before, "bit \(bit)")
        }
        // Had one of them moved the window, this first number would be too old.
        let first = try PacketSealer(key: session, role: .dialler)
            .seal(name: Self.name, records: [9], dontFragment: true)
        #expect(try opener.open(first) == [9])
        #expect(try opener.open(packet) == Array(0..<100))
    }

    @Test("A packet cut anywhere fails")
    func truncated() throws {
        let session = try key(countingKey)
        let opener = PacketOpener(key: session, role: .acceptor)
        let packet = try PacketSealer(key: session, role: .dialler)
            .seal(name: Self.name, records: Array(0..<50), dontFragment: false)
        for count in 0..<packet.count {
            var cut = Array(packet[..<count])
            let opening = unsafe cut.withUnsafeMutableBytes { unsafe opener.open($0) }
            #expect(opening == (count < 14 ? .tooShort(max(0, count - 6)) : .undecryptable), "\(count) bytes")
        }
        #expect(unsafe opener.open(UnsafeMutableRawBufferPointer(start: nil, count: 0)) == .tooShort(0))
        #expect(try opener.open(packet) == Array(0..<50))
    }

    @Test("Random bytes never open", arguments: [UInt64(1), 2, 3])
    func noise(_ seed: UInt64) throws {
        let opener = try PacketOpener(key: key(countingKey), role: .acceptor)
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<2_000 {
            var noise = (0..<Int.random(in: 0...80, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            let opening = unsafe noise.withUnsafeMutableBytes { unsafe opener.open($0) }
            #expect(opening.errorText != nil, "seed \(seed): \(noise.hex)")
        }
    }

    @Test("Sequence numbers end at 2^63 and never wrap; the other kind goes on")
    func exhausted() throws {
        let session = try key(countingKey)
        let end: UInt64 = 1 << 63
        let sealer = PacketSealer(key: session, role: .dialler, firstSequence: end - 1)
        let opener = PacketOpener(key: session, role: .acceptor)
        #expect(try opener.open(sealer.seal(name: Self.name, records: [1], dontFragment: true)) == [1])
        for _ in 0..<3 {
            let error = try #require(throws: CryptoError.self) {
                try sealer.seal(name: Self.name, records: [1], dontFragment: true)
            }
            #expect(error.code == .sequenceExhausted)
        }
        let last = try sealer.seal(name: Self.name, records: [2], dontFragment: false)
        #expect(Array(last[6..<14]).hex == "7fffffffffffffff")
        #expect(try opener.open(last) == [2])
        #expect(throws: CryptoError.self) { try sealer.seal(name: Self.name, records: [1], dontFragment: false) }
    }

    @Test("A buffer without room for the seal is refused", arguments: [0, 6, 29])
    func noRoom(_ count: Int) throws {
        let sealer = try PacketSealer(key: key(countingKey), role: .dialler)
        var packet = [UInt8](repeating: 0, count: count)
        let code: CryptoError.Code? = unsafe packet.withUnsafeMutableBytes { buffer in
            do throws(CryptoError) {
                try unsafe sealer.seal(buffer, dontFragment: true)
                return nil
            } catch {
                return error.code
            }
        }
        #expect(code == .tooShort)
    }

    @Test("Many senders at once never share a number, and every packet opens")
    func concurrentSealing() async throws {
        let session = try key(countingKey)
        let sealer = PacketSealer(key: session, role: .dialler)
        let senders = 8
        let each = 2_000
        let packets = try await withThrowingTaskGroup(of: [[UInt8]].self) { group in
            for sender in 0..<senders {
                group.addTask {
                    try (0..<each).map { index in
                        try sealer.seal(
                            name: Self.name, records: [UInt8(sender), UInt8(index & 255)], dontFragment: index % 2 == 0)
                    }
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        let words = Set(packets.map { Array($0[6..<14]) })
        #expect(words.count == senders * each)
        let highest = UInt64(senders * each / 2)
        let expected = (0..<highest).flatMap { [$0, $0 | 1 << 63] }.map { number in
            var word: [UInt8] = []
            word.appendInteger(number, byteCount: 8)
            return word
        }
        #expect(words == Set(expected))
        let opener = PacketOpener(key: session, role: .acceptor)
        for packet in packets { #expect(try opener.open(packet)?.count == 2) }
    }

    @Test("Several receivers of the same packets accept each exactly once among them")
    func concurrentOpening() async throws {
        let session = try key(countingKey)
        let sealer = PacketSealer(key: session, role: .acceptor)
        let packets = try (0..<3_000).map { index in
            try sealer.seal(name: Self.name, records: [UInt8(index & 255)], dontFragment: index % 3 == 0)
        }
        let opener = PacketOpener(key: session, role: .dialler)
        let accepted = try await withThrowingTaskGroup(of: [Int].self) { group in
            for _ in 0..<4 {
                group.addTask { try packets.indices.filter { try opener.open(packets[$0]) != nil } }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(accepted.sorted() == Array(packets.indices))
    }

    @Test("TCP frames and packets under one key never share a nonce")
    func separateNonces() throws {
        let session = try key(countingKey)
        for role in [TrafficRole.dialler, .acceptor] {
            let frame = try StreamSealer(key: session, role: role).seal([1, 2, 3])
            let packet = try PacketSealer(key: session, role: role)
                .seal(name: .unknown, records: [1, 2, 3], dontFragment: false)
            #expect(Array(packet[14...]) != frame)
            let opener = PacketOpener(key: session, role: role.opposite)
            #expect(throws: CryptoError.self) { try opener.open([UInt8](repeating: 0, count: 14) + frame) }
        }
    }
}
