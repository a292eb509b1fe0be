import Foundation
import Testing
import WeaveCore
import WeaveCrypto
import WeaveGob
import WeaveTestKit

@testable import WeaveMesh

@Suite("Connections: time")
struct ConnectionTimeTests {
    @Test("a remote that says nothing is given 10 s")
    func silence() {
        var machine = plainMachine()
        #expect(machine.nextDeadline == moment(10))
        var outcome = Outcome()
        outcome.take(machine.onTimer(now: moment(9.999)))
        #expect(outcome.failure == nil)
        outcome.take(machine.onTimer(now: moment(10)))
        #expect(
            outcome.failure?.message
                == "failed to receive remote protocol header: read tcp 10.0.0.1:1000->10.0.0.2:6783: i/o timeout")
        #expect(machine.nextDeadline == nil)
    }

    @Test("bytes that trickle in do not extend the time for the header")
    func slowHeader() {
        var machine = plainMachine()
        var outcome = Outcome()
        for (index, byte) in Array("weave".utf8).enumerated() {
            outcome.take(machine.onBytes([byte], now: moment(Double(index) * 2)))
        }
        #expect(outcome.failure == nil)
        outcome.take(machine.onTimer(now: moment(10)))
        #expect(
            outcome.failure?.message
                == "received incomplete remote protocol header (5 octets instead of 7): [119 101 97 118 101]; error: "
                + "read tcp 10.0.0.1:1000->10.0.0.2:6783: i/o timeout")
    }

    @Test("the features have 60 s in all, however slowly they trickle in")
    func slowFeatures() throws {
        var machine = plainMachine()
        var outcome = Outcome()
        let opening = try plainOpening()
        outcome.take(machine.onBytes(opening.prefix(7), now: moment(9)))
        #expect(machine.nextDeadline == moment(69))
        for (index, byte) in opening.dropFirst(7).prefix(100).enumerated() {
            outcome.take(machine.onBytes([byte], now: moment(9 + Double(index) / 2)))
        }
        #expect(outcome.failure == nil)
        #expect(machine.nextDeadline == moment(69))
        outcome.take(machine.onTimer(now: moment(69)))
        #expect(outcome.failure?.message == "read tcp 10.0.0.1:1000->10.0.0.2:6783: i/o timeout")
    }

    @Test("heartbeats go every 30 s from acceptance on, and silence ends the connection after 60 s")
    func heartbeats() throws {
        var machine = try openMachine(now: moment(5))
        var outcome = Outcome()
        #expect(machine.nextDeadline == moment(35))
        outcome.take(machine.onTimer(now: moment(35)))
        #expect(outcome.written == [0, 0, 0, 1, 0])
        outcome.take(machine.onBytes([0, 0, 0, 1, 0], now: moment(50)))
        outcome.take(machine.onTimer(now: moment(65)))
        outcome.take(machine.onTimer(now: moment(95)))
        #expect(outcome.written == [0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0])
        #expect(outcome.failure == nil)
        outcome.take(machine.onTimer(now: moment(110)))
        #expect(outcome.failure?.message == "read tcp 10.0.0.1:1000->10.0.0.2:6783: i/o timeout")
        #expect(outcome.messages.isEmpty)
    }

    @Test("a heartbeat goes a little early beside others, and the next one counts from there")
    func earlyHeartbeat() throws {
        var machine = try openMachine(now: moment(5))
        var outcome = Outcome()
        outcome.take(machine.onTimer(now: moment(31), heartbeatsAhead: .seconds(3)))
        #expect(outcome.written.isEmpty)
        outcome.take(machine.onTimer(now: moment(32), heartbeatsAhead: .seconds(3)))
        #expect(outcome.written == [0, 0, 0, 1, 0])
        #expect(machine.nextDeadline == moment(62))
        // Nothing else may be early: silence is counted to the end.
        outcome.take(machine.onTimer(now: moment(62), heartbeatsAhead: .seconds(3)))
        outcome.take(machine.onTimer(now: moment(64), heartbeatsAhead: .seconds(3)))
        #expect(outcome.failure == nil)
        outcome.take(machine.onTimer(now: moment(65), heartbeatsAhead: .seconds(3)))
        #expect(outcome.failure?.code == .timeout)
    }

    @Test("a part of a message does not count as a sign of life")
    func slowMessage() throws {
        var machine = try openMachine()
        var outcome = Outcome()
        outcome.take(machine.onBytes([0, 0, 1, 0, 4], now: moment(1)))
        for second in 2..<60 { outcome.take(machine.onBytes([1], now: moment(Double(second)))) }
        #expect(outcome.failure == nil)
        outcome.take(machine.onTimer(now: moment(60)))
        #expect(outcome.failure?.code == .timeout)
    }

    @Test("a remote that heartbeats but does not read is dropped")
    func stalledReader() throws {
        var machine = try openMachine()
        var outcome = Outcome()
        machine.onWriteQueued(now: moment(1))
        for second in stride(from: 2.0, to: 62, by: 1) {
            outcome.take(machine.onBytes([0, 0, 0, 1, 0], now: moment(second)))
            outcome.take(machine.onTimer(now: moment(second)))
            machine.onWriteQueued(now: moment(second))
        }
        #expect(outcome.failure?.message == "write tcp 10.0.0.1:1000->10.0.0.2:6783: i/o timeout")
        // Nothing is added to a queue that does not move.
        #expect(outcome.written.isEmpty)
    }

    @Test("a remote that reads slowly is kept")
    func slowReader() throws {
        var machine = try openMachine()
        var outcome = Outcome()
        machine.onWriteQueued(now: moment(1))
        for second in stride(from: 30.0, to: 600, by: 30) {
            machine.onWriteProgress(isWaiting: true, now: moment(second))
            outcome.take(machine.onBytes([0, 0, 0, 1, 0], now: moment(second)))
            outcome.take(machine.onTimer(now: moment(second)))
        }
        #expect(outcome.failure == nil)
        machine.onWriteProgress(isWaiting: false, now: moment(600))
        #expect(machine.writeDeadline == nil)
    }

    @Test("silence is not the remote's fault while this side does not read")
    func paused() throws {
        var machine = try openMachine()
        var outcome = Outcome()
        machine.onReadingPaused()
        outcome.take(machine.onTimer(now: moment(100)))
        outcome.take(machine.onTimer(now: moment(200)))
        #expect(outcome.failure == nil)
        machine.onReadingResumed(now: moment(200))
        outcome.take(machine.onTimer(now: moment(259)))
        #expect(outcome.failure == nil)
        outcome.take(machine.onTimer(now: moment(260)))
        #expect(outcome.failure?.code == .timeout)
    }
}

@Suite("Connections: hostile remotes")
struct ConnectionHostileTests {
    @Test("a length above the limit ends the connection at once", arguments: [10_485_761, 0x7fff_ffff, 0xffff_ffff])
    func oversize(length: Int) throws {
        var machine = try openMachine()
        var outcome = Outcome()
        var prefix: [UInt8] = []
        prefix.appendFrameLength(length)
        outcome.take(machine.onBytes(prefix, now: .zero))
        #expect(outcome.failure?.message == "incoming message exceeds maximum size: \(length) > 10485760")
    }

    @Test("a message of 10 MiB is taken")
    func largest() throws {
        var machine = try openMachine()
        var outcome = Outcome()
        var frame: [UInt8] = []
        frame.appendFrameLength(10_485_760)
        frame += [UInt8](repeating: 4, count: 10_485_760)
        var rest = frame[...]
        while !rest.isEmpty {
            outcome.take(machine.onBytes(rest.prefix(65536), now: .zero))
            rest = rest.dropFirst(65536)
        }
        #expect(outcome.failure == nil)
        #expect(outcome.messages.first?.count == 10_485_760)
        #expect(machine.buffer.count == 0)
    }

    @Test("what is sent has the same limit, and is refused before it is sealed")
    func largestSent() throws {
        var machine = try openMachine()
        #expect(try machine.encode(.gossip, [UInt8](repeating: 1, count: 10_485_759)).count == 10_485_764)
        #expect(throws: ConnectionFailure.self) {
            try machine.encode(.gossip, [UInt8](repeating: 1, count: 10_485_760))
        }
        let key = try #require(SessionKey(bytes: [UInt8](repeating: 7, count: 32)))
        machine.sealer = StreamSealer(key: key, role: .dialler)
        #expect {
            try machine.encode(.gossip, [UInt8](repeating: 1, count: 10_485_744))
        } throws: {
            ($0 as? ConnectionFailure)?.message == "outgoing message exceeds maximum size: 10485761 > 10485760"
        }
        let opener = StreamOpener(key: key, role: .acceptor)
        let frame = try machine.encode(.gossip, [UInt8](repeating: 1, count: 10_485_743))
        #expect(try opener.open(frame.dropFirst(4)).count == 10_485_744)
    }

    @Test("announcing a large body costs nothing, and sending it ends the handshake at 64 KiB")
    func largeFeatures() {
        var machine = plainMachine()
        var outcome = Outcome()
        outcome.take(machine.onBytes(Array("weave".utf8) + [1, 2, 0, 0, 0xa0, 0, 0], now: .zero))
        var sent = 0
        while outcome.failure == nil, sent < 1 << 20 {
            outcome.take(machine.onBytes([UInt8](repeating: 1, count: 1024), now: .zero))
            sent += 1024
            #expect(machine.buffer.count <= (64 << 10) + 4 + 1024)
        }
        #expect(sent == (64 << 10) + 1024)
        #expect(outcome.failure?.message == "incoming message exceeds maximum size: 10485760 > 65536")
        #expect(machine.buffer.count == 0)
    }

    @Test("a stream of version 1 is held to the same limit before the handshake")
    func largeVersion1() {
        var machine = plainMachine()
        var outcome = Outcome()
        // One gob message of 16 MiB.
        outcome.take(machine.onBytes(Array("weave".utf8) + [1, 1, 0xfd, 0xff, 0xff, 0xff], now: .zero))
        var sent = 0
        while outcome.failure == nil, sent < 1 << 20 {
            outcome.take(machine.onBytes([UInt8](repeating: 1, count: 1024), now: .zero))
            sent += 1024
        }
        #expect(outcome.failure != nil)
        #expect(sent <= (64 << 10) + 2048)
    }

    @Test("a message of version 1 is not gathered beyond the limit of messages")
    func largeVersion1Message() throws {
        var remote = plainMachine(outbound: false)
        var machine = plainMachine()
        var outcome = Outcome()
        let version1 = ConnectionMachine(
            configuration: ConnectionConfiguration(maximumVersion: 1, features: goodFeatures()), outbound: false,
            path: "", connectionIDHalf: 5, keyPair: nil, now: .zero)
        remote = version1
        var theirs = Outcome()
        theirs.take(remote.start())
        theirs.take(remote.onBytes(Array("weave".utf8) + [1, 2], now: .zero))
        outcome.take(machine.onBytes(theirs.written, now: .zero))
        #expect(outcome.introduction?.protocolVersion == 1)
        outcome.take(machine.onAccepted(now: .zero))
        outcome.take(machine.onBytes([0xfb, 0x7f, 0, 0, 0, 0], now: .zero))
        var sent = 0
        while outcome.failure == nil, sent < 64 << 20 {
            outcome.take(machine.onBytes([UInt8](repeating: 1, count: 65536), now: .zero))
            sent += 65536
        }
        #expect(outcome.failure != nil)
        #expect(sent <= 11 << 20)
    }

    @Test("what comes between the handshake and its acceptance waits, within a limit, and is then processed in order")
    func early() throws {
        var machine = plainMachine()
        var outcome = Outcome()
        let messages: [UInt8] = [0, 0, 0, 2, 4, 1, 0, 0, 0, 2, 5, 2]
        outcome.take(machine.onBytes(try plainOpening() + messages, now: .zero))
        #expect(outcome.introduction != nil)
        #expect(outcome.messages.isEmpty)
        #expect(!machine.wantsInput)
        // Nobody hurries whoever decides: there is no deadline meanwhile.
        #expect(machine.nextDeadline == nil)
        outcome.take(machine.onAccepted(now: moment(3)))
        #expect(outcome.messages == [[4, 1], [5, 2]])
        #expect(machine.wantsInput)

        var flooded = plainMachine()
        outcome = Outcome()
        outcome.take(flooded.onBytes(try plainOpening(), now: .zero))
        var sent = 0
        while outcome.failure == nil, sent < 8 << 20 {
            outcome.take(flooded.onBytes([UInt8](repeating: 0, count: 65536), now: .zero))
            sent += 65536
        }
        #expect(sent == (1 << 20) + 65536)
        #expect(outcome.failure?.code == .malformed)
    }

    @Test("unknown tags and blank messages are ignored, and complained of a few times only")
    func oddMessages() throws {
        var machine = try openMachine()
        var outcome = Outcome()
        outcome.take(machine.onBytes([0, 0, 0, 0, 0, 0, 0, 1, 8, 0, 0, 0, 2, 255, 1, 0, 0, 0, 2, 4, 9], now: .zero))
        #expect(
            outcome.logs == [
                "ignoring blank msg", "ignoring unknown protocol tag: 8", "ignoring unknown protocol tag: 255",
            ])
        #expect(outcome.messages == [[4, 9]])
        for _ in 0..<1000 { outcome.take(machine.onBytes([0, 0, 0, 0], now: .zero)) }
        #expect(outcome.logs.count == ConnectionLimits().complaints)
        #expect(outcome.failure == nil)
        // A heartbeat with a payload is a heartbeat.
        outcome.take(machine.onBytes([0, 0, 0, 3, 0, 1, 2], now: .zero))
        #expect(outcome.messages == [[4, 9]])
    }

    @Test("keys that make the secret known to everybody are refused", arguments: [0, 1])
    func lowOrderKeys(index: Int) throws {
        let lowOrder = [
            [UInt8](repeating: 0, count: 32), [1] + [UInt8](repeating: 0, count: 31),
        ][index]
        var machine = ConnectionMachine(
            configuration: ConnectionConfiguration(password: Password("secret"), features: goodFeatures()),
            outbound: true, path: "", connectionIDHalf: 5, keyPair: KeyPair(), now: .zero)
        var outcome = Outcome()
        outcome.take(machine.onBytes(Array("weave".utf8) + [1, 2, 1] + lowOrder, now: .zero))
        #expect(outcome.failure?.message.hasPrefix("refusing the public key of the remote") == true)
        // Nothing was sent that is sealed with such a key.
        #expect(outcome.written.count == 33)
    }

    @Test("nothing happens after the end")
    func afterTheEnd() throws {
        var machine = try openMachine()
        var outcome = Outcome()
        outcome.take(machine.onReadFailure("connection reset by peer", now: .zero))
        #expect(
            outcome.failure?.message
                == "read tcp 10.0.0.1:1000->10.0.0.2:6783: read: connection reset by peer")
        #expect(machine.onBytes([0, 0, 0, 2, 4, 1], now: .zero).isEmpty)
        #expect(machine.onEnd(now: .zero).isEmpty)
        #expect(machine.onTimer(now: moment(1000)).isEmpty)
        #expect(machine.onAccepted(now: .zero).isEmpty)
        #expect(machine.nextDeadline == nil)
    }

    @Test("two machines agree however their bytes are cut, with any versions and passwords", arguments: 0..<60)
    func pairs(seed: Int) throws {
        var random = SeededGenerator(seed: UInt64(seed))
        let password = Bool.random(using: &random) ? Password("a password") : nil
        func make(_ outbound: Bool) -> ConnectionMachine {
            let maximum: UInt8 = Bool.random(using: &random) ? 2 : 1
            let half = random.next()
            return ConnectionMachine(
                configuration: ConnectionConfiguration(
                    maximumVersion: maximum, password: password,
                    features: goodFeatures(connectionID: String(half))),
                outbound: outbound, path: "", connectionIDHalf: half,
                keyPair: password == nil ? nil : KeyPair(), now: .zero)
        }
        var machines = [make(true), make(false)]
        var outcomes = [Outcome(), Outcome()]
        var sent: [[[UInt8]]] = [[], []]
        for side in 0...1 { outcomes[side].take(machines[side].start()) }
        var rounds = 0
        while rounds < 100_000 {
            rounds += 1
            let side = Int.random(in: 0...1, using: &random)
            if outcomes[side].introduction != nil, machines[side].state == .introduced {
                outcomes[side].take(machines[side].onAccepted(now: .zero))
            }
            if machines[side].state == .open, sent[side].count < 20 {
                let size = [0, 1, 60, 5000][Int.random(in: 0...3, using: &random)]
                let payload = (0..<size).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                sent[side].append([5] + payload)
                outcomes[side].written += try machines[side].encode(.gossipUnicast, payload)
            }
            let other = 1 - side
            let count = min(outcomes[side].written.count, Int.random(in: 1...3000, using: &random))
            if count > 0 {
                let bytes = outcomes[side].written.prefix(count)
                outcomes[side].written.removeFirst(count)
                outcomes[other].take(machines[other].onBytes(bytes, now: .zero))
            } else if sent[0].count == 20, sent[1].count == 20, outcomes[other].written.isEmpty {
                break
            }
        }
        #expect(outcomes[0].failure == nil)
        #expect(outcomes[1].failure == nil)
        #expect(outcomes[0].messages == sent[1])
        #expect(outcomes[1].messages == sent[0])
        #expect(outcomes[0].introduction?.connectionUID == outcomes[1].introduction?.connectionUID)
        #expect(outcomes[0].introduction?.sessionKey == outcomes[1].introduction?.sessionKey)
        #expect((outcomes[0].introduction?.sessionKey != nil) == (password != nil))
    }

    @Test("changed recordings end in a result or an error, within bounds")
    func mutations() throws {
        let seed: UInt64 = 0x5eed_0001
        print("mutations of handshakes: seed \(seed)")
        var random = SeededGenerator(seed: seed)
        let cases = try Vectors.load("mesh-handshake", kind: "intro")
        for recording in cases {
            for (key, other, outbound) in [("dialler", "listener", true), ("listener", "dialler", false)] {
                let side = try #require(RecordedSide(recording[key]))
                let bytes = try #require(RecordedSide(recording[other])).bytes
                for _ in 0..<60 {
                    var machine = side.machine(outbound: outbound)
                    var outcome = Outcome()
                    let changed = mutate(bytes, &random)
                    var rest = changed[...]
                    while !rest.isEmpty {
                        let count = min(rest.count, Int.random(in: 1...400, using: &random))
                        outcome.take(machine.onBytes(rest.prefix(count), now: .zero))
                        if outcome.introduction != nil { outcome.take(machine.onAccepted(now: .zero)) }
                        rest = rest.dropFirst(count)
                        #expect(machine.buffer.count <= changed.count)
                    }
                    outcome.take(machine.onEnd(now: .zero))
                    #expect(outcome.failure != nil)
                    #expect(machine.isClosed)
                }
            }
        }
    }

    private func mutate(_ bytes: [UInt8], _ random: inout SeededGenerator) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
            let position = Int.random(in: 0..<bytes.count, using: &random)
            switch Int.random(in: 0...4, using: &random) {
            case 0: bytes[position] ^= 1 << UInt8.random(in: 0...7, using: &random)
            case 1: bytes[position] = [0, 0x7f, 0x80, 0xff, 0xf8].randomElement(using: &random) ?? 0
            case 2: bytes.removeSubrange(position..<min(bytes.count, position + 5))
            case 3: bytes.insert(UInt8.random(in: 0...255, using: &random), at: position)
            default: bytes.removeLast(bytes.count - position)
            }
        }
        return bytes
    }
}
