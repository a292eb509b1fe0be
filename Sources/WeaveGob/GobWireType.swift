/// A type as a stream defines it. What it refers to may be defined later, so references are ids.
enum GobWireType: Sendable, Equatable {
    case bool, int, uint, float, bytes, string, complex
    case slice(element: Int)
    case array(element: Int, count: Int)
    case structure(name: String, fields: [Field])
    case map(name: String, key: Int, value: Int)
    /// A type with its own encoding, which travels as a byte string.
    case opaque
    /// A definition with nothing in it.
    case empty

    /// A field as it is defined.
    struct Field: Sendable, Equatable {
        var name: String
        var id: Int
    }

    /// The types every stream knows.
    static func builtin(_ id: Int) -> GobWireType? {
        switch id {
        case 1: .bool
        case 2: .int
        case 3: .uint
        case 4: .float
        case 5: .bytes
        case 6: .string
        case 7: .complex
        default: nil
        }
    }

    /// Whether values of the type contain no others.
    var isLeaf: Bool {
        switch self {
        case .slice, .array, .structure, .map: false
        default: true
        }
    }

    /// The type's name in messages, empty for types without one.
    var name: String {
        switch self {
        case .bool: "bool"
        case .int: "int"
        case .uint: "uint"
        case .float: "float"
        case .bytes: "bytes"
        case .string: "string"
        case .complex: "complex"
        case .structure(let name, _), .map(let name, _, _): name
        case .slice, .array, .opaque: ""
        case .empty: "unknown type"
        }
    }
}

/// Reads one definition: a structure of which one field says what kind of type it is.
struct GobDefinitionReader {
    private var cursor: GobCursor
    private let limits: GobLimits

    /// Fields of one structure. Programs write tens; the bound keeps a stream's types to some megabytes.
    static let maximumFields = 4096

    init(_ cursor: GobCursor, limits: GobLimits) {
        self.cursor = cursor
        self.limits = limits
    }

    /// The type and where its definition ends.
    static func read(_ cursor: inout GobCursor, limits: GobLimits) throws(GobError) -> GobWireType {
        var reader = GobDefinitionReader(cursor, limits: limits)
        var type = GobWireType.empty
        try reader.structure(fieldCount: 7) { (reader, field) throws(GobError) in
            type = try reader.type(kind: field)
        }
        cursor = reader.cursor
        return type
    }

    /// Goes through the fields of a structure; the closure reads the value of the field with the number it is given.
    private mutating func structure(
        fieldCount: Int, _ readField: (inout GobDefinitionReader, Int) throws(GobError) -> Void
    ) throws(GobError) {
        var field = -1
        while let next = try cursor.readField(after: field, of: fieldCount) {
            field = next
            try readField(&self, field)
        }
    }

    private mutating func type(kind: Int) throws(GobError) -> GobWireType {
        var name = ""
        var first = 0
        var second = 0
        var fields: [GobWireType.Field] = []
        let fieldCount = [3, 2, 2, 3, 1, 1, 1][kind]
        try structure(fieldCount: fieldCount) { (reader, field) throws(GobError) in
            switch field {
            case 0: name = try reader.common().name
            case 1 where kind == 2: fields = try reader.fields()
            case 1: first = try reader.id()
            default: second = try reader.id()
            }
        }
        switch kind {
        case 0: return .array(element: first, count: second)
        case 1: return .slice(element: first)
        case 2: return .structure(name: name, fields: fields)
        case 3: return .map(name: name, key: first, value: second)
        default: return .opaque
        }
    }

    /// A name and an id, both optional.
    private mutating func common() throws(GobError) -> GobWireType.Field {
        var result = GobWireType.Field(name: "", id: 0)
        try structure(fieldCount: 2) { (reader, field) throws(GobError) in
            if field == 0 {
                result.name = String(decoding: try reader.cursor.readSlice("string"), as: UTF8.self)
            } else {
                result.id = try reader.id()
            }
        }
        return result
    }

    private mutating func fields() throws(GobError) -> [GobWireType.Field] {
        let count = try cursor.readUnsigned()
        guard count <= UInt64(cursor.remaining), count <= UInt64(min(limits.elements, Self.maximumFields)) else {
            throw GobError(
                .malformed, "gob: decoding []*gob.fieldType: length exceeds input size (\(count) elements)")
        }
        var fields: [GobWireType.Field] = []
        for _ in 0..<Int(count) { fields.append(try common()) }
        return fields
    }

    private mutating func id() throws(GobError) -> Int { Int(try cursor.readSigned()) }
}
