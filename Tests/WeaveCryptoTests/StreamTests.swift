import Testing
import WeaveCore
import WeaveCrypto
import WeaveTestKit

@Suite("Frames of a TCP connection")
struct StreamTests {
    @Test("Recorded senders: sealing gives the bytes", arguments: try Vectors.load("mesh-handshake", kind: "tcp-seal"))
    func seal(_ vector: Vectors.Case) throws {
        let sealer = try StreamSealer(
            key: key(vector), role: vector.role, firstSequence: number(vector["first_sequence"]))
        let opener = try StreamOpener(
            key: key(vector), role: vector.role.opposite, firstSequence: number(vector["first_sequence"]))
        let messages = try vector.list("messages")
        #expect(!messages.isEmpty)
        for message in messages {
            let plaintext = try bytes(message["plaintext"])
            let frame = try bytes(message["frame"])
            let body = try sealer.seal(plaintext)
            #expect([0, 0, UInt8(body.count >> 8), UInt8(body.count & 255)] + body == frame)
            #expect(try opener.open(frame.dropFirst(4)) == plaintext)
        }
    }

    @Test(
        "Recorded receivers: the frames that open, and the error that ends",
        arguments: try Vectors.load("mesh-handshake", kind: "tcp-open"))
    func open(_ vector: Vectors.Case) throws {
        let opener = try StreamOpener(key: key(vector), role: vector.role)
        var reader = try ByteReader(bytes(vector["bytes"]))
        let results = try vector.list("results")
        for result in results {
            guard let length = reader.readUInt32() else {
                #expect(result["error"] as? String == "EOF")
                continue
            }
            let next = reader.readBytes(Int(length))
            let body = try #require(next)
            if let error = result["error"] as? String {
                let thrown = try #require(throws: CryptoError.self) { try opener.open(body) }
                #expect(thrown.message == error)
                #expect(thrown.code == .authenticationFailed)
            } else {
                #expect(try opener.open(body) == bytes(result["plaintext"]))
            }
        }
        #expect(results.last?["error"] is String)
    }

    @Test("The recording has all its cases")
    func nothingMissing() throws {
        #expect(try Vectors.load("mesh-handshake", kind: "tcp-seal").count == 6)
        #expect(try Vectors.load("mesh-handshake", kind: "tcp-open").count == 8)
    }

    @Test("Worked example: three heartbeats of either side, a longer frame, an empty one")
    func worked() throws {
        let session = try key("a43b121a68c32f75fa71dadf2dde8b8e288a1086abd972a35bd5613a5fde7430")
        let dialler = StreamSealer(key: session, role: .dialler)
        let acceptor = StreamSealer(key: session, role: .acceptor)
        #expect(try dialler.seal([0]).hex == "8c986072dab1fd12126659be65bf9b5194")
        #expect(try dialler.seal([0]).hex == "b8be27c8789552880acdd6c45e2d29a1a7")
        #expect(try dialler.seal([0]).hex == "6d4eff471e605c1824886fc4bf192a538b")
        #expect(try acceptor.seal([0]).hex == "ec8cc6e7b6ee592d02624caa135d78ef46")
        #expect(try acceptor.seal([0]).hex == "66b63a78da3bc30b41a6fa72afd1bdd908")
        #expect(try acceptor.seal([0]).hex == "e55b68dce0534d4f7331d20c9fd2d54dcd")
        #expect(
            try StreamSealer(key: session, role: .dialler).seal(Array(0...0x45)).hex
                == "63371c21f28992e132743169f0f73c1d94da952cad20cdb5cda897e4ff0c0f8123a395f4dc6ec0945221516ea79a6fb9"
                + "1b950f0cc7ac5f0e4fb13b241f2c6851932b96a59800d3e457349df9324b4a9b02f8c874ed58")
        #expect(
            try StreamSealer(key: session, role: .dialler).seal([]).hex == "1646cb07a753ab0f014da24b0d18c49d")
    }

    @Test("What one end seals the other opens, and neither opens its own")
    func bothWays() throws {
        let session = try key(countingKey)
        let sealed = try StreamSealer(key: session, role: .acceptor).seal(Array("hello".utf8))
        #expect(try StreamOpener(key: session, role: .dialler).open(sealed) == Array("hello".utf8))
        #expect(throws: CryptoError.self) { try StreamOpener(key: session, role: .acceptor).open(sealed) }
    }

    @Test("A frame does not open a second time")
    func replay() throws {
        let session = try key(countingKey)
        let sealed = try StreamSealer(key: session, role: .dialler).seal([1, 2, 3])
        let opener = StreamOpener(key: session, role: .acceptor)
        #expect(try opener.open(sealed) == [1, 2, 3])
        #expect(throws: CryptoError.self) { try opener.open(sealed) }
    }

    @Test("Copies of a sealer share the counter")
    func copies() throws {
        let sealer = try StreamSealer(key: key(countingKey), role: .dialler)
        let copy = sealer
        let opener = try StreamOpener(key: key(countingKey), role: .acceptor)
        #expect(try opener.open(sealer.seal([1])) == [1])
        #expect(try opener.open(copy.seal([2])) == [2])
        #expect(try opener.open(sealer.seal([3])) == [3])
    }

    @Test("The counter refuses to wrap, at both ends, and stays so")
    func exhausted() throws {
        let sealer = try StreamSealer(key: key(countingKey), role: .dialler, firstSequence: .max - 1)
        let opener = try StreamOpener(key: key(countingKey), role: .acceptor, firstSequence: .max - 1)
        let last = try sealer.seal([7])
        #expect(try opener.open(last) == [7])
        for _ in 0..<3 {
            let sealing = try #require(throws: CryptoError.self) { try sealer.seal([7]) }
            #expect(sealing.code == .sequenceExhausted)
            let opening = try #require(throws: CryptoError.self) { try opener.open(last) }
            #expect(opening.code == .sequenceExhausted)
        }
    }

    @Test("A body shorter than the tag is refused", arguments: 0..<16)
    func short(_ count: Int) throws {
        let opener = try StreamOpener(key: key(countingKey), role: .acceptor)
        let error = try #require(throws: CryptoError.self) { try opener.open([UInt8](repeating: 0, count: count)) }
        #expect(error.message == "Unable to decrypt TCP msg")
    }
}
