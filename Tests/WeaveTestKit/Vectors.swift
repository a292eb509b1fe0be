import Foundation

/// The recordings under `Tests/Vectors`: one JSON file for each subject, a list of cases with name and kind.
public enum Vectors {
    /// One recorded case.
    public struct Case: @unchecked Sendable, CustomStringConvertible {
        /// The whole case as `JSONSerialization` reads it. Never changed after loading, which makes sharing safe.
        public let json: [String: Any]

        public var name: String { json["name"] as? String ?? "" }
        public var kind: String { json["kind"] as? String ?? "" }
        public var description: String { "\(kind): \(name)" }
        public subscript(key: String) -> Any? {
            let value = json[key]
            return value is NSNull ? nil : value
        }
    }

    /// All cases of `Tests/Vectors/<file>.json`, of one kind or of all.
    public static func load(_ file: String, kind: String? = nil) throws -> [Case] {
        let url = directory.appendingPathComponent(file + ".json")
        let object = try JSONSerialization.jsonObject(with: Data(contentsOf: url))
        guard let cases = (object as? [String: Any])?["cases"] as? [[String: Any]] else {
            throw CocoaError(.fileReadCorruptFile)
        }
        return cases.map { Case(json: $0) }.filter { kind == nil || $0.kind == kind }
    }

    private static var directory: URL {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Vectors")
    }
}
