/// Data that many peers change at the same time and that converges however often and in whatever order it is merged.
public protocol ReplicatedData: Sendable {
    /// Reads what `encode` wrote. Anything may arrive here: throw for what is not right.
    init(decoding bytes: [UInt8]) throws

    /// The data as bytes.
    func encode() -> [UInt8]

    /// Takes `other` in.
    ///
    /// - Returns: what of `other` was news, which goes on to other peers; nil if nothing was.
    mutating func merge(_ other: Self) -> Self?
}

/// Why replicated data could not be read.
public struct ReplicatedDataError: Error, Sendable, Equatable, CustomStringConvertible {
    public let description: String

    public init(_ description: String) { self.description = description }
}
