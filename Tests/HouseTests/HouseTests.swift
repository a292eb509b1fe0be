import Foundation
import Testing

/// What holds for the whole of the source.
@Suite("House") struct HouseTests {
    /// The longest a file may be.
    private static let maximumLines = 800

    @Test("the house is found, and its test can tell code from comments")
    func itself() {
        #expect(House.sources.count > 50)
        #expect(House.rooms.contains("WeaveCore"))
        let code = SwiftCode.stripped(
            "a /* b /* c */ d */ e // f\ng \"h \\\" i\" j #\"k \" l\"# m \"\"\"\nn \" o\n\"\"\" p")
        #expect(code.split(whereSeparator: \.isWhitespace) == ["a", "e", "g", "j", "m", "p"])
        #expect(code.split(separator: "\n", omittingEmptySubsequences: false).count == 4)
    }

    @Test("no file is longer than 800 lines", arguments: House.sources + House.tests)
    func length(_ file: House.File) {
        #expect(file.lines.count <= Self.maximumLines, "\(file.path) has \(file.lines.count) lines")
    }

    @Test("nothing that ends the process stands in the sources", arguments: House.sources)
    func endings(_ file: House.File) {
        for call in ["try!", "fatalError(", "as!"] {
            #expect(file.places(of: call) == [], "\(call) in \(file.path)")
        }
    }

    @Test("libraries do not print", arguments: House.sources.filter { !isProgram($0) })
    func printing(_ file: House.File) {
        #expect(file.places(of: "print(") == [], "print in \(file.path)")
    }

    private static func isProgram(_ file: House.File) -> Bool {
        file.path.hasPrefix("Sources/WeaveNetDaemon/") || file.path.hasPrefix("Sources/WeaveCommand/")
    }

    @Test("no file speaks of one machine")
    func machines() {
        // Put together here, so that this file does not find itself.
        let places = ["work", "root", "tmp/h"].map { "/" + $0 + "/" }
        let files = House.files { path in
            guard let name = path.split(separator: "/").last else { return false }
            let suffixes = [".swift", ".md", ".c", ".h", ".json", ".yml", ".yaml", ".modulemap", ".txt"]
            return !path.hasPrefix("Tests/Vectors/")
                && (!name.contains(".") || suffixes.contains { name.hasSuffix($0) })
        }
        #expect(files.count > 60)
        for file in files {
            for (number, line) in file.lines.enumerated() {
                for place in places where line.contains(place) {
                    Issue.record("\(file.path):\(number + 1) speaks of \(place)")
                }
            }
        }
    }
}

extension House.File {
    /// The numbers of the lines whose code has a call or word, where it is not the end of a longer word.
    func places(of call: String) -> [Int] {
        code.enumerated().compactMap { number, line in
            guard line.contains(call) else { return nil }
            var rest = line
            while let found = rest.range(of: call) {
                let before = rest[..<found.lowerBound].last ?? line[..<found.lowerBound].last
                if before.map({ !$0.isLetter && !$0.isNumber && $0 != "_" && $0 != "." }) ?? true { return number + 1 }
                rest = rest[found.upperBound...]
            }
            return nil
        }
    }
}

@Suite("Places in code") struct PlacesTests {
    private func places(_ call: String, _ text: String) -> [Int] {
        House.File(path: "Sources/WeaveCore/X.swift", text: text).places(of: call)
    }

    @Test("calls are found in code, and only there")
    func found() {
        #expect(places("print(", "print(1)\n// print(2)\nblueprint(3)\n  if a { print(4) }\n\"print(5)\"") == [1, 4])
        #expect(places("as!", "let a = b as! C\nlet d = b as? C") == [1])
        #expect(places("try!", "x = try! y()\ntry y()\n") == [1])
        #expect(places("fatalError(", "blueprint.fatalError(); fatalError()") == [1])
        #expect(places("Date()", "UpDate()\nlet now = Date()") == [2])
    }
}
