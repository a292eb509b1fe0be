// Two ends that share a password agree on a key and exchange sealed frames. Nothing but WeaveCrypto is needed.
//
//     SecretFrames --demo                 runs with passwords of its own
//     SecretFrames PASSWORD OTHER         the two ends use these passwords; unequal ones show how a stranger fares

import WeaveCrypto

/// One end of a connection: what it has after the public keys went back and forth.
struct End {
    let key: SessionKey
    let sealer: StreamSealer
    let opener: StreamOpener
    let packetSealer: PacketSealer
    let packetOpener: PacketOpener

    init(own pair: KeyPair, remotePublicKey: [UInt8], password: Password, role: TrafficRole) throws(CryptoError) {
        key = try pair.sessionKey(with: remotePublicKey, password: password)
        sealer = StreamSealer(key: key, role: role)
        opener = StreamOpener(key: key, role: role)
        packetSealer = PacketSealer(key: key, role: role)
        packetOpener = PacketOpener(key: key, role: role)
    }
}

/// Both ends of a new connection: each makes a fresh pair and tells the other its public half.
func connect(_ password: Password, _ other: Password) throws(CryptoError) -> (dialler: End, acceptor: End) {
    let first = KeyPair()
    let second = KeyPair()
    return (
        try End(own: first, remotePublicKey: second.publicKey, password: password, role: .dialler),
        try End(own: second, remotePublicKey: first.publicKey, password: other, role: .acceptor)
    )
}

func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

/// Frames over a stream: they open in order, each once.
func showFrames(_ dialler: End, _ acceptor: End) throws(CryptoError) {
    for line in ["meet me at the bridge", "bring the frames"] {
        let sealed = try dialler.sealer.seal(Array(line.utf8))
        print("sealed \(line.utf8.count) bytes into \(sealed.count), opened: \(text(try acceptor.opener.open(sealed)))")
    }
    let answer = try acceptor.sealer.seal(Array("I will".utf8))
    print("and back: \(text(try dialler.opener.open(answer)))")
}

/// Packets may be lost and overtake each other; a repeated one is dropped, a damaged one refused.
func showPackets(_ dialler: End, _ acceptor: End) throws {
    var packets: [[UInt8]] = []
    for record in ["one", "two", "three"] {
        // A packet is sealed where it lies: room for name, number and tag first, then what is to be sealed.
        var packet = [UInt8](repeating: 0, count: SealedPacketLayout.recordsOffset) + Array(record.utf8)
        try packet.withUnsafeMutableBytes { buffer in
            try dialler.packetSealer.seal(buffer, dontFragment: true)
        }
        packets.append(packet)
    }
    for packet in [packets[2], packets[0], packets[2]] {
        switch try acceptor.packetOpener.open(packet) {
        case let records?: print("packet opened: \(text(records))")
        case nil: print("packet dropped: it was here before")
        }
    }
    var damaged = packets[1]
    damaged[damaged.count - 1] ^= 1
    do throws(CryptoError) {
        _ = try acceptor.packetOpener.open(damaged)
    } catch {
        print("packet refused: \(error)")
    }
}

/// A frame between ends that do not know the same password.
func showStranger(_ password: Password, _ other: Password) throws(CryptoError) {
    let (dialler, acceptor) = try connect(password, other)
    let sealed = try dialler.sealer.seal(Array("can you read this?".utf8))
    do throws(CryptoError) {
        print("a stranger reads: \(text(try acceptor.opener.open(sealed)))")
    } catch {
        print("with another password: \(error)")
    }
}

let arguments = CommandLine.arguments.dropFirst()
let words = arguments == ["--demo"] ? ["wfvAwt7sj", "guessed"] : Array(arguments)
if words.count == 2, let password = Password(words[0]), let other = Password(words[1]) {
    let (dialler, acceptor) = try connect(password, password)
    print("both ends derived the same key: \(dialler.key == acceptor.key)")
    try showFrames(dialler, acceptor)
    try showPackets(dialler, acceptor)
    try showStranger(password, other)
} else {
    print("usage: SecretFrames --demo | SecretFrames PASSWORD OTHER-PASSWORD")
}
