/// Why keys could not be agreed on, or bytes not sealed or opened.
public struct CryptoError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kinds of failure.
    public enum Code: Sendable, Equatable {
        /// A key that is not 32 bytes long.
        case malformedKey
        /// A public key with which every private key gives the same, known secret.
        case weakPublicKey
        /// All sequence numbers of a key are used up; the connection has to be made anew.
        case sequenceExhausted
        /// Bytes that do not authenticate: damaged, replayed, out of order, or made with another key.
        case authenticationFailed
        /// Fewer bytes than the layout needs.
        case tooShort
    }

    /// What kind of failure this is.
    public let code: Code
    /// What happened, as it goes into the log.
    public let message: String

    /// Makes an error of a kind with the text for the log.
    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}
