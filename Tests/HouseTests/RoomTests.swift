import Foundation
import Testing

/// Which room may know which, and what the pure ones may not do.
@Suite("Rooms") struct RoomTests {
    /// The arrows of the map, for each directory in `Sources`. A room that is missing here has no place in the map.
    private static let arrows: [String: Set<String>] = [
        "CLinux": [], "CNetlink": [], "CSodium": [],
        "WeaveCore": [],
        "WeaveGob": ["WeaveCore"],
        "WeaveCrypto": ["WeaveCore", "CSodium"],
        "WeaveMesh": ["WeaveCore", "WeaveGob", "WeaveCrypto"],
        "WeaveIPAM": ["WeaveCore", "WeaveGob"],
        "WeaveDNS": ["WeaveCore", "WeaveGob"],
        "WeaveNetlink": ["WeaveCore", "CNetlink", "CLinux"],
        "WeaveDatapath": ["WeaveCore", "WeaveCrypto", "WeaveNetlink", "CLinux"],
        "WeaveNetDaemon": [
            "WeaveCore", "WeaveGob", "WeaveCrypto", "WeaveMesh", "WeaveIPAM", "WeaveDNS", "WeaveNetlink",
            "WeaveDatapath", "CLinux",
        ],
        "WeaveCommand": ["WeaveCore"],
    ]

    /// Rooms in which nothing has a clock, chance or a world outside.
    private static let pureRooms: Set<String> = ["WeaveCore", "WeaveGob", "WeaveCrypto", "WeaveIPAM"]
    /// Rooms of which some files are pure: those that know of no world outside, nor extend one that does.
    private static let mixedRooms: Set<String> = ["WeaveMesh", "WeaveDNS", "WeaveDatapath", "WeaveIPAM"]
    /// What only a shell imports.
    private static let worldly: Set<String> = [
        "Foundation", "FoundationEssentials", "Glibc", "Musl", "Darwin", "Dispatch", "CLinux", "Logging", "NIO",
        "NIOCore", "NIOPosix", "NIOConcurrencyHelpers", "CoreMetrics", "ServiceLifecycle", "Synchronization",
        "WeaveNetlink",
    ]
    /// Clocks, waiting, chance and output, which an instance is given or returns.
    private static let banned = [
        "Date()", "Task.sleep", "SystemRandomNumberGenerator", "ContinuousClock", "SuspendingClock", "print(",
        "usleep(", "clock_gettime", "getrandom", "arc4random",
    ]

    @Test("every room has a place in the map")
    func places() {
        #expect(Set(House.rooms).subtracting(Self.arrows.keys) == [])
    }

    @Test("imports follow the arrows of the map", arguments: House.sources)
    func arrows(_ file: House.File) throws {
        let allowed = try #require(Self.arrows[file.room])
        let known = file.imports.filter { Self.arrows[$0] != nil }
        #expect(Set(known).subtracting(allowed) == [], "\(file.path)")
    }

    @Test("an import that breaks the map is seen")
    func seen() {
        let file = House.File(
            path: "Sources/WeaveCore/X.swift",
            text:
                "public import WeaveMesh\n@testable import struct WeaveDNS.Name\n  internal import Glibc // import A\n")
        #expect(file.room == "WeaveCore")
        #expect(file.imports == ["WeaveMesh", "WeaveDNS", "Glibc"])
    }

    @Test(
        "pure rooms import nothing of the world outside",
        arguments: House.sources.filter { pureRooms.contains($0.room) })
    func pureImports(_ file: House.File) {
        guard !Self.isShell(file) || file.room != "WeaveIPAM" else { return }
        let allowed: Set<String> = file.room == "WeaveCrypto" ? ["Synchronization"] : []
        #expect(Set(file.imports).intersection(Self.worldly).subtracting(allowed) == [], "\(file.path)")
    }

    @Test("instances have no clock, no chance of their own and print nothing", arguments: House.sources.filter(isPure))
    func calls(_ file: House.File) {
        for call in Self.banned { #expect(file.places(of: call) == [], "\(call) in \(file.path)") }
        for (number, line) in file.code.enumerated() {
            for call in [".random(", ".randomElement(", ".shuffled(", ".shuffle("] where line.contains(call) {
                let isGiven = line.contains("using")
                #expect(isGiven, "\(file.path):\(number + 1) draws from a generator of its own")
            }
        }
    }

    private static func isPure(_ file: House.File) -> Bool {
        if mixedRooms.contains(file.room) { return !isShell(file) }
        return pureRooms.contains(file.room)
    }

    /// Whether a file, or the one whose type it extends, is an actor or deals with the world outside.
    private static func isShell(_ file: House.File) -> Bool {
        let base = file.name.prefix { $0 != "+" && $0 != "." }
        return House.sources(of: file.room).contains { other in
            other.name.prefix { $0 != "+" && $0 != "." } == base
                && (!worldly.isDisjoint(with: other.imports) || !other.places(of: "actor").isEmpty)
        }
    }
}

extension House.File {
    /// The directory in `Sources` that the file is in.
    var room: String { path.split(separator: "/").dropFirst().first.map(String.init) ?? "" }

    /// The modules imported, in order.
    var imports: [String] {
        code.compactMap { line in
            guard line.contains("import") else { return nil }
            let words = line.split(whereSeparator: \.isWhitespace)
            guard let place = words.firstIndex(of: "import"), words.count > place + 1,
                words[..<place].allSatisfy({ Self.importModifiers.contains(String($0)) })
            else { return nil }
            let kinds: Set<Substring> = ["struct", "class", "enum", "protocol", "func", "var", "let", "typealias"]
            let module =
                kinds.contains(words[place + 1]) && words.count > place + 2 ? words[place + 2] : words[place + 1]
            return module.split(separator: ".").first.map(String.init)
        }
    }

    private static let importModifiers: Set<String> = [
        "public", "package", "internal", "fileprivate", "private", "@testable", "@preconcurrency", "@_exported",
        "@_implementationOnly", "@unsafe", "@_spi",
    ]
}
