/// A value of any shape.
public enum GobValue: Hashable, Sendable {
    case bool(Bool)
    case int(Int64)
    case uint(UInt64)
    case float(Double)
    case complex(Double, Double)
    case bytes([UInt8])
    /// The bytes of a string, which need not be UTF-8.
    case string([UInt8])
    /// The elements of a slice or an array.
    case list([GobValue])
    /// The pairs of a map. Decoded maps have no key twice.
    case map([Pair])
    /// The fields that are there, in order. What is absent has its zero value; a map or a pointer that is absent is nil.
    case structure([Field])
    /// A nil pointer or a nil map.
    case null

    /// A key of a map and its value.
    public struct Pair: Hashable, Sendable {
        /// No other pair of the map has the same.
        public var key: GobValue
        /// What the key stands for.
        public var value: GobValue

        /// A pair of a key and a value.
        public init(key: GobValue, value: GobValue) {
            self.key = key
            self.value = value
        }
    }

    /// A field of a structure.
    public struct Field: Hashable, Sendable {
        /// The name in the definition.
        public var name: String
        /// Its value.
        public var value: GobValue

        /// A field with a name and a value.
        public init(_ name: String, _ value: GobValue) {
            self.name = name
            self.value = value
        }
    }

    /// A string from text.
    public static func text(_ text: String) -> GobValue { .string(Array(text.utf8)) }

    /// The text of a string; nil for other values. Bytes that are not UTF-8 are replaced.
    public var text: String? {
        if case .string(let bytes) = self { String(decoding: bytes, as: UTF8.self) } else { nil }
    }

    /// A field of a structure; nil when it is absent or this is no structure.
    public subscript(field: String) -> GobValue? {
        guard case .structure(let fields) = self else { return nil }
        return fields.first { $0.name == field }?.value
    }
}

/// Why a value could not be encoded or decoded.
public struct GobError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kinds of error.
    public struct Code: Sendable, Equatable {
        private let value: String
        /// The input ends before the value does.
        public static let truncated = Code(value: "truncated")
        /// The bytes are no gob stream.
        public static let malformed = Code(value: "malformed")
        /// A value of another shape than the one asked for.
        public static let typeMismatch = Code(value: "type mismatch")
        /// A number that does not fit.
        public static let outOfRange = Code(value: "out of range")
        /// More, larger or deeper than the limits of this decoder allow.
        public static let limit = Code(value: "limit")
        /// A value that has no encoding.
        public static let unencodable = Code(value: "unencodable")
    }

    /// What kind of error it is.
    public let code: Code
    /// What is wrong, in the words of Go's decoder where it reports the same.
    public let message: String

    /// An error of one's own, for what a reader finds wrong with a value.
    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}

/// How much a decoder takes from a stream it cannot trust. All are checked before memory is set aside.
public struct GobLimits: Sendable {
    /// Bytes of one message of the stream.
    public var messageBytes: Int
    /// Values inside one another, each of which costs memory and, when it is freed, stack.
    public var depth: Int
    /// Elements, keys, fields and definitions of one value together.
    public var elements: Int
    /// Types a stream may define.
    public var types: Int

    /// Limits of one's own.
    public init(messageBytes: Int, depth: Int, elements: Int, types: Int) {
        self.messageBytes = messageBytes
        self.depth = depth
        self.elements = elements
        self.types = types
    }

    /// For data of one's own. As deep as a thread with half a megabyte of stack can free; Go goes to 10,000.
    public static let `default` = GobLimits(messageBytes: 1 << 28, depth: 512, elements: 1 << 22, types: 1 << 12)

    /// For messages between peers: 2.8.1's largest message, and far more structure than any of its messages has. The
    /// elements are those of 200,000 connections of one peer, or entries of a ring; as `GobValue` they take 25 MB.
    public static let message = GobLimits(messageBytes: 10 << 20, depth: 64, elements: 1 << 20, types: 256)

    /// For the first message of somebody who has proved nothing: a map of a handful of short strings.
    public static let handshake = GobLimits(messageBytes: 64 << 10, depth: 8, elements: 1024, types: 16)
}
