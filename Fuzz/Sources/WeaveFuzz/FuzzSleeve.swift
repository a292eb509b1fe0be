import WeaveCore
import WeaveCrypto

@testable import WeaveDatapath

/// Plain packets of the sleeve, and its control messages.
func fuzzSleeve(_ input: FuzzInput) {
    var input = input
    let options = input.byte()
    if options & 1 != 0 { return fuzzControl(input, options) }
    let packet = input.rest
    let sender = unsafe packet.withUnsafeBytes { unsafe SleeveRecordReader.sender($0) }
    guard let sender else { return require(packet.count < SleeveLayout.senderNameLength, "a packet has a sender") }
    let body = Array(packet.dropFirst(SleeveLayout.senderNameLength))
    let (records, error) = bounded(packet.count, "sleeve") { SleevePacket.decodeRecords(body) }
    let whole = SleevePacket(sender: sender, records: records)
    guard packet.count <= SleeveLayout.maximumPacketLength else { return }
    guard let again = whole.encodePlain() else { return require(false, "what was read can be written") }
    require(packet.starts(with: again), "the same bytes again, up to the damage")
    require((error == nil) == (again.count == packet.count), "damage is told, and only damage")
    for record in records { checkFrame(record.frame) }
}

/// The headers of a frame, and what the sender is answered.
func fuzzFrames(_ input: FuzzInput) {
    var input = input
    let mtu = Int(input.byte()) << 3
    checkFrame(input.rest, mtu: mtu)
}

private func checkFrame(_ frame: [UInt8], mtu: Int = 576) {
    if let special = SpecialFrame(frame) {
        require(special.bytes.count == frame.count, "a special frame has its length")
    }
    guard let header = FrameHeader(frame) else {
        return require(frame.count < SleeveLayout.ethernetHeaderLength, "a frame has a header")
    }
    require(header.length == frame.count, "the length is that of the frame")
    if header.frameClass != .other { require(header.ipHeaderLength >= 20, "an IPv4 header has 20 bytes") }
    if let fragments = unsafe IPv4Fragmenter.fragments(of: frame, mtu: mtu) { check(fragments, of: frame, header, mtu) }
    if let answer = FragmentationNeeded.answer(to: frame, mtu: mtu) {
        require(answer.count <= FragmentationNeeded.maximumLength, "an answer is short")
        require(FragmentationNeeded.answer(to: answer, mtu: mtu) == nil, "an error is not answered by an error")
    }
    if let answer = PacketTooBig.answer(to: frame, mtu: mtu) {
        require(answer.count <= PacketTooBig.maximumLength, "an answer is short")
        require(PacketTooBig.answer(to: answer, mtu: mtu) == nil, "an error is not answered by an error")
    }
}

/// Fragments fit, and have the payload of the frame between them.
private func check(_ fragments: [[UInt8]], of frame: [UInt8], _ header: FrameHeader, _ mtu: Int) {
    let start = SleeveLayout.ethernetHeaderLength
    var payload: [UInt8] = []
    for fragment in fragments {
        guard let part = FrameHeader(fragment), part.ipTotalLength <= fragment.count - start else {
            return require(false, "a fragment is a frame")
        }
        require(part.ipTotalLength <= mtu, "a fragment fits")
        payload += fragment[(start + part.ipHeaderLength)..<(start + part.ipTotalLength)]
    }
    require(
        payload.elementsEqual(frame[(start + header.ipHeaderLength)..<(start + header.ipTotalLength)]),
        "the fragments are the frame")
}

private func fuzzControl(_ input: FuzzInput, _ options: UInt8) {
    let outcome = options & 2 != 0 ? OverlayNegotiation.Outcome.sleeveOnly : .common(["fastdp", "sleeve"])
    let payload = input.rest
    let tag = options >> 2 & 7
    guard let envelope = try? OverlayControlEnvelope(tag: tag, payload: payload, for: outcome) else { return }
    guard let control = try? SleeveControl(tag: envelope.tag, body: envelope.body) else { return }
    require((try? SleeveControl(tag: control.tag, body: control.body)) == control, "the same control message again")
    guard let written = envelope.encode(for: outcome) else { return }
    require(
        (try? OverlayControlEnvelope(tag: written.tag, payload: written.payload, for: outcome)) == envelope,
        "the same envelope again")
}

private let key = SessionKey(bytes: [UInt8](repeating: 5, count: SessionKey.byteCount))

/// Sealed packets: forged ones never open and stay as they are, true ones open once, and with one bit changed not at all.
func fuzzSealed(_ input: FuzzInput) {
    guard let key else { return require(false, "32 bytes are a key") }
    var input = input
    let options = input.byte()
    let place = Int(input.byte()) << 8 | Int(input.byte())
    let bytes = input.rest
    let opener = PacketOpener(key: key, role: .acceptor)
    var forged = bytes
    let opening = unsafe forged.withUnsafeMutableBytes { unsafe opener.open($0) }
    require(opening != .accepted && opening != .replay, "a packet of somebody without the key does not open")
    require(forged == bytes, "a packet that does not open stays as it is")
    let sealer = PacketSealer(key: key, role: .dialler)
    let isWhole = options & 1 != 0
    guard let sealed = try? sealer.seal(name: PeerName(truncating: 9), records: bytes, dontFragment: isWhole) else {
        return require(false, "records can be sealed")
    }
    var damaged = sealed
    damaged[max(SleeveLayout.senderNameLength, place % sealed.count)] ^= 1 << (options >> 5)
    require((try? opener.open(damaged)) == nil, "a packet with one bit changed does not open")
    require((try? opener.open(sealed)) == bytes, "a sealed packet opens to what was sealed")
    let second: [UInt8]?
    do {
        second = try opener.open(sealed)
    } catch {
        return require(false, "a packet that comes again is authentic: \(error)")
    }
    require(second == nil, "a packet opens once")
    _ = SleevePacket.decodeRecords(bytes)
}
