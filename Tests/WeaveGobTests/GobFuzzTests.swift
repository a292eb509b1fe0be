import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveGob

/// Damaged streams: each must give values or an error, quickly, and three ways of reading must agree.
@Suite("Random damage to gob") struct GobFuzzTests {
    private struct Sample {
        var shape: GobShape
        var bytes: [UInt8]
    }

    /// Good streams of all shapes, from the recordings.
    private static func samples() throws -> [Sample] {
        var samples: [Sample] = []
        for recorded in try Vectors.load("gob") where ["encode", "encode-ids", "decode"].contains(recorded.kind) {
            var reader = GobVectorJSON()
            let json = (recorded["values"] as? [[String: Any]])?.first?["type"] ?? recorded["type"]
            let bytes = try reader.hex(recorded["bytes"])
            if bytes.count < 2000 { samples.append(Sample(shape: GobShape(try reader.type(json)), bytes: bytes)) }
        }
        return samples
    }

    private static func damage(_ bytes: [UInt8], _ generator: inout SeededGenerator) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 1...3, using: &generator) {
            guard !bytes.isEmpty else { break }
            let place = Int.random(in: 0..<bytes.count, using: &generator)
            switch Int.random(in: 0..<6, using: &generator) {
            case 0: bytes[place] = UInt8.random(in: 0...255, using: &generator)
            case 1: bytes[place] ^= 1 << UInt8.random(in: 0...7, using: &generator)
            case 2: bytes.remove(at: place)
            case 3: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: place)
            case 4: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + 12)], at: place)
            default: bytes.replaceSubrange(place..<min(bytes.count, place + 2), with: [0xf8, 0xff, 0xff, 0xff])
            }
        }
        return bytes
    }

    @Test("damaged streams give values or errors", arguments: UInt64(1)...8)
    func damaged(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let samples = try Self.samples()
        #expect(samples.count > 100)
        var values = 0
        var errors = 0
        for _ in 0..<2500 {
            let sample = samples[Int.random(in: 0..<samples.count, using: &generator)]
            let bytes = Self.damage(sample.bytes, &generator)
            var decoder = GobDecoder(bytes, limits: .message)
            var skipping = GobDecoder(bytes, limits: .message)
            for _ in 0..<8 {
                let outcome = Result { () throws(GobError) in try decoder.decode(as: sample.shape) }
                let skipped = Result { () throws(GobError) in
                    try skipping.decode(as: sample.shape) { (reader) throws(GobError) in try reader.skip() }
                }
                switch (outcome, skipped) {
                case (.success(nil), .success(nil)): break
                case (.success(.some), .success(.some)): values += 1
                // Numbers that do not fit are seen only by those who look at them.
                case (.failure(let error), .success): #expect(error.code == .outOfRange, "seed \(seed), \(bytes.hex)")
                case (.failure, .failure): errors += 1
                default: Issue.record("seed \(seed): \(outcome) but skipped \(skipped) in \(bytes.hex)")
                }
                if case .success(nil) = outcome { break }
                #expect(decoder.bufferedBytes == skipping.bufferedBytes)
            }
        }
        #expect(values > 100 && errors > 100, "seed \(seed)")
    }

    @Test("what was decoded is encoded and decoded to the same", arguments: UInt64(1)...4)
    func again(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let samples = try Self.samples()
        for _ in 0..<1500 {
            let sample = samples[Int.random(in: 0..<samples.count, using: &generator)]
            var decoder = GobDecoder(Self.damage(sample.bytes, &generator), limits: .message)
            guard let value = try? decoder.decode(as: sample.shape) else { continue }
            var encoder = GobEncoder()
            var bytes: [UInt8] = []
            try encoder.encode(value, as: sample.shape, into: &bytes)
            var second = GobDecoder(bytes, limits: .message)
            let decoded = try #require(try second.decode(as: sample.shape))
            var bytesAgain: [UInt8] = []
            encoder = GobEncoder()
            try encoder.encode(decoded, as: sample.shape, into: &bytesAgain)
            #expect(bytes == bytesAgain, "seed \(seed)")
        }
    }

    @Test("noise is no stream", arguments: UInt64(1)...4)
    func noise(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<5000 {
            let count = Int.random(in: 0...60, using: &generator)
            let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
            var decoder = GobDecoder(bytes, limits: .handshake)
            _ = try? decoder.decode(as: .stringMap)
            #expect(decoder.bufferedBytes < 61)
        }
    }
}
