import Glibc

@testable import WeaveDatapath

/// What a coalescer hands on at once.
private struct Merged {
    var offload: OffloadHeader
    var frame: [UInt8]
    var count: Int
}

/// Frames that other hosts' containers sent, merged for the kernel; and super-frames as the kernel gives them, cut.
func fuzzOffload(_ input: FuzzInput) {
    var input = input
    let options = input.byte()
    if options & 1 != 0 { return fuzzSegmenter(input) }
    var frames: [[UInt8]] = []
    while !input.isEmpty, frames.count < 70 {
        let repeats = input.byte()
        let frame = input.piece()
        frames.append(frame)
        // The next segments of the same flow, as the sender would number them.
        for index in 0..<(repeats & 3) { frames.append(following(frames[frames.count - 1], Int(index), repeats)) }
    }
    let merged = coalesce(frames)
    require(merged.map(\.count).reduce(0, +) == frames.count, "every frame is handed on once")
    if merged.count == frames.count { require(merged.allSatisfy { $0.count == 1 }, "one for one") }
    var cutAgain: [[UInt8]] = []
    for item in merged {
        guard item.count > 1 else {
            cutAgain.append(item.frame)
            continue
        }
        require(item.frame.count <= 14 + 40 + 0xffff, "a super-frame is no longer than IP allows")
        guard let cut = cut(item.frame, item.offload) else { return require(false, "a super-frame can be cut") }
        require(cut.count == item.count, "it is cut to as many as were merged")
        cutAgain += cut
    }
    // Flows may pass each other and padding is lost, but no frame is changed.
    let sent = frames.map(withoutPadding).sorted { $0.lexicographicallyPrecedes($1) }
    let received = cutAgain.map(withoutPadding).sorted { $0.lexicographicallyPrecedes($1) }
    require(sent == received, "the same frames again")
}

/// A frame that continues `frame`, checksums completed: a fuzzer does not find those.
private func following(_ frame: [UInt8], _ index: Int, _ choice: UInt8) -> [UInt8] {
    var next = frame
    guard let form = unsafe frame.withUnsafeBytes({ unsafe FlowForm($0) }) else { return frame }
    unsafe next.withUnsafeMutableBytes { bytes in
        let raw = UnsafeRawBufferPointer(bytes)
        if form.isTCP {
            let sequence = unsafe FrameBytes.load32(raw, form.transport + 4)
            unsafe FrameBytes.store32(
                sequence &+ UInt32(truncatingIfNeeded: form.payloadLength), bytes, form.transport + 4)
        }
        if !form.isIPv6 { unsafe FrameBytes.store16(FrameBytes.load16(raw, 18) &+ 1, bytes, 18) }
    }
    return choice & 4 != 0 ? next : summed(next)
}

/// A frame with the checksums it should have.
private func summed(_ frame: [UInt8]) -> [UInt8] {
    guard let form = unsafe frame.withUnsafeBytes({ unsafe FlowForm($0) }) else { return frame }
    var frame = frame
    unsafe frame.withUnsafeMutableBytes { bytes in
        let place = form.transport + (form.isTCP ? 16 : 6)
        var pseudo: UInt64
        if form.isIPv6 {
            pseudo = unsafe OffloadChecksum.sum(UnsafeRawBufferPointer(rebasing: bytes[22..<54]))
        } else {
            unsafe FrameBytes.store16(0, bytes, 24)
            let sum = unsafe OffloadChecksum.sum(UnsafeRawBufferPointer(rebasing: bytes[14..<34]))
            unsafe bytes.storeBytes(of: ~OffloadChecksum.fold(sum), toByteOffset: 24, as: UInt16.self)
            pseudo = unsafe OffloadChecksum.sum(UnsafeRawBufferPointer(rebasing: bytes[26..<34]))
        }
        pseudo &+= OffloadChecksum.word(form.end - form.transport)
        pseudo &+= OffloadChecksum.word(Int(form.isTCP ? IPProtocol.tcp : IPProtocol.udp))
        unsafe FrameBytes.store16(0, bytes, place)
        let sum = unsafe OffloadChecksum.sum(UnsafeRawBufferPointer(rebasing: bytes[form.transport..<form.end]))
        let checksum = ~OffloadChecksum.fold(sum &+ pseudo)
        unsafe bytes.storeBytes(
            of: checksum == 0 && !form.isTCP ? 0xffff : checksum, toByteOffset: place, as: UInt16.self)
    }
    return frame
}

/// A frame up to the end of its IP packet, where that is known.
private func withoutPadding(_ frame: [UInt8]) -> [UInt8] {
    guard let form = unsafe frame.withUnsafeBytes({ unsafe FlowForm($0) }) else { return frame }
    return Array(frame.prefix(form.end))
}

private func coalesce(_ frames: [[UInt8]]) -> [Merged] {
    var merged: [Merged] = []
    // A block for each frame, so that reading beyond one is seen.
    let places = unsafe frames.map { frame in
        let place = UnsafeMutableRawBufferPointer.allocate(byteCount: frame.count, alignment: 1)
        unsafe place.copyBytes(from: frame)
        return unsafe place
    }
    var coalescer = FrameCoalescer(capacity: 512, hasHeader: true, tcp: true, udp: true)
    for index in frames.indices { unsafe coalescer.add(places[index]) }
    unsafe coalescer.flush { parts, count, length in
        var bytes: [UInt8] = []
        for index in 0..<parts.count {
            let part = unsafe parts[index]
            unsafe bytes += UnsafeRawBufferPointer(start: part.iov_base, count: part.iov_len)
        }
        let offload = unsafe bytes.withUnsafeBytes { unsafe OffloadHeader($0) }
        let frame = Array(bytes.dropFirst(OffloadHeader.length))
        require(frame.count == length, "the length is that of the pieces")
        merged.append(Merged(offload: offload, frame: frame, count: count))
    }
    for index in frames.indices { unsafe places[index].deallocate() }
    return merged
}

private func cut(_ frame: [UInt8], _ offload: OffloadHeader) -> [[UInt8]]? {
    unsafe frame.withUnsafeBytes { bytes in
        guard var segmenter = unsafe FrameSegmenter(bytes, offload: offload) else { return nil }
        var frames: [[UInt8]] = []
        while unsafe segmenter.nextLength > 0 {
            var place = unsafe [UInt8](repeating: 0xee, count: segmenter.nextLength)
            unsafe place.withUnsafeMutableBytes { unsafe segmenter.next(into: $0) }
            frames.append(place)
        }
        return frames
    }
}

/// An offload header and a frame, neither of which need fit the other.
private func fuzzSegmenter(_ input: FuzzInput) {
    let bytes = input.rest
    let offload = unsafe bytes.withUnsafeBytes { unsafe OffloadHeader($0) }
    var frame = Array(bytes.dropFirst(OffloadHeader.length))
    if let frames = cut(frame, offload) {
        let header = Int(offload.checksumStart)
        require(frames.allSatisfy { $0.count >= header && $0.count <= frame.count }, "each has headers and a part")
    }
    let before = frame
    let isDone = unsafe frame.withUnsafeMutableBytes { unsafe offload.completeChecksum(of: $0) }
    if !isDone { require(frame == before, "a frame that is refused stays as it is") }
}
