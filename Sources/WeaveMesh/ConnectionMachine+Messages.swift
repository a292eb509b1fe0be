internal import WeaveCore
internal import WeaveCrypto
internal import WeaveGob

extension ConnectionMachine {
    mutating func readMessages(
        _ now: MonotonicTime, _ directives: inout [ConnectionDirective]
    ) throws(ConnectionFailure) {
        guard version1Decoder == nil else { return try readVersion1Messages(now, &directives) }
        while let body = try buffer.takeFrame(limit: limits.messageBytes) {
            readDeadline = now + limits.readTimeout
            if opener == nil {
                take(body, &directives)
            } else {
                take(try opened(body)[...], &directives)
            }
        }
    }

    private mutating func readVersion1Messages(
        _ now: MonotonicTime, _ directives: inout [ConnectionDirective]
    ) throws(ConnectionFailure) {
        while let value = try nextVersion1Value(as: .bytes) {
            guard case .bytes(let body) = value else { continue }
            readDeadline = now + limits.readTimeout
            take(try opened(body[...])[...], &directives)
        }
        // A value larger than that can only be followed by an error; it must not be gathered first.
        let held = version1Decoder?.bufferedBytes ?? 0
        guard held <= limits.messageBytes + limits.handshakeBytes else {
            throw Framing.tooLong(held, limit: limits.messageBytes)
        }
    }

    /// Takes the plaintext of one message.
    private mutating func take(_ message: ArraySlice<UInt8>, _ directives: inout [ConnectionDirective]) {
        guard let first = message.first else { return complain("ignoring blank msg", &directives) }
        guard let tag = MessageTag(rawValue: first) else {
            return complain("ignoring unknown protocol tag: \(first)", &directives)
        }
        guard tag != .heartbeat else { return }
        directives.append(.message(tag, Array(message.dropFirst())))
    }

    /// The plaintext of a body, which is the body itself without a password.
    func opened(_ body: ArraySlice<UInt8>) throws(ConnectionFailure) -> [UInt8] {
        guard let opener else { return Array(body) }
        do throws(CryptoError) {
            return try opener.open(body)
        } catch {
            throw ConnectionFailure(.malformed, error.message)
        }
    }

    /// A plaintext as bytes to write.
    mutating func encode(_ plaintext: [UInt8]) throws(ConnectionFailure) -> [UInt8] {
        let overhead = sealer == nil ? 0 : StreamSealer.overhead
        // Checked before sealing, so that a message that cannot go does not use up a number.
        guard plaintext.count + overhead <= limits.messageBytes else {
            throw ConnectionFailure(
                .unsendable,
                "outgoing message exceeds maximum size: \(plaintext.count + overhead) > \(limits.messageBytes)")
        }
        let body: [UInt8]
        do throws(CryptoError) {
            body = try sealer?.seal(plaintext) ?? plaintext
        } catch {
            throw ConnectionFailure(.exhausted, error.message)
        }
        guard version == 1 else { return try Framing.frame(body, limit: limits.messageBytes) }
        do throws(GobError) {
            return try version1Encoder?.encode(.bytes(body), as: .bytes) ?? []
        } catch {
            throw ConnectionFailure(.unsendable, error.message)
        }
    }
}
