/// A type made ready for use: what encoders and decoders are given. Make one for each type, once, and keep it:
///
///     static let point = GobShape(.structure("Point", [GobFieldType("X", .int(bits: 64)), ...]))
public final class GobShape: Sendable {
    /// The type it was made from.
    public let type: GobType

    /// A type without its names. Types may contain themselves, so nodes refer to each other by index.
    struct Node: Sendable {
        var kind: GobKind
        /// The width of a number.
        var bits = 64
        /// The element of a list, the key of a map, or the first field of a structure.
        var first = 0
        /// The length of an array (-1 for a slice), the value of a map, or the number of fields of a structure.
        var second = 0
    }

    struct Field: Sendable {
        var name: String
        var node: Int
        /// Whether the field can be nil and its absence so means something else than zero.
        var isPointer: Bool
    }

    let nodes: [Node]
    let fields: [Field]
    /// The type of each node, for messages.
    let types: [GobType]

    /// Makes a type ready. References in it lead to structures anywhere in it.
    public init(_ type: GobType) {
        self.type = type
        var builder = Builder()
        type.structures(into: &builder.structures)
        _ = builder.node(type)
        nodes = builder.nodes
        fields = builder.fields
        types = builder.types
    }

    /// The root is the first node made.
    static let root = 0

    private struct Builder {
        var structures: [String: GobType] = [:]
        var nodes: [Node] = []
        var fields: [Field] = []
        var types: [GobType] = []
        var known: [GobType: Int] = [:]

        mutating func node(_ type: GobType) -> Int {
            let type = resolve(type)
            if let known = known[type] { return known }
            let index = nodes.count
            if case .structure = type { known[type] = index }
            nodes.append(Node(kind: .invalid))
            types.append(type)
            nodes[index] = content(type)
            return index
        }

        private func resolve(_ type: GobType) -> GobType {
            let type = type.pointee
            if case .reference(let name) = type { return structures[name] ?? type }
            return type
        }

        private mutating func content(_ type: GobType) -> Node {
            switch type {
            case .bool: return Node(kind: .bool)
            case .int(let bits): return Node(kind: .int, bits: bits)
            case .uint(let bits): return Node(kind: .uint, bits: bits)
            case .float(let bits): return Node(kind: .float, bits: bits)
            case .complex(let bits): return Node(kind: .complex, bits: bits / 2)
            case .bytes: return Node(kind: .bytes)
            case .string: return Node(kind: .string)
            case .slice(_, let element): return Node(kind: .list, first: node(element), second: -1)
            case .array(_, let element, let count):
                return Node(kind: .list, first: node(element), second: count)
            case .map(_, let key, let value): return Node(kind: .map, first: node(key), second: node(value))
            case .structure(_, let members):
                var made: [Field] = []
                for member in members {
                    made.append(
                        Field(name: member.name, node: node(member.type), isPointer: member.type.isPointer))
                }
                fields += made
                return Node(kind: .structure, first: fields.count - made.count, second: made.count)
            case .pointer, .reference: return Node(kind: .invalid)
            }
        }
    }

    /// `bool`.
    public static let bool = GobShape(.bool)
    /// A signed integer of 64 bits.
    public static let int = GobShape(.int(bits: 64))
    /// An unsigned integer of 64 bits.
    public static let uint = GobShape(.uint(bits: 64))
    /// Bytes.
    public static let bytes = GobShape(.bytes)
    /// A string.
    public static let string = GobShape(.string)
    /// `map[string]string`.
    public static let stringMap = GobShape(.map(nil, .string, .string))
}

/// The kinds of value, on both sides of the wire.
enum GobKind: UInt8, Sendable {
    case bool, int, uint, float, complex, bytes, string, list, map, structure
    /// A reference that leads nowhere.
    case invalid
}
