import CSodium

/// SHA-256 of public bytes, for identifiers. Secrets go through `KeyPair` and `SessionKey`, which clean up.
public enum SHA256Digest {
    /// The 32 bytes of the digest of `bytes`.
    public static func hash(_ bytes: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: Int(crypto_hash_sha256_BYTES))
        // It cannot fail: the result is always zero.
        _ = unsafe crypto_hash_sha256(&digest, bytes, UInt64(bytes.count))
        return digest
    }
}
