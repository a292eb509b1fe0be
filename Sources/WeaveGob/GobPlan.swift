/// How values of one wire type become values of one local type, worked out before the first of them is read.
///
/// Nodes follow the wire type, because its bytes are to be read. Types may contain themselves, so nodes refer to each
/// other by index.
struct GobPlan: Sendable {
    struct Node: Sendable {
        var kind: GobKind
        /// The width of the local number.
        var bits = 64
        /// The element of a list, the key of a map, or the first field of a structure.
        var first = 0
        /// The length of an array (-1 for a slice), the value of a map, or the number of fields of a structure.
        var second = 0
    }

    struct Field: Sendable {
        /// The number of the local field; -1 for a field that is read and dropped.
        var local: Int
        var node: Int
    }

    let shape: GobShape
    private(set) var nodes: [Node] = []
    private(set) var fields: [Field] = []
    /// For each structure the place of its first local field in the shape; 0 for nodes that are only skipped.
    private(set) var localFields: [Int] = []
    /// What messages call the place a value goes to, one for each node.
    private(set) var places: [String] = []

    /// The root is the first node made.
    static let root = 0

    /// The types inside one another that a plan follows; real ones have a handful. Bounds the compiler's recursion.
    static let maximumTypeDepth = 500

    /// Compiles a plan.
    ///
    /// - Throws: `GobError` when values of the wire type cannot become values of the shape.
    init(wire id: Int, shape: GobShape, types: [Int: GobWireType], limits: GobLimits) throws(GobError) {
        self.shape = shape
        var compiler = Compiler(shape: shape, types: types, limits: limits)
        let root = shape.nodes[GobShape.root]
        let name = shape.types[GobShape.root].goName
        if root.kind == .structure {
            try compiler.requireStructure(id, GobShape.root)
        } else {
            guard compiler.isCompatible(id, GobShape.root) else {
                let remote = compiler.wire(id)?.name ?? "unknown type"
                throw GobError(
                    .typeMismatch, "gob: decoding into local type *\(name), received remote type \(remote)")
            }
        }
        let place = root.kind == .structure ? name : "*\(name)"
        _ = try compiler.compile(id, GobShape.root, place: place, depth: 0)
        nodes = compiler.nodes
        fields = compiler.fields
        localFields = compiler.localFields
        places = compiler.places
        try requireCommonField()
    }

    /// Structures that have nothing in common are taken for a mistake; Go does this for the outermost one only.
    private func requireCommonField() throws(GobError) {
        let node = nodes[Self.root]
        guard node.kind == .structure, node.second > 0, shape.nodes[GobShape.root].second > 0,
            fields[node.first..<node.first + node.second].allSatisfy({ $0.local < 0 })
        else { return }
        throw GobError(
            .typeMismatch, "gob: type mismatch: no fields matched compiling decoder for \(places[Self.root])")
    }
}

extension GobPlan {
    private struct Compiler {
        let shape: GobShape
        let types: [Int: GobWireType]
        let limits: GobLimits
        var nodes: [Node] = []
        var fields: [Field] = []
        var localFields: [Int] = []
        var places: [String] = []
        var known: [Key: Int] = [:]

        struct Key: Hashable {
            var wire: Int
            /// -1 for what is skipped.
            var local: Int
        }

        init(shape: GobShape, types: [Int: GobWireType], limits: GobLimits) {
            self.shape = shape
            self.types = types
            self.limits = limits
        }

        func wire(_ id: Int) -> GobWireType? { GobWireType.builtin(id) ?? types[id] }

        /// Whether a wire type can become the local one, as far as can be said without looking into structures. The
        /// local type, which ends at structures, bounds the recursion.
        func isCompatible(_ id: Int, _ local: Int) -> Bool {
            let node = shape.nodes[local]
            guard let wire = wire(id) else { return node.kind == .structure }
            switch (node.kind, wire) {
            case (.bool, .bool), (.int, .int), (.uint, .uint), (.float, .float), (.complex, .complex),
                (.bytes, .bytes), (.string, .string), (.structure, _):
                return true
            case (.list, .slice(let remote)): return node.second < 0 && isCompatible(remote, node.first)
            case (.list, .array(let remote, let count)):
                return node.second == count && count >= 0 && isCompatible(remote, node.first)
            case (.map, .map(_, let key, let value)):
                return isCompatible(key, node.first) && isCompatible(value, node.second)
            default: return false
            }
        }

        func requireStructure(_ id: Int, _ local: Int) throws(GobError) {
            switch wire(id) {
            case nil: throw GobDecoder.unknownType
            case .structure: return
            default:
                throw GobError(
                    .typeMismatch,
                    "gob: type mismatch in decoder: want struct type \(shape.types[local].goName); got non-struct")
            }
        }

        /// The node for a wire type and the local one it becomes (-1 when it is only skipped).
        mutating func compile(_ id: Int, _ local: Int, place: String, depth: Int) throws(GobError) -> Int {
            guard depth < GobPlan.maximumTypeDepth else { throw GobError(.limit, "invalid nesting depth") }
            let key = Key(wire: id, local: local)
            if let node = known[key] { return node }
            guard let wire = wire(id) else { throw GobDecoder.unknownType }
            guard nodes.count < limits.elements else { throw GobError(.limit, "gob: too many types") }
            let index = nodes.count
            nodes.append(Node(kind: .invalid))
            localFields.append(local < 0 ? 0 : shape.nodes[local].first)
            places.append(place)
            // Leaves are not shared: each knows its place.
            if !wire.isLeaf { known[key] = index }
            nodes[index] = try node(wire, local, place: place, depth: depth)
            return index
        }

        private mutating func node(
            _ wire: GobWireType, _ local: Int, place: String, depth: Int
        ) throws(GobError) -> Node {
            let ours = local < 0 ? nil : shape.nodes[local]
            let bits = ours?.bits ?? 64
            switch wire {
            case .bool: return Node(kind: .bool)
            case .int: return Node(kind: .int, bits: bits)
            case .uint: return Node(kind: .uint, bits: bits)
            case .float: return Node(kind: .float, bits: bits)
            case .complex: return Node(kind: .complex, bits: bits)
            case .bytes, .opaque: return Node(kind: .bytes)
            case .string: return Node(kind: .string)
            case .slice(let element):
                return Node(kind: .list, first: try compile(element, of: ours, depth: depth), second: -1)
            case .array(let element, let count):
                guard count >= 0 else { throw GobDecoder.unknownType }
                return Node(kind: .list, first: try compile(element, of: ours, depth: depth), second: count)
            case .map(_, let key, let value):
                return Node(
                    kind: .map,
                    first: try compile(key, ours?.first ?? -1, place: "map key", depth: depth + 1),
                    second: try compile(value, ours?.second ?? -1, place: "map element", depth: depth + 1))
            case .structure(let name, let remote):
                let made = try compile(remote, of: name, ours, depth: depth)
                fields += made
                return Node(kind: .structure, first: fields.count - made.count, second: made.count)
            case .empty: throw GobDecoder.unknownType
            }
        }

        /// The element of a list.
        private mutating func compile(_ id: Int, of list: GobShape.Node?, depth: Int) throws(GobError) -> Int {
            let place = list.map { shape.types[$0.first].goName } ?? "element"
            if let list, shape.nodes[list.first].kind == .structure { try requireStructure(id, list.first) }
            return try compile(id, list?.first ?? -1, place: place, depth: depth + 1)
        }

        private mutating func compile(
            _ remote: [GobWireType.Field], of name: String, _ ours: GobShape.Node?, depth: Int
        ) throws(GobError) -> [Field] {
            var made: [Field] = []
            for field in remote {
                guard ours == nil || !field.name.isEmpty else {
                    throw GobError(.malformed, "gob: empty name for remote field of type \(name)")
                }
                guard let ours, let number = self.number(of: field.name, in: ours) else {
                    made.append(Field(local: -1, node: try compile(field.id, -1, place: field.name, depth: depth + 1)))
                    continue
                }
                let local = shape.fields[ours.first + number].node
                guard isCompatible(field.id, local) else {
                    let wanted = shape.types[local].fieldName
                    throw GobError(
                        .typeMismatch, "gob: wrong type (\(wanted)) for received field \(name).\(field.name)")
                }
                if shape.nodes[local].kind == .structure { try requireStructure(field.id, local) }
                made.append(
                    Field(local: number, node: try compile(field.id, local, place: field.name, depth: depth + 1)))
            }
            return made
        }

        /// The local fields are few, and their number is ours: a search in order is quick.
        private func number(of name: String, in structure: GobShape.Node) -> Int? {
            (0..<structure.second).first { shape.fields[structure.first + $0].name == name }
        }
    }
}

extension GobType {
    /// The type as messages about a field spell it.
    fileprivate var fieldName: String {
        switch self {
        case .slice(let name, _), .array(let name, _, _), .map(let name, _, _):
            name.isDefined || name.text.isEmpty ? goName : name.text
        default: goName
        }
    }
}
