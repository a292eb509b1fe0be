import Foundation
import WeaveCore
import WeaveTestKit

@testable import WeaveGob

/// Types and values as the recordings write them.
struct GobVectorJSON {
    /// A recording that is not written as expected.
    struct Unreadable: Error {
        var what: String
    }

    /// The structures met so far, for `{"ref": name}`.
    private var structures: [String: GobType] = [:]

    mutating func type(_ json: Any?) throws -> GobType {
        if let word = json as? String { return try basic(word) }
        guard let object = json as? [String: Any] else { throw Unreadable(what: "type \(String(describing: json))") }
        let name: GobTypeName
        if let text = object["name"] as? String {
            name = .defined(text)
        } else if let text = object["wire_name"] as? String {
            name = .spelled(text)
        } else {
            name = nil
        }
        if let element = object["slice"] { return .slice(name, try type(element)) }
        if let element = object["array"] {
            return .array(name, try type(element), count: object["len"] as? Int ?? 0)
        }
        if let pair = object["map"] as? [Any], pair.count == 2 {
            return .map(name, try type(pair[0]), try type(pair[1]))
        }
        if let inner = object["pointer"] { return .pointer(try type(inner)) }
        if let reference = object["ref"] as? String { return structures[reference] ?? .reference(reference) }
        guard let text = object["struct"] as? String, let fields = object["fields"] as? [[Any]] else {
            throw Unreadable(what: "type \(object)")
        }
        let made = GobType.structure(
            text,
            try fields.map { GobFieldType(try need($0[0] as? String), try type($0[1])) })
        structures[text] = made
        return made
    }

    private func basic(_ word: String) throws -> GobType {
        switch word {
        case "bool": return .bool
        case "string": return .string
        case "bytes": return .bytes
        default: break
        }
        let letters = String(word.prefix { $0.isLetter })
        let bits = Int(word.dropFirst(letters.count)) ?? 64
        switch letters {
        case "int": return .int(bits: bits)
        case "uint", "uintptr": return .uint(bits: bits)
        case "float": return .float(bits: bits)
        case "complex": return .complex(bits: bits)
        default: throw Unreadable(what: "type \(word)")
        }
    }

    func resolve(_ type: GobType) -> GobType {
        if case .reference(let name) = type { return structures[name] ?? type }
        return type
    }

    /// A value in canonical form: every field of a structure is there, and nil slices are empty ones.
    func value(_ json: Any?, as type: GobType) throws -> GobValue {
        let json = json is NSNull ? nil : json
        switch resolve(type) {
        case .bool: return .bool(try need(json as? Bool))
        case .int: return .int(try need(Int64(try need(json as? String))))
        case .uint: return .uint(try need(UInt64(try need(json as? String))))
        case .float: return .float(try float(json))
        case .complex:
            let parts = try need(json as? [Any])
            return .complex(try float(parts[0]), try float(parts[1]))
        case .bytes: return .bytes(try hex(json ?? ""))
        case .string:
            if let text = json as? String { return .text(text) }
            return .string(try hex((json as? [String: Any])?["hex"]))
        case .slice(_, let element), .array(_, let element, _):
            if json == nil { return .list([]) }
            if let text = json as? String { return .list(try hex(text).map { .uint(UInt64($0)) }) }
            return .list(try need(json as? [Any]).map { try value($0, as: element) })
        case .map(_, let keyType, let valueType):
            guard let pairs = json as? [[Any]] else { return .null }
            return .map(
                try pairs.map {
                    GobValue.Pair(key: try value($0[0], as: keyType), value: try value($0[1], as: valueType))
                })
        case .structure(_, let fields):
            let object = try need(json as? [String: Any])
            return .structure(
                try fields.map { GobValue.Field($0.name, try value(object[$0.name], as: $0.type)) })
        case .pointer(let inner): return json == nil ? .null : try value(json, as: inner)
        case .reference(let name): throw Unreadable(what: "reference \(name)")
        }
    }

    private func float(_ json: Any?) throws -> Double {
        let bits = try need((json as? [String: Any])?["bits"] as? String)
        return Double(bitPattern: try need(UInt64(bits, radix: 16)))
    }

    func hex(_ json: Any?) throws -> [UInt8] { try need([UInt8](hex: try need(json as? String))) }

    /// The canonical form of a value: what is absent gets its zero value, pairs of maps are in a fixed order. A pointer
    /// to a zero number, string or slice travels as nil; a nil map that is no field travels as an empty one.
    func canonical(_ value: GobValue?, as type: GobType, isField: Bool = false) -> GobValue {
        switch (resolve(type), value) {
        case (.pointer(let inner), let value):
            guard let value, value != .null else { return .null }
            let made = canonical(value, as: inner)
            switch resolve(inner.pointee) {
            case .structure, .map, .array: return made
            default: return made == canonical(nil, as: inner.pointee) ? .null : made
            }
        case (.structure(_, let fields), let value):
            return .structure(
                fields.map { GobValue.Field($0.name, canonical(value?[$0.name], as: $0.type, isField: true)) })
        case (.slice(_, let element), .list(let items)), (.array(_, let element, _), .list(let items)):
            return .list(items.map { canonical($0, as: element) })
        case (.slice, _): return .list([])
        case (.array(_, let element, let count), _):
            return .list(Array(repeating: canonical(nil, as: element), count: count))
        case (.map(_, let key, let value), .map(let pairs)):
            let made = pairs.map {
                GobValue.Pair(key: canonical($0.key, as: key), value: canonical($0.value, as: value))
            }
            return .map(made.sorted { "\($0.key)" < "\($1.key)" })
        case (.map, _): return isField ? .null : .map([])
        case (.bool, nil): return .bool(false)
        case (.int, nil): return .int(0)
        case (.uint, nil): return .uint(0)
        case (.float, nil): return .float(0)
        case (.complex, nil): return .complex(0, 0)
        case (.bytes, nil): return .bytes([])
        case (.string, nil): return .string([])
        case (.bool, let value?), (.int, let value?), (.uint, let value?), (.float, let value?),
            (.complex, let value?), (.bytes, let value?), (.string, let value?), (.reference, let value?):
            return value
        case (.reference, nil): return .null
        }
    }
}

/// What is there, or an error.
func need<Value>(_ value: Value?) throws -> Value {
    guard let value else { throw GobVectorJSON.Unreadable(what: "no \(Value.self)") }
    return value
}

/// Whether two values are the same, not-a-number included.
func same(_ left: GobValue, _ right: GobValue) -> Bool { left == right || "\(left)" == "\(right)" }
