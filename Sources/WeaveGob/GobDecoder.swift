/// Reads values from a gob stream.
///
/// Nothing in the stream is trusted: counts and lengths are checked against what is left of the message and against
/// the limits before memory is set aside, and a value is built without recursion. A message that is bad gives an error;
/// the stream goes on with the message after it. A length that is no length ends the stream.
///
/// One difference to Go is meant: values of an interface type are refused, even in fields that would be skipped.
public struct GobDecoder: Sendable {
    /// What the next step of an unfinished stream gives.
    public enum Progress<Value> {
        case value(Value)
        /// The next message has not arrived as a whole.
        case needMore
    }

    /// Changes hold from the next message on.
    public var limits: GobLimits
    private var bytes: [UInt8]
    private var position = 0
    /// Why the stream cannot go on.
    private var end: GobError?
    private var types: [Int: GobWireType] = [:]
    private var plans: [PlanKey: GobPlan] = [:]
    private var shapes: [GobType: GobShape] = [:]

    private struct PlanKey: Hashable {
        var wire: Int
        /// The shape stays alive in its plan, so no other has the same identity.
        var shape: ObjectIdentifier
    }

    /// A decoder of a stream that begins with `bytes`.
    public init(_ bytes: [UInt8] = [], limits: GobLimits = .default) {
        self.bytes = bytes
        self.limits = limits
    }

    /// Bytes that were given and not used.
    public var bufferedBytes: Int { bytes.count - position }

    /// Adds what arrived.
    public mutating func append(_ more: some Collection<UInt8>) {
        guard end == nil else { return }
        if position == bytes.count || position > Self.compactionThreshold {
            bytes.removeFirst(position)
            position = 0
        }
        bytes.append(contentsOf: more)
    }

    /// The next value of a stream that is complete; nil at its end.
    ///
    /// - Throws: `GobError` with the words of Go's decoder.
    public mutating func decode(as shape: GobShape) throws(GobError) -> GobValue? {
        try decode(as: shape) { (reader) throws(GobError) in try reader.value() }
    }

    /// The next value of a stream that is complete; nil at its end. The shape is made and kept for the next time.
    @_disfavoredOverload
    public mutating func decode(as type: GobType) throws(GobError) -> GobValue? { try decode(as: shape(of: type)) }

    /// The next value of a stream that is complete, read by `body`; nil at the end of the stream.
    public mutating func decode<Value>(
        as shape: GobShape, _ body: (inout GobReader) throws(GobError) -> Value
    ) throws(GobError) -> Value? {
        var isFirst = true
        while true {
            guard let message = try nextMessage() else {
                _ = try endOfStream(isClean: isFirst)
                return nil
            }
            if let value = try take(message, as: shape, body) { return value }
            isFirst = false
        }
    }

    /// Passes over the next value of a stream that is complete, by its length, whatever is in it; false at the end of the
    /// stream.
    public mutating func skip() throws(GobError) -> Bool {
        var isFirst = true
        while true {
            guard var message = try nextMessage() else { return try endOfStream(isClean: isFirst) }
            let id = try message.readSigned()
            if id >= 0 { return true }
            try define(id, &message)
            isFirst = false
        }
    }

    /// The next value of a stream that is still arriving.
    public mutating func decodeNext(as shape: GobShape) throws(GobError) -> Progress<GobValue> {
        try decodeNext(as: shape) { (reader) throws(GobError) in try reader.value() }
    }

    /// The next value of a stream that is still arriving. The shape is made and kept for the next time.
    @_disfavoredOverload
    public mutating func decodeNext(as type: GobType) throws(GobError) -> Progress<GobValue> {
        try decodeNext(as: shape(of: type))
    }

    /// The next value of a stream that is still arriving, read by `body`.
    public mutating func decodeNext<Value>(
        as shape: GobShape, _ body: (inout GobReader) throws(GobError) -> Value
    ) throws(GobError) -> Progress<Value> {
        while let message = try nextMessage() {
            if let value = try take(message, as: shape, body) { return .value(value) }
        }
        return .needMore
    }

    static let unknownType = GobError(.malformed, "gob: unknown type id or corrupted data")
    private static let unexpectedEnd = GobError(.truncated, "unexpected EOF")

    /// How many used bytes are kept before they are dropped: often enough to hold memory down, seldom enough to be cheap.
    private static let compactionThreshold = 65536

    private mutating func shape(of type: GobType) -> GobShape {
        if let known = shapes[type] { return known }
        let shape = GobShape(type)
        shapes[type] = shape
        return shape
    }

    /// False where a stream may end; an error where it may not.
    private mutating func endOfStream(isClean: Bool) throws(GobError) -> Bool {
        let isComplete = bufferedBytes == 0
        position = bytes.count
        guard isClean, isComplete else { throw Self.unexpectedEnd }
        return false
    }

    /// Nobody knows where the next message would begin.
    private mutating func fail(_ error: GobError) -> GobError {
        bytes = []
        position = 0
        end = error
        return error
    }

    /// Takes the next whole message off the stream; nil when it has not arrived.
    private mutating func nextMessage() throws(GobError) -> GobCursor? {
        if let end { throw end }
        guard position < bytes.count else { return nil }
        var header = GobCursor(bytes, from: position, to: bytes.count)
        let first = bytes[position]
        let lengthBytes = first < 128 ? 0 : 256 - Int(first)
        guard lengthBytes <= 8 else { throw fail(GobCursor.integerOutOfRange) }
        guard header.remaining > lengthBytes else { return nil }
        let length = try header.readUnsigned()
        guard length <= UInt64(max(0, limits.messageBytes)) else {
            throw fail(
                GobError(.limit, "gob: message of \(length) bytes; at most \(limits.messageBytes) are taken"))
        }
        guard length <= UInt64(header.remaining) else { return nil }
        position = header.position + Int(length)
        return GobCursor(bytes, from: header.position, to: position)
    }

    /// Learns a definition (nil) or reads a value.
    private mutating func take<Value>(
        _ message: GobCursor, as shape: GobShape, _ body: (inout GobReader) throws(GobError) -> Value
    ) throws(GobError) -> Value? {
        var cursor = message
        let id = try cursor.readSigned()
        guard id < 0 else { return try value(of: Int(id), as: shape, &cursor, body) }
        try define(id, &cursor)
        return nil
    }

    /// Learns a type; `id` is the negative number before it.
    private mutating func define(_ id: Int64, _ cursor: inout GobCursor) throws(GobError) {
        let defined = id == .min ? Int.max : -Int(id)
        guard defined >= 64, types[defined] == nil else {
            throw GobError(.malformed, "gob: duplicate type received")
        }
        guard types.count < limits.types else {
            throw GobError(.limit, "gob: more than \(limits.types) types in one stream")
        }
        let type = try GobDefinitionReader.read(&cursor, limits: limits)
        guard cursor.remaining == 0 else { throw GobError(.malformed, "extra data in buffer") }
        types[defined] = type
    }

    private mutating func value<Value>(
        of id: Int, as shape: GobShape, _ cursor: inout GobCursor,
        _ body: (inout GobReader) throws(GobError) -> Value
    ) throws(GobError) -> Value {
        let key = PlanKey(wire: id, shape: ObjectIdentifier(shape))
        let plan: GobPlan
        if let known = plans[key] {
            plan = known
        } else {
            plan = try GobPlan(wire: id, shape: shape, types: types, limits: limits)
            plans[key] = plan
        }
        if shape.nodes[GobShape.root].kind != .structure {
            guard try cursor.readUnsigned() == 0 else {
                throw GobError(.malformed, "gob: decode: corrupted data: non-zero delta for singleton")
            }
        }
        var reader = GobReader(plan: plan, limits: limits, cursor: cursor)
        return try body(&reader)
    }
}

extension GobDecoder.Progress: Sendable where Value: Sendable {}
