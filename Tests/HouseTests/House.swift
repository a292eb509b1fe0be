import Foundation

/// The files of this repository, as the tests of the house see them.
enum House {
    /// One file.
    struct File: Sendable, CustomStringConvertible {
        /// From the root, with `/` between the parts.
        let path: String
        let lines: [Substring]
        /// The lines without what is in comments and between quotes.
        let code: [Substring]

        var description: String { path }
        var name: String { path.split(separator: "/").last.map(String.init) ?? path }

        init(path: String, text: String) {
            self.path = path
            lines = text.split(separator: "\n", omittingEmptySubsequences: false)
            let code = path.hasSuffix(".swift") ? SwiftCode.stripped(text) : ""
            self.code = code.split(separator: "\n", omittingEmptySubsequences: false)
        }
    }

    /// The directory that holds `Package.swift`.
    static let root: URL = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath()
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// Every text file below a directory of the root, build products left out.
    static func files(under directory: String = "", where isWanted: (String) -> Bool) -> [File] {
        let base = directory.isEmpty ? root : root.appendingPathComponent(directory)
        guard let walk = FileManager.default.enumerator(atPath: base.path) else { return [] }
        var files: [File] = []
        for case let relative as String in walk {
            let name = relative.split(separator: "/").last.map(String.init) ?? relative
            if name.hasPrefix(".build") || name == ".git" || name == ".swiftpm" {
                walk.skipDescendants()
                continue
            }
            let path = directory.isEmpty ? relative : "\(directory)/\(relative)"
            guard isWanted(path), walk.fileAttributes?[.type] as? FileAttributeType == .typeRegular,
                let text = try? String(contentsOf: base.appendingPathComponent(relative), encoding: .utf8)
            else { continue }
            files.append(File(path: path, text: text))
        }
        return files.sorted { $0.path < $1.path }
    }

    static let sources = files(under: "Sources") { $0.hasSuffix(".swift") }
    static let tests = files(under: "Tests") { $0.hasSuffix(".swift") }

    /// The names of the directories in `Sources`.
    static var rooms: [String] {
        let names = try? FileManager.default.contentsOfDirectory(atPath: root.appendingPathComponent("Sources").path)
        return (names ?? []).filter { !$0.hasPrefix(".") }.sorted()
    }

    static func sources(of room: String) -> [File] { sources.filter { $0.path.hasPrefix("Sources/\(room)/") } }
}

/// As much of Swift's grammar as it takes to tell code from comments and texts.
enum SwiftCode {
    private enum State {
        case code
        case lineComment
        case blockComment(depth: Int)
        /// With this many `#` and as many quotes at its end.
        case text(hashes: Int, quotes: Int)
    }

    /// The source with comments and the contents of string literals replaced by spaces.
    static func stripped(_ source: String) -> String {
        let bytes = Array(source.utf8)
        var out: [UInt8] = []
        out.reserveCapacity(bytes.count)
        var state = State.code
        var index = 0

        func starts(_ text: String, at place: Int) -> Bool { bytes[place...].starts(with: text.utf8) }
        func blank(_ count: Int) {
            for byte in bytes[index..<min(bytes.count, index + count)] { out.append(byte == 10 ? 10 : 32) }
            index += count
        }

        while index < bytes.count {
            switch state {
            case .code where !Self.isSpecial(bytes[index]):
                out.append(bytes[index])
                index += 1
            case .code:
                if starts("//", at: index) {
                    state = .lineComment
                } else if starts("/*", at: index) {
                    state = .blockComment(depth: 1)
                    blank(2)
                } else if let (hashes, quotes) = opening(bytes, index) {
                    state = .text(hashes: hashes, quotes: quotes)
                    blank(hashes + quotes)
                } else {
                    out.append(bytes[index])
                    index += 1
                }
            case .lineComment:
                let end = bytes[index...].firstIndex(of: 10) ?? bytes.count
                blank(end - index)
                state = .code
            case .blockComment(let depth):
                if starts("*/", at: index) {
                    state = depth == 1 ? .code : .blockComment(depth: depth - 1)
                    blank(2)
                } else if starts("/*", at: index) {
                    state = .blockComment(depth: depth + 1)
                    blank(2)
                } else {
                    blank(1)
                }
            case .text(let hashes, let quotes):
                let pounds = String(repeating: "#", count: hashes)
                if starts(String(repeating: "\"", count: quotes) + pounds, at: index) {
                    state = .code
                    blank(quotes + hashes)
                } else {
                    blank(starts("\\" + pounds, at: index) ? 2 + hashes : 1)
                }
            }
        }
        return String(decoding: out, as: UTF8.self)
    }

    /// Whether a comment or a text can begin with the character.
    private static func isSpecial(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: "/") || byte == UInt8(ascii: "#") || byte == UInt8(ascii: "\"")
    }

    /// The beginning of a string literal.
    private static func opening(_ bytes: [UInt8], _ start: Int) -> (hashes: Int, quotes: Int)? {
        var index = start
        while index < bytes.count, bytes[index] == UInt8(ascii: "#") { index += 1 }
        guard index < bytes.count, bytes[index] == UInt8(ascii: "\"") else { return nil }
        let isLong = bytes[index...].starts(with: "\"\"\"".utf8)
        return (index - start, isLong ? 3 : 1)
    }
}
