/// Frames of protocol version 2: a length of four bytes and as many bytes of body.
enum Framing {
    static let prefixBytes = 4

    /// `body` with its length before it.
    static func frame(_ body: some Collection<UInt8>, limit: Int) throws(ConnectionFailure) -> [UInt8] {
        guard body.count <= limit else {
            throw ConnectionFailure(
                .unsendable, "outgoing message exceeds maximum size: \(body.count) > \(limit)")
        }
        var frame: [UInt8] = []
        frame.reserveCapacity(prefixBytes + body.count)
        frame.appendFrameLength(body.count)
        frame.append(contentsOf: body)
        return frame
    }

    static func tooLong(_ length: Int, limit: Int) -> ConnectionFailure {
        ConnectionFailure(.malformed, "incoming message exceeds maximum size: \(length) > \(limit)")
    }
}

extension [UInt8] {
    mutating func appendFrameLength(_ length: Int) {
        for shift in [24, 16, 8, 0] { append(UInt8(truncatingIfNeeded: length >> shift)) }
    }
}

/// What has arrived and not been used. Grows with what arrives and never ahead of it.
struct ReceiveBuffer {
    private var bytes: [UInt8] = []
    private var position = 0

    var count: Int { bytes.count - position }
    var unread: ArraySlice<UInt8> { bytes[position...] }

    mutating func append(_ more: some Collection<UInt8>) { bytes.append(contentsOf: more) }

    /// The next byte.
    mutating func takeByte() -> UInt8? {
        guard position < bytes.count else { return nil }
        defer { position += 1 }
        return bytes[position]
    }

    /// Exactly `count` bytes, nil while fewer are there.
    mutating func take(_ count: Int) -> ArraySlice<UInt8>? {
        guard count <= self.count else { return nil }
        defer { position += count }
        return bytes[position..<position + count]
    }

    mutating func takeAll() -> [UInt8] {
        defer {
            bytes = []
            position = 0
        }
        return Array(unread)
    }

    /// The length of the frame at the front, nil while its prefix is incomplete.
    var frameLength: Int? {
        guard count >= Framing.prefixBytes else { return nil }
        return bytes[position..<position + Framing.prefixBytes].reduce(0) { $0 << 8 | Int($1) }
    }

    /// The body of the frame at the front, nil while it is incomplete.
    mutating func takeFrame(limit: Int) throws(ConnectionFailure) -> ArraySlice<UInt8>? {
        guard let length = frameLength else { return nil }
        guard length <= limit else { throw Framing.tooLong(length, limit: limit) }
        guard count >= Framing.prefixBytes + length else { return nil }
        position += Framing.prefixBytes
        return take(length)
    }

    /// Forgets what was taken. To be called once for each arrival, not for each frame.
    mutating func compact() {
        guard position > 0 else { return }
        if position == bytes.count {
            // Given back: most connections are idle most of the time, and there are many.
            bytes = []
        } else {
            bytes.removeFirst(position)
        }
        position = 0
    }
}
