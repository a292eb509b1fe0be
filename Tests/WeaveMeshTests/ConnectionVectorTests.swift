import Foundation
import Testing
import WeaveCore
import WeaveCrypto
import WeaveGob
import WeaveTestKit

@testable import WeaveMesh

private let recordings: [Vectors.Case] = (try? Vectors.load("mesh-handshake")) ?? []

private func cases(_ kind: String) -> [Vectors.Case] { recordings.filter { $0.kind == kind } }

@Suite("Connections as 2.8.1 makes them")
struct ConnectionVectorTests {
    @Test("the recordings are there")
    func recordingsAreThere() {
        #expect(cases("intro").count == 26)
        #expect(cases("intro-fails").count == 6)
        #expect(cases("intro-scripted").count == 24)
        #expect(cases("connection").count == 6)
        #expect(cases("parse-features").count == 26)
        #expect(cases("tcp-open").count == 8)
        #expect(cases("tcp-seal").count > 0)
    }

    @Test(
        "each side of a recorded handshake writes what 2.8.1 wrote and learns what it learned",
        arguments: cases("intro"))
    func intro(recording: Vectors.Case) throws {
        let dialler = try #require(RecordedSide(recording["dialler"]))
        let listener = try #require(RecordedSide(recording["listener"]))
        for chunk in [Int.max, 1, 7] {
            try replay(dialler, from: listener, outbound: true, chunk: chunk)
            try replay(listener, from: dialler, outbound: false, chunk: chunk)
        }
    }

    private func replay(_ side: RecordedSide, from other: RecordedSide, outbound: Bool, chunk: Int) throws {
        let result = try #require(side.json["result"] as? [String: Any])
        let version = try #require(result["version"] as? Int)
        let key = (result["session_key"] as? String).flatMap { [UInt8](hex: $0) }.flatMap { SessionKey(bytes: $0) }
        let order = try featureOrder(side, version: version, key: key, outbound: outbound)
        var machine = side.machine(outbound: outbound, order: order)
        var outcome = Outcome()
        outcome.take(machine.start())
        var rest = other.bytes[...]
        while !rest.isEmpty {
            outcome.take(machine.onBytes(rest.prefix(min(chunk, rest.count)), now: .zero))
            rest = rest.dropFirst(min(chunk, rest.count))
        }
        #expect(outcome.failure == nil)
        #expect(outcome.messages.isEmpty)
        let introduction = try #require(outcome.introduction)
        #expect(introduction.protocolVersion == version)
        #expect(introduction.features == result["features"] as? [String: String])
        #expect(introduction.sessionKey == key)
        #expect(introduction.connectionUID == side.connectionIDHalf ^ other.connectionIDHalf)
        #expect(!machine.wantsInput)

        outcome.take(machine.onAccepted(now: .zero))
        #expect(outcome.failure == nil)
        let expected = other.messages.map(\.plaintext).filter { !$0.isEmpty && $0[0] != 0 && $0[0] < 8 }
        #expect(outcome.messages == expected)
        for message in side.messages {
            let frame = try machine.encode(message.plaintext)
            #expect(frame == message.frame)
            outcome.written += frame
        }
        #expect(outcome.written == side.bytes)
    }

    /// The order in which 2.8.1 happened to send its features: its maps have none.
    private func featureOrder(_ side: RecordedSide, version: Int, key: SessionKey?, outbound: Bool) throws -> [String] {
        var stream = side.bytes.dropFirst(HandshakeHeader.byteCount)
        if version == 2 {
            let flag = stream.removeFirst()
            if flag == 1 { stream = stream.dropFirst(32) }
            let length = stream.prefix(4).reduce(0) { $0 << 8 | Int($1) }
            stream = stream.dropFirst(4).prefix(length)
            if let key {
                let opener = StreamOpener(key: key, role: outbound ? .acceptor : .dialler)
                stream = try opener.open(stream)[...]
            }
        }
        var decoder = GobDecoder(Array(stream))
        guard case .map(let pairs) = try decoder.decode(as: FeatureMap.gobType) else { return [] }
        return pairs.compactMap(\.key.text)
    }

    @Test("two sides that do not agree say why, in the words of 2.8.1", arguments: cases("intro-fails"))
    func introFails(recording: Vectors.Case) throws {
        let dialler = try #require(RecordedSide(recording["dialler"]))
        let listener = try #require(RecordedSide(recording["listener"]))
        for (side, other, outbound) in [(dialler, listener, true), (listener, dialler, false)] {
            var machine = side.machine(outbound: outbound)
            var outcome = Outcome()
            outcome.take(machine.start())
            outcome.take(machine.onBytes(other.bytes, now: .zero))
            outcome.take(machine.onEnd(now: .zero))
            #expect(outcome.introduction == nil)
            #expect(outcome.failure?.message == side.error)
            #expect(machine.isClosed)
            // The order of the features is free and so, sealed, are their bytes; how many there are is not.
            #expect(outcome.written.count == side.bytes.count)
            if !recording.name.contains("differ") && !recording.name.hasPrefix("v1") {
                #expect(outcome.written == side.bytes)
            }
        }
    }

    @Test("a remote that sends just this gets the answer of 2.8.1", arguments: cases("intro-scripted"))
    func scripted(recording: Vectors.Case) throws {
        let side = try #require(RecordedSide(recording.json))
        for chunk in [Int.max, 1] {
            var machine = side.machine(outbound: true)
            var outcome = Outcome()
            outcome.take(machine.start())
            var rest = side.bytes[...]
            while !rest.isEmpty {
                outcome.take(machine.onBytes(rest.prefix(min(chunk, rest.count)), now: .zero))
                rest = rest.dropFirst(min(chunk, rest.count))
            }
            if let result = recording["result"] as? [String: Any] {
                #expect(machine.version == result["version"] as? Int)
                #expect(machine.remoteFeatures == result["features"] as? [String: String])
                let key = (result["session_key"] as? String).flatMap { [UInt8](hex: $0) }
                #expect(machine.sessionKey == key.flatMap { SessionKey(bytes: $0) })
            } else {
                outcome.take(machine.onEnd(now: .zero))
                #expect(outcome.introduction == nil)
                #expect(outcome.failure?.message == recording["error"] as? String)
            }
        }
    }

    @Test("a whole recorded connection replays in both directions", arguments: cases("connection"))
    func connection(recording: Vectors.Case) throws {
        let uid = try #require((recording["connection_uid"] as? String).flatMap { UInt64($0) })
        let dialler = try #require(RecordedSide(recording["dialler"]))
        let listener = try #require(RecordedSide(recording["listener"]))
        for (side, other, outbound) in [(dialler, listener, true), (listener, dialler, false)] {
            let half = try #require((side.json["conn_id"] as? String).flatMap { UInt64($0) })
            let announced = try FeatureMap.decode(try #require(side.messages.first).plaintext)
            var recorded = side.json
            recorded["features"] = announced
            let replayed = try #require(RecordedSide(recorded))
            var decoder = GobDecoder(try #require(side.messages.first).plaintext)
            guard case .map(let pairs)? = try decoder.decode(as: FeatureMap.gobType) else { continue }
            var machine = replayed.machine(outbound: outbound, order: pairs.compactMap(\.key.text))
            #expect(machine.connectionIDHalf == half)
            var outcome = Outcome()
            outcome.take(machine.start())
            let header = try #require((other.json["header"] as? String).flatMap { [UInt8](hex: $0) })
            outcome.take(machine.onBytes(header + other.messages.flatMap(\.frame), now: .zero))
            outcome.take(machine.onAccepted(now: .zero))
            #expect(outcome.failure == nil)
            #expect(outcome.introduction?.connectionUID == uid)
            #expect(outcome.messages == other.messages.dropFirst().map(\.plaintext).filter { $0 != [0] })

            // The first frame is written by the handshake itself, and its type ids are those of another process.
            let ours = try #require((side.json["header"] as? String).flatMap { [UInt8](hex: $0) })
            #expect(outcome.written.starts(with: ours))
            #expect(outcome.written.count == ours.count + (side.messages.first?.frame.count ?? 0))
            for message in side.messages.dropFirst() { #expect(try machine.encode(message.plaintext) == message.frame) }
        }
    }

    @Test("features of a remote are read as 2.8.1 reads them", arguments: cases("parse-features"))
    func parseFeatures(recording: Vectors.Case) throws {
        let half = try #require((recording["local_conn_id"] as? String).flatMap { UInt64($0) })
        let features = try #require(recording["features"] as? [String: String])
        guard let result = recording["result"] as? [String: Any] else {
            #expect {
                try RemoteIntroduction(features: features, localConnectionID: half)
            } throws: {
                ($0 as? ConnectionFailure)?.message == recording["error"] as? String
            }
            return
        }
        let introduction = try RemoteIntroduction(features: features, localConnectionID: half)
        #expect(introduction.name.description == result["name"] as? String)
        #expect(introduction.nickname == result["nickname"] as? String)
        #expect(String(introduction.uid) == result["uid"] as? String)
        let shortID = introduction.shortID.map { Int($0.rawValue) } ?? 0
        #expect(shortID == result["short_id"] as? Int)
        #expect((introduction.shortID != nil) == result["has_short_id"] as? Bool)
        #expect(introduction.trustedByRemote == result["trusted"] as? Bool)
        #expect(String(introduction.connectionUID) == result["conn_uid"] as? String)
    }

    @Test("a stream of sealed frames is read up to its first bad one", arguments: cases("tcp-open"))
    func tcpOpen(recording: Vectors.Case) throws {
        let key = try #require((recording["session_key"] as? String).flatMap { [UInt8](hex: $0) })
        let bytes = try #require((recording["bytes"] as? String).flatMap { [UInt8](hex: $0) })
        let outbound = try #require(recording["outbound"] as? Bool)
        let results = try #require(recording["results"] as? [[String: Any]])
        var machine = try openMachine()
        machine.opener = StreamOpener(key: try #require(SessionKey(bytes: key)), role: outbound ? .dialler : .acceptor)
        var outcome = Outcome()
        outcome.take(machine.onBytes(bytes, now: .zero))
        outcome.take(machine.onEnd(now: .zero))
        #expect(outcome.failure?.message == results.last?["error"] as? String)
        let plaintexts = results.compactMap { ($0["plaintext"] as? String).flatMap { [UInt8](hex: $0) } }
        // The contents are random: most are not messages, and are complained of or ignored.
        let messages = plaintexts.filter { (1...7).contains($0.first ?? 0) }
        let odd = plaintexts.filter { $0.isEmpty || $0[0] > 7 }
        #expect(outcome.messages == messages)
        #expect(outcome.logs.count == odd.count)
    }

    @Test("frames are sealed as 2.8.1 seals them", arguments: cases("tcp-seal"))
    func tcpSeal(recording: Vectors.Case) throws {
        let key = try #require((recording["session_key"] as? String).flatMap { [UInt8](hex: $0) })
        let outbound = try #require(recording["outbound"] as? Bool)
        let first = try #require(UInt64("\(recording["first_sequence"] ?? 0)"))
        var machine = try openMachine()
        machine.sealer = StreamSealer(
            key: try #require(SessionKey(bytes: key)), role: outbound ? .dialler : .acceptor, firstSequence: first)
        let frames = try #require(recording["messages"] as? [[String: Any]])
        #expect(!frames.isEmpty)
        for frame in frames {
            let message = RecordedMessage(json: frame)
            #expect(try machine.encode(message.plaintext) == message.frame)
        }
    }
}
