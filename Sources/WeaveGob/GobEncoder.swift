/// Writes values as a gob stream: each value with the definitions of those of its types that were not sent before.
///
/// One encoder makes one stream. What `encode` returns is what the value adds to it, so the parts in order are the
/// stream. To make many streams of the same types, `prepare` one encoder and copy it for each stream.
///
/// Within a stream a structure's name stands for one type.
public struct GobEncoder: Sendable {
    /// A shape with what is to be sent before its first value.
    private struct Prepared: Sendable {
        var shape: GobShape
        var id: Int
        /// Definitions, each a whole message, in the order in which Go sends them.
        var definitions: [Definition]
    }

    private struct Definition: Sendable {
        var id: Int
        var message: [UInt8]
    }

    private var nextID: Int
    private var ids: [GobType: Int] = [:]
    private var names: [Int: String] = [:]
    private var sent: Set<Int> = []
    private var structures: [String: GobType] = [:]
    private var prepared: [ObjectIdentifier: Prepared] = [:]
    private var shapes: [GobType: GobShape] = [:]
    /// Kept from value to value so that its memory is.
    private var scratch: [UInt8] = []

    /// `firstTypeID` is the id of the first type defined (64 or more); readers take any.
    public init(firstTypeID: Int = 65) { nextID = max(64, firstTypeID) }

    /// Works out the definitions of a shape, so that copies of this encoder need not.
    ///
    /// - Throws: `GobError` when the shape has a reference that leads nowhere, or a structure with the name of another.
    public mutating func prepare(_ shape: GobShape) throws(GobError) { _ = try preparation(of: shape) }

    /// Appends what `value` adds to the stream.
    ///
    /// - Throws: `GobError` when the value does not have the shape, or is a nil pointer where the wire has no nil. The
    ///   definitions have been appended then, and count as sent.
    public mutating func encode(
        _ value: GobValue, as shape: GobShape, into out: inout [UInt8]
    ) throws(GobError) {
        if value == .null, shape.nodes[GobShape.root].kind != .map {
            throw GobError(
                .unencodable, "gob: cannot encode nil pointer of type *\(shape.types[GobShape.root].goName)")
        }
        try encode(as: shape, into: &out) { $0.value(value) }
    }

    /// The bytes that `value` adds to the stream. The shape is made and kept for the next time.
    ///
    /// - Throws: `GobError` as the other `encode`; the stream is at an end then.
    public mutating func encode(_ value: GobValue, as type: GobType) throws(GobError) -> [UInt8] {
        var out: [UInt8] = []
        try encode(value, as: shape(of: type), into: &out)
        return out
    }

    /// Appends a value that `body` writes, with what has to be sent before it.
    ///
    /// - Throws: `GobError` when what `body` writes does not have the shape.
    public mutating func encode(
        as shape: GobShape, into out: inout [UInt8], _ body: (inout GobWriter) -> Void
    ) throws(GobError) {
        let (id, needsZero) = try define(shape, into: &out)
        var buffer = scratch
        scratch = []
        buffer.removeAll(keepingCapacity: true)
        buffer.appendGobSigned(Int64(id))
        if needsZero { buffer.append(0) }
        var writer = GobWriter(shape: shape, bytes: buffer)
        buffer = []
        body(&writer)
        scratch = try writer.finish()
        out.appendGobMessage(scratch)
    }

    /// Appends a string.
    public mutating func encode(_ text: String, into out: inout [UInt8]) throws(GobError) {
        try encode(as: .string, into: &out) { $0.string(text) }
    }

    /// Appends an unsigned integer.
    public mutating func encode(_ number: UInt64, into out: inout [UInt8]) throws(GobError) {
        try encode(as: .uint, into: &out) { $0.uint(number) }
    }

    /// Appends a byte string.
    public mutating func encode(_ bytes: [UInt8], into out: inout [UInt8]) throws(GobError) {
        try encode(as: .bytes, into: &out) { $0.bytes(bytes) }
    }

    // MARK: Definitions

    private mutating func shape(of type: GobType) -> GobShape {
        if let known = shapes[type] { return known }
        let shape = GobShape(type)
        shapes[type] = shape
        return shape
    }

    /// Sends what has to be sent before a value, and gives the id that goes before it.
    private mutating func define(
        _ shape: GobShape, into out: inout [UInt8]
    ) throws(GobError) -> (id: Int, needsZero: Bool) {
        let needsZero = shape.nodes[GobShape.root].kind != .structure
        if let id = shape.types[GobShape.root].builtinID { return (id, needsZero) }
        let preparation = try preparation(of: shape)
        for definition in preparation.definitions where sent.insert(definition.id).inserted {
            out += definition.message
        }
        return (preparation.id, needsZero)
    }

    private mutating func preparation(of shape: GobShape) throws(GobError) -> Prepared {
        if let known = prepared[ObjectIdentifier(shape)] { return known }
        for (index, node) in shape.nodes.enumerated() where node.kind == .invalid {
            throw GobError(.unencodable, "gob: no structure \(shape.types[index].goName) in the type")
        }
        for case .structure(let name, let fields) in shape.types where !name.isEmpty {
            if case .structure(_, let known) = structures[name], known.map(\.name) != fields.map(\.name) {
                throw GobError(.unencodable, "gob: two structures with the name \(name)")
            }
            structures[name] = .structure(name, fields)
        }
        let type = shape.types[GobShape.root]
        let id = identify(type)
        var definitions: [Definition] = []
        var seen: Set<Int> = []
        define(type, &definitions, &seen)
        let made = Prepared(shape: shape, id: id, definitions: definitions)
        prepared[ObjectIdentifier(shape)] = made
        return made
    }

    private func resolve(_ type: GobType) -> GobType {
        let type = type.pointee
        if case .reference(let name) = type { return structures[name] ?? type }
        return type
    }

    /// The type as the key of its id: without what does not make a different type.
    private func key(_ type: GobType) -> GobType {
        func plain(_ name: GobTypeName) -> GobTypeName { name.isDefined ? name : nil }
        func inner(_ type: GobType) -> GobType { type.isPointer ? .pointer(key(type)) : key(type) }
        switch type.pointee {
        case .slice(let name, let element): return .slice(plain(name), inner(element))
        case .array(let name, let element, let count): return .array(plain(name), inner(element), count: count)
        case .map(let name, let k, let v): return .map(plain(name), inner(k), inner(v))
        case .structure(let name, let fields):
            return name.isEmpty
                ? .structure("", fields.map { GobFieldType($0.name, key($0.type)) }) : .reference(name)
        default: return type.pointee
        }
    }

    /// The id of a type, given out in the order in which Go does: a structure before its fields, others after theirs.
    /// Where a type is first met decides on its name: keys and values of maps and the targets of pointers in lists have none.
    @discardableResult
    private mutating func identify(_ type: GobType, nameless: Bool = false) -> Int {
        let type = resolve(type)
        if let builtin = type.builtinID { return builtin }
        let key = key(type)
        if let known = ids[key] { return known }
        var name = ""
        switch type {
        case .structure(let text, let fields):
            let id = takeID(key, name: nameless ? "" : text)
            for field in fields { identify(field.type) }
            return id
        case .slice(let given, let element), .array(let given, let element, _):
            identify(element, nameless: element.isPointer)
            name = given.text
        case .map(let given, let k, let v):
            identify(k, nameless: true)
            identify(v, nameless: true)
            name = given.text
        default: break
        }
        return ids[key] ?? takeID(key, name: nameless ? "" : name)
    }

    private mutating func takeID(_ key: GobType, name: String) -> Int {
        defer { nextID += 1 }
        ids[key] = nextID
        names[nextID] = name
        return nextID
    }

    /// The definitions of a type and of all types in it, each once.
    private mutating func define(_ type: GobType, _ definitions: inout [Definition], _ seen: inout Set<Int>) {
        let type = resolve(type)
        let id = identify(type)
        guard type.builtinID == nil, seen.insert(id).inserted else { return }
        let name = names[id] ?? ""
        var inner: [GobType] = []
        var body: [UInt8] = []
        body.appendGobSigned(Int64(-id))
        switch type {
        case .array(_, let element, let count):
            body += [1, 1] + common(name, id) + [1]
            body.appendGobSigned(Int64(identify(element)))
            if count != 0 {
                body.append(1)
                body.appendGobSigned(Int64(count))
            }
            inner = [element]
        case .slice(_, let element):
            body += [2, 1] + common(name, id) + [1]
            body.appendGobSigned(Int64(identify(element)))
            inner = [element]
        case .structure(_, let fields):
            body += [3, 1] + common(name, id)
            if !fields.isEmpty {
                body.append(1)
                body.appendGobUnsigned(UInt64(fields.count))
                for field in fields { body += common(field.name, identify(field.type)) }
            }
            inner = fields.map(\.type)
        case .map(_, let key, let value):
            body += [4, 1] + common(name, id) + [1]
            body.appendGobSigned(Int64(identify(key)))
            body.append(1)
            body.appendGobSigned(Int64(identify(value)))
            inner = [key, value]
        default: break
        }
        var message: [UInt8] = []
        message.appendGobMessage(body + [0, 0])
        definitions.append(Definition(id: id, message: message))
        for type in inner { define(type, &definitions, &seen) }
    }

    /// The structure of a name and an id, which is how both types and fields begin.
    private func common(_ name: String, _ id: Int) -> [UInt8] {
        var out: [UInt8] = []
        if !name.isEmpty {
            out.append(1)
            out.appendGobBytes(name.utf8)
        }
        out.append(name.isEmpty ? 2 : 1)
        out.appendGobSigned(Int64(id))
        out.append(0)
        return out
    }
}

extension GobType {
    var isPointer: Bool { if case .pointer = self { true } else { false } }

    /// The id of a type that needs no definition.
    var builtinID: Int? {
        switch self {
        case .bool: 1
        case .int: 2
        case .uint: 3
        case .float: 4
        case .bytes: 5
        case .string: 6
        case .complex: 7
        default: nil
        }
    }
}
