internal import CSodium

/// The key of one connection, which both its ends have derived: 32 bytes, wiped when the last reference goes.
///
/// It serves the TCP connection and the packets of the overlay beside it, in both directions: role and kind of
/// traffic are part of every nonce.
public final class SessionKey: Sendable, Equatable, CustomStringConvertible {
    /// How many bytes a key has.
    public static let byteCount = 32

    let secret: SecretBytes

    init(_ secret: SecretBytes) { self.secret = secret }

    /// A key known already; nil unless there are exactly 32 bytes.
    public convenience init?(bytes: [UInt8]) {
        guard bytes.count == Self.byteCount else { return nil }
        self.init(SecretBytes(copying: bytes))
    }

    /// Lends the 32 bytes for the length of the call.
    package func withUnsafeBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        unsafe body(secret.bytes)
    }

    /// Compares in a time that does not depend on the keys.
    public static func == (left: SessionKey, right: SessionKey) -> Bool { left.secret.isEqual(to: right.secret) }

    /// Says nothing of the key.
    public var description: String { "SessionKey" }
}
