/// Writes one value from a program's own types, without building a `GobValue`.
///
/// Inside a structure each call names its field by its number in the shape; fields go in rising order, and those that
/// are zero are left out as Go does. Writing something of another shape makes `encode` throw, with nothing of the value
/// added to the stream.
///
///     try encoder.encode(as: pointShape, into: &bytes) { writer in
///         writer.structure { writer in
///             writer.int(point.x, at: 0)
///             writer.int(point.y, at: 1)
///         }
///     }
public struct GobWriter {
    /// The values inside one another that are written; more is taken for a mistake of the caller.
    static let maximumDepth = 512

    private let shape: GobShape
    private var out: [UInt8]
    /// What is to be written next, when it is no field; -1 when nothing is.
    private var pending = GobShape.root
    /// The value that goes after a key; -1 elsewhere.
    private var following = -1
    /// The structure around, -1 if none, and the last of its fields written.
    private var around = -1
    private var lastField = -1
    private var depth = 0
    private var failure: GobError?

    init(shape: GobShape, bytes: [UInt8]) {
        self.shape = shape
        out = bytes
    }

    /// Writes a bool.
    public mutating func bool(_ value: Bool, at field: Int? = nil) {
        guard begin(.bool, field, isZero: !value) != nil else { return }
        out.append(value ? 1 : 0)
    }

    /// Writes a signed integer, which must fit the width that the shape gives.
    public mutating func int(_ value: Int64, at field: Int? = nil) {
        guard let node = begin(.int, field, isZero: value == 0) else { return }
        guard value.fits(shape.nodes[node].bits) else { return failRange(node) }
        out.appendGobSigned(value)
    }

    /// Writes an unsigned integer, which must fit the width that the shape gives.
    public mutating func uint(_ value: UInt64, at field: Int? = nil) {
        guard let node = begin(.uint, field, isZero: value == 0) else { return }
        guard value.fits(shape.nodes[node].bits) else { return failRange(node) }
        out.appendGobUnsigned(value)
    }

    /// Writes a floating-point number.
    public mutating func float(_ value: Double, at field: Int? = nil) {
        guard begin(.float, field, isZero: value.bitPattern == 0) != nil else { return }
        out.appendGobFloat(value)
    }

    /// Writes a byte string.
    public mutating func bytes(_ value: some Collection<UInt8>, at field: Int? = nil) {
        guard begin(.bytes, field, isZero: value.isEmpty) != nil else { return }
        out.appendGobBytes(value)
    }

    /// Writes the low `count` (0...8) bytes of a number as a byte string, most significant first.
    public mutating func shortBytes(_ value: UInt64, count: Int, at field: Int? = nil) {
        guard begin(.bytes, field, isZero: count == 0) != nil else { return }
        let count = min(max(count, 0), 8)
        out.appendGobUnsigned(UInt64(count))
        for index in (0..<count).reversed() { out.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index))) }
    }

    /// Writes a string.
    public mutating func string(_ value: String, at field: Int? = nil) {
        guard begin(.string, field, isZero: value.isEmpty) != nil else { return }
        out.appendGobBytes(value.utf8)
    }

    /// Writes a string given as bytes.
    public mutating func string(bytes value: some Collection<UInt8>, at field: Int? = nil) {
        guard begin(.string, field, isZero: value.isEmpty) != nil else { return }
        out.appendGobBytes(value)
    }

    /// Writes a slice or an array; `body` writes each element.
    public mutating func list<Items: Collection>(
        _ items: Items, at field: Int? = nil, _ body: (inout GobWriter, Items.Element) -> Void
    ) {
        guard let index = begin(.list, field, isZero: items.isEmpty) else { return }
        let node = shape.nodes[index]
        guard node.second < 0 || node.second == items.count else {
            return fail("gob: \(items.count) elements for \(shape.types[index].goName)")
        }
        out.appendGobUnsigned(UInt64(items.count))
        nested { writer in
            for item in items {
                writer.pending = node.first
                body(&writer, item)
                writer.requireNothingPending()
            }
        }
    }

    /// Writes a map, empty ones too; `body` writes the key and then the value of each item.
    public mutating func map<Items: Collection>(
        _ items: Items, at field: Int? = nil, _ body: (inout GobWriter, Items.Element) -> Void
    ) {
        guard let index = begin(.map, field, isZero: false) else { return }
        let node = shape.nodes[index]
        out.appendGobUnsigned(UInt64(items.count))
        nested { writer in
            for item in items {
                writer.pending = node.first
                writer.following = node.second
                body(&writer, item)
                writer.requireNothingPending()
            }
        }
    }

    /// Writes a structure; `body` writes the fields. Not to write an optional structure is to leave the call out.
    public mutating func structure(at field: Int? = nil, _ body: (inout GobWriter) -> Void) {
        guard let node = begin(.structure, field, isZero: false) else { return }
        nested { writer in
            writer.around = node
            body(&writer)
        }
        out.append(0)
    }

    // MARK: Any value

    /// Writes a value of any shape.
    public mutating func value(_ value: GobValue, at field: Int? = nil) {
        guard depth < Self.maximumDepth else { return fail("gob: value nested too deep", .limit) }
        switch value {
        case .bool(let bool): self.bool(bool, at: field)
        case .int(let int): self.int(int, at: field)
        case .uint(let uint): self.uint(uint, at: field)
        case .float(let float): self.float(float, at: field)
        case .complex(let real, let imaginary):
            let isZero = real.bitPattern == 0 && imaginary.bitPattern == 0
            guard begin(.complex, field, isZero: isZero) != nil else { return }
            out.appendGobFloat(real)
            out.appendGobFloat(imaginary)
        case .bytes(let bytes): self.bytes(bytes, at: field)
        case .string(let bytes): string(bytes: bytes, at: field)
        case .list(let items): list(items, at: field) { $0.value($1) }
        case .map(let pairs):
            map(pairs, at: field) { writer, pair in
                writer.value(pair.key)
                writer.value(pair.value)
            }
        case .structure(let fields): structure(at: field) { $0.write(fields) }
        case .null: null(at: field)
        }
    }

    /// Nil: a field that is left out, or an empty map.
    private mutating func null(at field: Int?) {
        guard field == nil else { return }
        guard pending >= 0, shape.nodes[pending].kind == .map else {
            return fail("gob: encodeArray: nil element", .unencodable)
        }
        map([GobValue.Pair](), at: nil) { _, _ in }
    }

    private mutating func write(_ fields: [GobValue.Field]) {
        let node = shape.nodes[around]
        for number in 0..<node.second {
            let field = shape.fields[node.first + number]
            if let given = fields.first(where: { $0.name == field.name }) {
                value(given.value, at: number)
            } else if !field.isPointer {
                zero(field.node, at: number)
            }
        }
    }

    /// What a field that was not given has: nothing at all, but for structures and arrays.
    private mutating func zero(_ index: Int, at field: Int?) {
        guard depth < Self.maximumDepth else { return fail("gob: type nested too deep", .limit) }
        let node = shape.nodes[index]
        switch node.kind {
        case .structure: structure(at: field) { $0.write([]) }
        case .list where node.second >= 0:
            list(0..<node.second, at: field) { writer, _ in writer.zero(node.first, at: nil) }
        case .list: if field == nil { list(EmptyCollection<Int>()) { _, _ in } }
        case .map: if field == nil { map(EmptyCollection<Int>()) { _, _ in } }
        case .bool: bool(false, at: field)
        case .int: int(0, at: field)
        case .uint: uint(0, at: field)
        case .float: float(0, at: field)
        case .complex: value(.complex(0, 0), at: field)
        case .bytes: bytes([], at: field)
        case .string: string("", at: field)
        case .invalid: break
        }
    }

    // MARK: Inside

    /// The bytes, once the value is complete.
    consuming func finish() throws(GobError) -> [UInt8] {
        requireNothingPending()
        if let failure { throw failure }
        return out
    }

    /// Goes to the next value, for a field with its number; nil when nothing is to be written.
    private mutating func begin(_ kind: GobKind, _ field: Int?, isZero: Bool) -> Int? {
        guard failure == nil else { return nil }
        guard let field else {
            let node = pending
            guard node >= 0, shape.nodes[node].kind == kind else { return mismatch(kind, node) }
            pending = following
            following = -1
            return node
        }
        guard around >= 0 else { return mismatch(kind, -1) }
        let structure = shape.nodes[around]
        guard field > lastField, field < structure.second else { return mismatch(kind, -1) }
        let node = shape.fields[structure.first + field].node
        guard shape.nodes[node].kind == kind else { return mismatch(kind, node) }
        if isZero, kind != .list || shape.nodes[node].second < 0 { return nil }
        out.appendGobUnsigned(UInt64(field - lastField))
        lastField = field
        return node
    }

    /// Goes into a value and back out.
    private mutating func nested(_ body: (inout GobWriter) -> Void) {
        guard depth < Self.maximumDepth else { return fail("gob: value nested too deep", .limit) }
        let outer = (pending, following, around, lastField)
        (pending, following, around, lastField) = (-1, -1, -1, -1)
        depth += 1
        body(&self)
        depth -= 1
        (pending, following, around, lastField) = outer
    }

    private mutating func requireNothingPending() {
        if pending >= 0 { fail("gob: a value is missing") }
    }

    private mutating func mismatch(_ kind: GobKind, _ node: Int) -> Int? {
        fail(node < 0 ? "gob: no \(kind) belongs here" : "gob: a \(kind) is no \(shape.types[node].goName)")
        return nil
    }

    private mutating func failRange(_ node: Int) {
        fail("gob: value for \(shape.types[node].goName) out of range", .outOfRange)
    }

    private mutating func fail(_ message: String, _ code: GobError.Code = .typeMismatch) {
        if failure == nil { failure = GobError(code, message) }
    }
}
