/// The shape of a value: what a program declares before it encodes or decodes one.
///
/// Shapes match Go's types. Names matter in two places only: fields of structures are matched by name, and the name of
/// a structure is what `reference` refers to. All names travel in the type definitions.
public indirect enum GobType: Hashable, Sendable {
    case bool
    /// Signed, of 8, 16, 32 or 64 bits.
    case int(bits: Int)
    /// Unsigned, of 8, 16, 32 or 64 bits.
    case uint(bits: Int)
    /// Of 32 or 64 bits.
    case float(bits: Int)
    /// Of 64 or 128 bits.
    case complex(bits: Int)
    case bytes
    case string
    case slice(GobTypeName, GobType)
    case array(GobTypeName, GobType, count: Int)
    case map(GobTypeName, GobType, GobType)
    case structure(String, [GobFieldType])
    /// Nil or a value. The wire does not know pointers: a nil field is left out.
    case pointer(GobType)
    /// A structure described further out under this name, for types that contain themselves.
    case reference(String)
}

/// A field of a structure.
public struct GobFieldType: Hashable, Sendable {
    /// What it is matched by.
    public var name: String
    /// The type of its values.
    public var type: GobType

    /// A field with a name and a type.
    public init(_ name: String, _ type: GobType) {
        self.name = name
        self.type = type
    }
}

/// What a slice, an array or a map is called in its definition. Readers do not care; it exists so that the bytes can be
/// the same as those of a Go program.
public struct GobTypeName: Hashable, Sendable, ExpressibleByNilLiteral {
    let text: String
    /// Whether the name makes the type a different one from others of the same shape.
    let isDefined: Bool

    public init(nilLiteral: ()) {
        text = ""
        isDefined = false
    }

    private init(text: String, isDefined: Bool) {
        self.text = text
        self.isDefined = isDefined
    }

    /// A type declared under `name`, such as `type entries []*entry`.
    public static func defined(_ name: String) -> GobTypeName { GobTypeName(text: name, isDefined: true) }

    /// A type without a name of its own, spelled as Go spells it in a field: `[]main.Point`.
    public static func spelled(_ text: String) -> GobTypeName { GobTypeName(text: text, isDefined: false) }
}

extension GobType {
    /// The type a pointer leads to; any other type itself.
    var pointee: GobType {
        if case .pointer(let inner) = self { inner.pointee } else { self }
    }

    /// The structures described in the type, by name, for resolving references.
    func structures(into found: inout [String: GobType]) {
        switch self {
        case .slice(_, let element), .array(_, let element, _), .pointer(let element):
            element.structures(into: &found)
        case .map(_, let key, let value):
            key.structures(into: &found)
            value.structures(into: &found)
        case .structure(let name, let fields):
            found[name] = self
            for field in fields { field.type.structures(into: &found) }
        default: break
        }
    }

    /// How Go's messages speak of the type.
    var goName: String {
        switch self {
        case .bool: "bool"
        case .int(let bits): bits == 64 ? "int" : "int\(bits)"
        case .uint(let bits): bits == 64 ? "uint" : "uint\(bits)"
        case .float(let bits): "float\(bits)"
        case .complex(let bits): "complex\(bits)"
        case .bytes: "[]uint8"
        case .string: "string"
        case .slice(let name, let element): name.isDefined ? "main.\(name.text)" : "[]\(element.goName)"
        case .array(let name, let element, let count):
            name.isDefined ? "main.\(name.text)" : "[\(count)]\(element.goName)"
        case .map(let name, let key, let value):
            name.isDefined ? "main.\(name.text)" : name.text.isEmpty ? "map[\(key.goName)]\(value.goName)" : name.text
        case .structure(let name, _), .reference(let name): "main.\(name)"
        case .pointer(let inner): "*\(inner.goName)"
        }
    }
}
