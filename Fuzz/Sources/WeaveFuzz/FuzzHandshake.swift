import WeaveCore
import WeaveCrypto

@testable import WeaveMesh

private let password = Password("fuzz")
private let ourPair = KeyPair(privateKey: [UInt8](repeating: 7, count: KeyPair.byteCount))
private let theirPair = KeyPair(privateKey: [UInt8](repeating: 9, count: KeyPair.byteCount))

/// What a connection did with what it was given.
private struct Transcript: Equatable {
    var written: [UInt8] = []
    var messages: [[UInt8]] = []
    var logs: [String] = []
    var features: [String: String]?
    var failure: String?
    var isOver = false

    mutating func take(_ directives: [ConnectionDirective]) {
        for directive in directives {
            require(!isOver, "nothing comes after the end of a connection")
            switch directive {
            case .write(let bytes): written += bytes
            case .introduced(let introduction): features = introduction.features
            case .message(let tag, let payload): messages.append([tag.rawValue] + payload)
            case .log(let text): logs.append(text)
            case .close(let failure):
                self.failure = failure.message
                isOver = true
            }
        }
    }
}

private func machine(
    outbound: Bool, isSealed: Bool, minimum: UInt8 = 1, limits: ConnectionLimits = ConnectionLimits()
) -> ConnectionMachine {
    let features = Feature.introduction(
        name: PeerName(truncating: 1), nickname: "us", uid: 5, connectionID: 77, shortID: ShortID(exactly: 9),
        trusted: false, extra: ["Overlays": "fastdp sleeve"])
    return ConnectionMachine(
        configuration: ConnectionConfiguration(
            minimumVersion: minimum, password: isSealed ? password : nil, features: features, limits: limits),
        outbound: outbound, path: "a->b", connectionIDHalf: 77, keyPair: isSealed ? ourPair : nil, now: .zero)
}

/// Feeds pieces to a connection, which is accepted as soon as it is introduced.
private func feed(_ pieces: [[UInt8]], to machine: inout ConnectionMachine, held limit: Int = .max) -> Transcript {
    var transcript = Transcript()
    transcript.take(machine.start())
    for piece in pieces {
        transcript.take(machine.onBytes(piece, now: .zero))
        if transcript.features != nil { transcript.take(machine.onAccepted(now: .zero)) }
        require(machine.buffer.count <= limit, "\(machine.buffer.count) bytes held; at most \(limit)")
        require(machine.isClosed == transcript.isOver, "closed is closed")
    }
    transcript.take(machine.onEnd(now: .zero))
    require(transcript.isOver, "the end of the bytes is the end of the connection")
    return transcript
}

/// The bytes of a connection from the first one on: header, flag, key, features, frames; plain, sealed, and version 1.
func fuzzHandshake(_ input: FuzzInput) {
    var input = input
    let options = input.byte()
    let step = Int(input.byte()) + 1
    if options & 1 != 0 { return fuzzSealedStream(input) }
    let bytes = input.rest
    let outbound = options & 2 != 0
    let isSealed = options & 4 != 0
    let minimum: UInt8 = options & 8 != 0 ? 2 : 1
    var whole = machine(outbound: outbound, isSealed: isSealed, minimum: minimum)
    let once = bounded(bytes.count, "handshake") { feed([bytes], to: &whole) }
    let pieces = stride(from: 0, to: bytes.count, by: step).map { Array(bytes[$0..<min($0 + step, bytes.count)]) }
    var slow = machine(outbound: outbound, isSealed: isSealed, minimum: minimum)
    let piecewise = feed(pieces, to: &slow)
    // The public key is the same, so that all that is written is.
    if !isSealed {
        require(once == piecewise, "the same whether bytes come at once or in pieces: \(once) and \(piecewise)")
    } else {
        require(once.failure == piecewise.failure, "\(once.failure ?? "") and \(piecewise.failure ?? "")")
    }
    var limits = ConnectionLimits()
    limits.handshakeBytes = 600
    limits.messageBytes = 1000
    limits.earlyBytes = 500
    var small = machine(outbound: outbound, isSealed: isSealed, minimum: minimum, limits: limits)
    _ = feed(pieces, to: &small, held: limits.messageBytes + Framing.prefixBytes + step)
    if let features = once.features { checkFeatures(features) }
}

/// What a remote said of itself is the same after it was written and read again.
private func checkFeatures(_ features: [String: String]) {
    let list = features.map { Feature($0.key, $0.value) }
    var plain = machine(outbound: true, isSealed: false)
    plain.version = 2
    guard let first = try? RemoteIntroduction(features: features, localConnectionID: 0) else {
        return require(false, "features that were taken are taken")
    }
    let written = Feature.introduction(
        name: first.name, nickname: first.nickname, uid: first.uid, connectionID: first.connectionUID,
        shortID: first.shortID, trusted: first.trustedByRemote)
    let again = try? RemoteIntroduction(
        features: Dictionary(uniqueKeysWithValues: written.map { ($0.key, $0.value) }), localConnectionID: 0)
    require(
        again?.name == first.name && again?.uid == first.uid && again?.shortID == first.shortID
            && again?.connectionUID == first.connectionUID && again?.trustedByRemote == first.trustedByRemote,
        "the same introduction again: \(list)")
}

/// What is in sealed frames, from somebody who has the password: frames are taken or ignored, and never mistaken.
private func fuzzSealedStream(_ input: FuzzInput) {
    var input = input
    guard let ourPair, let theirPair, let password,
        let key = try? theirPair.sessionKey(with: ourPair.publicKey, password: password)
    else { return require(false, "fixed keys make a key") }
    let sealer = StreamSealer(key: key, role: .dialler)
    var machine = machine(outbound: false, isSealed: true)
    var transcript = Transcript()
    transcript.take(machine.start())
    transcript.take(machine.onBytes(Array("weave".utf8) + [1, 2, 1] + theirPair.publicKey, now: .zero))
    require(!transcript.isOver, "an honest beginning is taken")
    var expected: [[UInt8]] = []
    while !input.isEmpty, !transcript.isOver {
        let plaintext = input.piece()
        guard let body = try? sealer.seal(plaintext),
            let frame = try? Framing.frame(body, limit: ConnectionLimits().messageBytes)
        else { return require(false, "what is small can be sealed") }
        let isOpen = transcript.features != nil
        transcript.take(machine.onBytes(frame, now: .zero))
        if isOpen {
            require(!transcript.isOver, "a well sealed frame does not end a connection: \(transcript.failure ?? "")")
            if let tag = plaintext.first.flatMap({ MessageTag(rawValue: $0) }), tag != .heartbeat {
                expected.append(plaintext)
            }
        } else if transcript.features != nil {
            transcript.take(machine.onAccepted(now: .zero))
        }
    }
    require(transcript.messages == expected, "messages arrive as they were sealed")
    guard !transcript.isOver else { return }
    transcript.take(machine.onBytes([0, 0, 0, 17] + [UInt8](repeating: 1, count: 17), now: .zero))
    require(transcript.isOver, "a frame of another key ends the connection")
}
