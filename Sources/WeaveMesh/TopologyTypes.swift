/// The types of a topology stream, as it defines them, and how to read values of them into ours.
struct TopologyTypes {
    enum Wire {
        case scalar(Int)
        case array(element: Int)
        case slice(element: Int)
        case map(key: Int, value: Int)
        case structure([Field])
        /// A type with its own encoding: travels as a byte string.
        case opaque
    }

    struct Field {
        var name: String
        var id: Int
    }

    /// What to do with a field of an incoming structure.
    enum Action: Equatable {
        case take(Int)
        case skip(id: Int)
    }

    /// A field we know: its name and the type it must have.
    struct Local {
        var name: String
        var type: Int
    }

    private var types: [Int: Wire] = [:]

    /// Types one update may define. 2.8.1 defines three.
    private static let maximumTypes = 64
    /// Fields of one structure. 2.8.1 has six.
    private static let maximumFields = 256
    /// Values inside one another in a field that is skipped.
    private static let maximumDepth = 32

    func wire(_ id: Int) -> Wire? { (1...7).contains(id) ? .scalar(id) : types[id] }

    /// Reads a definition; `negated` is the number at its head.
    mutating func define(_ negated: Int64, _ cursor: inout MeshWireCursor) throws(MeshWireError) {
        guard negated > Int64(Int32.min), negated <= -64, types[Int(-negated)] == nil else {
            throw MeshWireError("gob: duplicate type received")
        }
        guard types.count < Self.maximumTypes else {
            throw MeshWireError("gob: more than \(Self.maximumTypes) types in a topology update")
        }
        var wire: Wire?
        try Self.fields(&cursor, count: 7) { (kind, cursor) throws(MeshWireError) in
            wire = try Self.type(kind, &cursor)
        }
        guard cursor.remaining == 0 else { throw MeshWireError("extra data in buffer") }
        types[Int(-negated)] = wire ?? .structure([])
    }

    /// Goes through the fields of a structure.
    private static func fields(
        _ cursor: inout MeshWireCursor, count: Int,
        _ body: (Int, inout MeshWireCursor) throws(MeshWireError) -> Void
    ) throws(MeshWireError) {
        var field = -1
        while true {
            let delta = try cursor.unsigned()
            guard delta > 0 else { return }
            guard delta < UInt64(count - field) else { throw outOfBounds }
            field += Int(delta)
            try body(field, &cursor)
        }
    }

    static let outOfBounds = MeshWireError("gob: bad data: field numbers out of bounds")

    private static func type(_ kind: Int, _ cursor: inout MeshWireCursor) throws(MeshWireError) -> Wire {
        var numbers = [0, 0]
        var list: [Field] = []
        try fields(&cursor, count: [3, 2, 2, 3, 1, 1, 1][kind]) { (field, cursor) throws(MeshWireError) in
            if field == 0 {
                _ = try common(&cursor)
            } else if kind == 2 {
                let count = try cursor.unsigned()
                guard count <= UInt64(min(cursor.remaining, maximumFields)) else {
                    throw MeshWireError("gob: structure of \(count) fields; at most \(maximumFields)")
                }
                for _ in 0..<count { list.append(try common(&cursor)) }
            } else {
                numbers[field - 1] = try number(&cursor)
            }
        }
        return switch kind {
        case 0: .array(element: numbers[0])
        case 1: .slice(element: numbers[0])
        case 2: .structure(list)
        case 3: .map(key: numbers[0], value: numbers[1])
        default: .opaque
        }
    }

    /// A name and a type number.
    private static func common(_ cursor: inout MeshWireCursor) throws(MeshWireError) -> Field {
        var result = Field(name: "", id: 0)
        try fields(&cursor, count: 2) { (field, cursor) throws(MeshWireError) in
            if field == 0 {
                let range = try cursor.range("string")
                result.name = String(decoding: cursor.bytes[range], as: UTF8.self)
            } else {
                result.id = try number(&cursor)
            }
        }
        return result
    }

    private static func number(_ cursor: inout MeshWireCursor) throws(MeshWireError) -> Int {
        guard let number = Int32(exactly: try cursor.signed()) else { throw MeshWireError.unknownType }
        return Int(number)
    }

    /// How to read values of a defined structure: fields are matched by name, and unknown ones passed over.
    func plan(_ id: Int, as local: [Local], name: StaticString) throws(MeshWireError) -> [Action] {
        let wire = wire(id)
        guard let wire else { throw MeshWireError.unknownType }
        guard case .structure(let fields) = wire else {
            throw MeshWireError("gob: type mismatch in decoder: want struct type mesh.\(name); got non-struct")
        }
        var plan: [Action] = []
        for field in fields {
            guard let index = local.firstIndex(where: { $0.name == field.name }) else {
                guard self.wire(field.id) != nil else { throw MeshWireError.unknownType }
                plan.append(.skip(id: field.id))
                continue
            }
            guard field.id == local[index].type else {
                let received = MeshWireType.name(Int64(field.id))
                throw MeshWireError("gob: wrong type (\(received)) for received field \(name).\(field.name)")
            }
            plan.append(.take(index))
        }
        guard plan.isEmpty || plan.contains(where: { if case .take = $0 { true } else { false } }) else {
            throw MeshWireError("gob: type mismatch: no fields matched compiling decoder for \(name)")
        }
        return plan
    }

    /// Passes over a value.
    func skip(_ id: Int, _ cursor: inout MeshWireCursor, depth: Int = 0) throws(MeshWireError) {
        guard depth < Self.maximumDepth, let wire = wire(id) else { throw MeshWireError.unknownType }
        switch wire {
        case .scalar(MeshWireType.bytes), .scalar(MeshWireType.string), .opaque:
            _ = try cursor.range("[]uint8")
        case .scalar(MeshWireType.complex):
            _ = try cursor.unsigned()
            _ = try cursor.unsigned()
        case .scalar: _ = try cursor.unsigned()
        case .array(let element), .slice(let element):
            for _ in 0..<(try count(&cursor)) { try skip(element, &cursor, depth: depth + 1) }
        case .map(let key, let value):
            for _ in 0..<(try count(&cursor)) {
                try skip(key, &cursor, depth: depth + 1)
                try skip(value, &cursor, depth: depth + 1)
            }
        case .structure(let list):
            try Self.fields(&cursor, count: list.count) { (field, cursor) throws(MeshWireError) in
                try skip(list[field].id, &cursor, depth: depth + 1)
            }
        }
    }

    /// A number of elements, each of which takes a byte at least.
    private func count(_ cursor: inout MeshWireCursor) throws(MeshWireError) -> UInt64 {
        let count = try cursor.unsigned()
        guard count <= UInt64(cursor.remaining) else { throw Self.tooLong(count) }
        return count
    }

    static func tooLong(_ count: UInt64) -> MeshWireError {
        MeshWireError("gob: decoding array or slice: length exceeds input size (\(count) elements)")
    }
}
