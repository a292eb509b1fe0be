/// What all peers of a mesh know and nobody else. Its bytes are wiped when the last reference goes.
public final class Password: Sendable, CustomStringConvertible {
    let secret: SecretBytes

    /// A password of raw bytes; nil when there are none, because an empty password means no encryption.
    public init?(_ bytes: [UInt8]) {
        guard !bytes.isEmpty else { return nil }
        secret = SecretBytes(copying: bytes)
    }

    /// A password of the text's UTF-8 bytes; nil when it is empty.
    public convenience init?(_ text: String) {
        self.init(Array(text.utf8))
    }

    /// Says nothing of the password.
    public var description: String { "Password" }
}
