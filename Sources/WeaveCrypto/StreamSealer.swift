internal import CSodium
internal import Synchronization

/// Seals the frames of one direction of a TCP connection: XSalsa20-Poly1305 under the session key, with a nonce that
/// counts frames (mesh.md 2.3).
///
/// Copies share one counter, so that no copy can repeat a nonce. Frames must go out in the order they were sealed in;
/// so seal and queue in one step.
public struct StreamSealer: Sendable {
    /// How many bytes a sealed body is longer than its plaintext.
    public static let overhead = 16

    private let traffic: StreamTraffic

    /// A sealer for what this end, which has `role`, sends; its first frame is number 0.
    public init(key: SessionKey, role: TrafficRole) {
        self.init(key: key, role: role, firstSequence: 0)
    }

    package init(key: SessionKey, role: TrafficRole, firstSequence: UInt64) {
        traffic = StreamTraffic(key, nonceByte: role.streamNonceByte, firstSequence)
    }

    /// The body of the next frame: a tag of 16 bytes, then as many bytes as `plaintext` has.
    ///
    /// - Throws: `CryptoError` with code `.sequenceExhausted` when the counter would wrap.
    public func seal(_ plaintext: [UInt8]) throws(CryptoError) -> [UInt8] {
        let nonce = try traffic.nextNonce()
        return unsafe [UInt8](unsafeUninitializedCapacity: plaintext.count + Self.overhead) { body, count in
            _ = unsafe crypto_secretbox_easy(
                body.baseAddress.unsafelyUnwrapped, plaintext, UInt64(plaintext.count), nonce,
                traffic.key.secret.pointer)
            count = plaintext.count + Self.overhead
        }
    }
}

/// Opens the frames of one direction of a TCP connection, in the order they were sealed in. Copies share one counter.
public struct StreamOpener: Sendable {
    private let traffic: StreamTraffic

    /// An opener for what the *other* end sends, where this end has `role`.
    public init(key: SessionKey, role: TrafficRole) {
        self.init(key: key, role: role, firstSequence: 0)
    }

    package init(key: SessionKey, role: TrafficRole, firstSequence: UInt64) {
        traffic = StreamTraffic(key, nonceByte: role.opposite.streamNonceByte, firstSequence)
    }

    /// The plaintext of the next frame's body.
    ///
    /// - Throws: `CryptoError` when the body is damaged, not the next one, or of another key. There is no way to go
    ///   on after that: the connection has to be closed.
    public func open(_ body: some Collection<UInt8>) throws(CryptoError) -> [UInt8] {
        let body = Array(body)
        guard body.count >= StreamSealer.overhead else { throw Self.refusal }
        let nonce = try traffic.nextNonce()
        var isAuthentic = false
        let plaintext = unsafe [UInt8](unsafeUninitializedCapacity: body.count - StreamSealer.overhead) {
            output, count in
            let status = unsafe crypto_secretbox_open_easy(
                output.baseAddress, body, UInt64(body.count), nonce, traffic.key.secret.pointer)
            isAuthentic = status == 0
            count = isAuthentic ? body.count - StreamSealer.overhead : 0
        }
        guard isAuthentic else { throw Self.refusal }
        return plaintext
    }

    private static let refusal = CryptoError(.authenticationFailed, "Unable to decrypt TCP msg")
}

/// The key and counter of one direction.
private final class StreamTraffic: Sendable {
    let key: SessionKey
    private let nonceByte: UInt8
    private let sequence: Atomic<UInt64>

    init(_ key: SessionKey, nonceByte: UInt8, _ firstSequence: UInt64) {
        self.key = key
        self.nonceByte = nonceByte
        sequence = Atomic(firstSequence)
    }

    /// The nonce of the next frame. The highest number stays unused: it is the mark of a counter at its end.
    func nextNonce() throws(CryptoError) -> [UInt8] {
        var number = sequence.load(ordering: .relaxed)
        while true {
            guard number != .max else {
                throw CryptoError(
                    .sequenceExhausted, "all sequence numbers of this connection are used up; connect again")
            }
            let attempt = sequence.weakCompareExchange(
                expected: number, desired: number + 1, ordering: .relaxed)
            if attempt.exchanged { break }
            number = attempt.original
        }
        var nonce = [UInt8](repeating: 0, count: Int(crypto_secretbox_NONCEBYTES))
        nonce[0] = nonceByte
        for index in 0..<8 { nonce[23 - index] = UInt8(truncatingIfNeeded: number >> UInt64(8 * index)) }
        return nonce
    }
}
