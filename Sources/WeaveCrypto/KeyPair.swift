internal import CSodium

/// An X25519 key pair, fresh for each connection. The private half is wiped when the last reference goes.
public final class KeyPair: Sendable, CustomStringConvertible {
    /// How many bytes each half has.
    public static let byteCount = 32

    /// The half that goes to the other end, in clear: 32 bytes.
    public let publicKey: [UInt8]

    private let privateKey: SecretBytes

    /// A new pair from the system's random source.
    public convenience init() {
        self.init(
            unsafe SecretBytes(count: Self.byteCount) {
                unsafe randombytes_buf($0, Self.byteCount)
            })
    }

    /// The pair of a known private key; nil unless there are exactly 32 bytes.
    public convenience init?(privateKey: [UInt8]) {
        guard privateKey.count == Self.byteCount else { return nil }
        self.init(SecretBytes(copying: privateKey))
    }

    private init(_ privateKey: SecretBytes) {
        self.privateKey = privateKey
        var publicKey = [UInt8](repeating: 0, count: Self.byteCount)
        // Cannot fail: the base point has no small order.
        _ = unsafe publicKey.withUnsafeMutableBufferPointer {
            unsafe crypto_scalarmult_base($0.baseAddress.unsafelyUnwrapped, privateKey.pointer)
        }
        self.publicKey = publicKey
    }

    /// The key that this end and the other derive from their pairs and the password (mesh.md 2.3).
    ///
    /// - Throws: `CryptoError` when the remote key is not 32 bytes, or is one of the few that make the shared secret
    ///   known to everybody. Weave Net 2.8.1 accepts those; no honest peer ever sends one.
    public func sessionKey(with remotePublicKey: [UInt8], password: Password) throws(CryptoError) -> SessionKey {
        try unsafe sessionKey(with: remotePublicKey, passwordBytes: password.secret.bytes)
    }

    /// The same for any password bytes, also none at all.
    package func sessionKey(
        with remotePublicKey: [UInt8], passwordBytes: UnsafeRawBufferPointer
    ) throws(CryptoError) -> SessionKey {
        let shared = try sharedKey(with: remotePublicKey)
        let key = unsafe SecretBytes(count: SessionKey.byteCount) { output in
            var state = crypto_hash_sha256_state()
            unsafe crypto_hash_sha256_init(&state)
            unsafe crypto_hash_sha256_update(&state, shared.pointer, UInt64(shared.count))
            let password = unsafe passwordBytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
            unsafe crypto_hash_sha256_update(&state, password, UInt64(passwordBytes.count))
            unsafe crypto_hash_sha256_final(&state, output)
            unsafe sodium_memzero(&state, MemoryLayout.size(ofValue: state))
        }
        return SessionKey(key)
    }

    /// HSalsa20 of the X25519 secret.
    package func sharedKey(with remotePublicKey: [UInt8]) throws(CryptoError) -> SecretBytes {
        guard remotePublicKey.count == Self.byteCount else {
            throw CryptoError(
                .malformedKey, "public key of the remote has \(remotePublicKey.count) bytes, expected \(Self.byteCount)"
            )
        }
        var status: Int32 = -1
        let shared = unsafe SecretBytes(count: Self.byteCount) { output in
            unsafe status = crypto_box_beforenm(
                output, remotePublicKey, privateKey.pointer)
        }
        guard status == 0 else {
            throw CryptoError(
                .weakPublicKey,
                "refusing the public key of the remote: it is of low order, so that anybody could know the shared secret"
            )
        }
        return shared
    }

    /// Shows the public half only.
    public var description: String { "KeyPair(\(publicKey.count)-byte public key)" }
}
