import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveGob

/// Bytes made to hurt: counts that promise more than there is, nesting, and damage of every sort.
@Suite("Hostile gob") struct GobHostileTests {
    private static let integers = GobShape(.slice(nil, .int(bits: 64)))
    private static let numbersByText = GobShape(.map(nil, .string, .int(bits: 64)))
    private static let tree = GobShape(
        .structure("Tree", [GobFieldType("Name", .string), GobFieldType("Kids", .slice(nil, .reference("Tree")))]))

    static let hugeCounts: [UInt64] = [1 << 20, 1 << 26, 1 << 33, 1 << 62, (1 << 63) - 1, 1 << 63, .max]

    /// A message with the id of a type and then `body`.
    private func message(_ id: Int64, _ body: [UInt8]) -> [UInt8] {
        var content: [UInt8] = []
        content.appendGobSigned(id)
        var out: [UInt8] = []
        out.appendGobMessage(content + body)
        return out
    }

    private func unsigned(_ value: UInt64) -> [UInt8] {
        var out: [UInt8] = []
        out.appendGobUnsigned(value)
        return out
    }

    private func definitions(of shape: GobShape, _ value: GobValue) throws -> [UInt8] {
        var encoder = GobEncoder()
        var whole: [UInt8] = []
        try encoder.encode(value, as: shape, into: &whole)
        var second: [UInt8] = []
        try encoder.encode(value, as: shape, into: &second)
        return Array(whole.dropLast(second.count))
    }

    @Test("a slice that claims a huge count fails at once", arguments: hugeCounts)
    func sliceCount(_ count: UInt64) throws {
        let bytes =
            try definitions(of: Self.integers, .list([])) + message(65, [0] + unsigned(count) + [2, 4, 6])
        var decoder = GobDecoder(bytes)
        #expect(throws: GobError.self) { try decoder.decode(as: Self.integers) }
        var direct = GobDecoder(bytes)
        #expect(throws: GobError.self) {
            try direct.decode(as: Self.integers) { (reader) throws(GobError) in
                try reader.list { (reader) throws(GobError) in _ = try reader.int() }
            }
        }
        var skipping = GobDecoder(bytes)
        #expect(throws: GobError.self) {
            try skipping.decode(as: Self.integers) { (reader) throws(GobError) in try reader.skip() }
        }
    }

    @Test("a map that claims a huge count fails at once, or has no pair as in Go", arguments: hugeCounts)
    func mapCount(_ count: UInt64) throws {
        let bytes =
            try definitions(of: Self.numbersByText, .map([])) + message(65, [0] + unsigned(count) + [1, 97, 2])
        var decoder = GobDecoder(bytes)
        if count > UInt64(Int64.max) {
            #expect(try decoder.decode(as: Self.numbersByText) == .map([]))
        } else {
            #expect(throws: GobError.self) { try decoder.decode(as: Self.numbersByText) }
        }
    }

    @Test("bytes and strings that claim a huge length fail at once", arguments: hugeCounts)
    func byteCount(_ count: UInt64) {
        for (id, shape) in [(5, GobShape.bytes), (6, GobShape.string)] {
            var decoder = GobDecoder(message(Int64(id), [0] + unsigned(count) + [1, 2, 3]))
            #expect(throws: GobError.self) { try decoder.decode(as: shape) }
        }
    }

    @Test("a definition that claims a huge number of fields fails at once", arguments: hugeCounts)
    func fieldCount(_ count: UInt64) {
        let body: [UInt8] = [3, 2] + unsigned(count) + [1, 1, 65, 1, 4, 0, 0, 0]
        var decoder = GobDecoder(message(-65, body) + message(65, [0]))
        #expect(throws: GobError.self) { try decoder.decode(as: Self.tree) }
    }

    @Test("a thousand lies about a count take no noticeable time, so nothing is set aside for them")
    func manyLies() throws {
        let definition = try definitions(of: Self.integers, .list([]))
        let elapsed = ProcessorTime.measure {
            for count in Self.hugeCounts {
                var decoder = GobDecoder(definition, limits: .message)
                for _ in 0..<1000 {
                    decoder.append(message(65, [0] + unsigned(count) + [2, 4, 6]))
                    _ = try? decoder.decodeNext(as: Self.integers)
                }
                #expect(decoder.bufferedBytes == 0)
            }
        }
        #expect(elapsed < .seconds(5))
    }

    @Test("a message that claims a huge length is refused before it arrives", arguments: hugeCounts)
    func messageLength(_ length: UInt64) {
        var decoder = GobDecoder(limits: .handshake)
        decoder.append(unsigned(length))
        #expect(throws: GobError.self) { try decoder.decodeNext(as: .int) }
        decoder.append([3, 4, 0, 10])
        #expect(throws: GobError.self) { try decoder.decodeNext(as: .int) }
        #expect(decoder.bufferedBytes == 0)
    }

    @Test("a message of the largest length is taken, and one byte more is not")
    func messageLimit() throws {
        var limits = GobLimits.handshake
        limits.messageBytes = 100
        // Two bytes of type and singleton, one of the count.
        for (length, isTaken) in [(97, true), (98, false)] {
            var encoder = GobEncoder()
            var bytes: [UInt8] = []
            try encoder.encode([UInt8](repeating: 7, count: length), into: &bytes)
            var decoder = GobDecoder(bytes, limits: limits)
            #expect(((try? decoder.decode(as: .bytes)) != nil) == isTaken)
        }
    }

    @Test("a value of as many elements as allowed is taken, and one more is not")
    func elementLimit() throws {
        var limits = GobLimits.handshake
        limits.elements = 50
        for (count, isTaken) in [(49, true), (50, false)] {
            var encoder = GobEncoder()
            var bytes: [UInt8] = []
            try encoder.encode(.list((0..<count).map { .int(Int64($0)) }), as: Self.integers, into: &bytes)
            var decoder = GobDecoder(bytes, limits: limits)
            #expect(((try? decoder.decode(as: Self.integers)) != nil) == isTaken)
        }
    }

    @Test("a stream of as many types as allowed is taken, and one more is not")
    func typeLimit() throws {
        var limits = GobLimits.handshake
        limits.types = 3
        for (count, isTaken) in [(3, true), (4, false)] {
            var bytes: [UInt8] = []
            for id in 0..<count { bytes += message(-(65 + Int64(id)), [2, 2, 4, 0, 0]) }
            bytes += message(65, [0, 2, 2, 4])
            var decoder = GobDecoder(bytes, limits: limits)
            #expect(((try? decoder.decode(as: Self.integers)) != nil) == isTaken)
        }
    }

    @Test("a structure of as many fields as allowed is taken, and one more is not")
    func fieldLimit() throws {
        let shape = GobShape(.structure("S", [GobFieldType("A", .int(bits: 64))]))
        for (count, isTaken) in [
            (GobDefinitionReader.maximumFields, true), (GobDefinitionReader.maximumFields + 1, false),
        ] {
            var body: [UInt8] = [3, 2] + unsigned(UInt64(count)) + [1, 1, 65, 1, 4, 0]
            for _ in 1..<count { body += [1, 1, 66, 1, 4, 0] }
            var decoder = GobDecoder(message(-65, body + [0, 0]) + message(65, [1, 10, 0]))
            #expect((try? decoder.decode(as: shape))?["A"] == (isTaken ? .int(5) : nil))
        }
    }

    /// A tree of one branch, `depth` structures and the lists between them.
    private func branch(_ nodes: Int) throws -> [UInt8] {
        var value: [UInt8] = []
        for _ in 1..<nodes { value += [2, 1] }
        value += [UInt8](repeating: 0, count: nodes)
        return try definitions(of: Self.tree, .structure([])) + message(65, value)
    }

    @Test("values nest as deep as allowed, and no deeper")
    func depthLimit() throws {
        var limits = GobLimits.default
        limits.depth = 101
        // A node is a structure in a list: 51 nodes are 101 values inside one another.
        for (nodes, isTaken) in [(51, true), (52, false)] {
            var decoder = GobDecoder(try branch(nodes), limits: limits)
            #expect(((try? decoder.decode(as: Self.tree)) != nil) == isTaken)
            var skipping = GobDecoder(try branch(nodes), limits: limits)
            let skipped: Void? = try? skipping.decode(as: Self.tree) { (reader) throws(GobError) in
                try reader.skip()
            }
            #expect((skipped != nil) == isTaken)
            var direct = GobDecoder(try branch(nodes), limits: limits)
            let read = try? direct.decode(as: Self.tree) { (reader) throws(GobError) in try Self.count(&reader) }
            #expect(read == (isTaken ? nodes : nil))
        }
    }

    /// The nodes of a tree.
    private static func count(_ reader: inout GobReader) throws(GobError) -> Int {
        var nodes = 1
        try reader.structure { (reader, field) throws(GobError) in
            guard field == 1 else { return }
            try reader.list { (reader) throws(GobError) in nodes += try count(&reader) }
        }
        return nodes
    }

    @Test("a value nested a million deep is refused without harm")
    func abyss() throws {
        let bytes = try branch(1_000_000)
        for limits in [GobLimits.default, .message, .handshake] {
            var decoder = GobDecoder(bytes, limits: limits)
            #expect(throws: GobError.self) { try decoder.decode(as: Self.tree) }
        }
    }

    @Test("the deepest value that is taken can be compared, copied and freed")
    func deepest() throws {
        let nodes = GobLimits.default.depth / 2
        var decoder = GobDecoder(try branch(nodes))
        var again = GobDecoder(try branch(nodes))
        let value = try #require(try decoder.decode(as: Self.tree))
        let copy = try #require(try again.decode(as: Self.tree))
        #expect((value == copy) == true)
        #expect(value.hashValue == copy.hashValue)
    }

    @Test("types nest as deep as allowed, and no deeper")
    func typeDepth() throws {
        let shape = GobShape(.structure("S", [GobFieldType("A", .int(bits: 64))]))
        for (levels, isTaken) in [(GobPlan.maximumTypeDepth - 2, true), (GobPlan.maximumTypeDepth + 1, false)] {
            // S { Z (slices of slices of ...), A int }, with only A in the value.
            var body: [UInt8] = [3, 2, 2, 1, 1, 90]
            body += [1] + signed(66) + [0, 1, 1, 65, 1, 4, 0, 0, 0]
            var bytes = message(-65, body)
            for level in 0..<levels {
                bytes += message(-(66 + Int64(level)), [2, 2] + signed(level == levels - 1 ? 2 : 67 + level) + [0, 0])
            }
            bytes += message(65, [2, 10, 0])
            var decoder = GobDecoder(bytes)
            let value = try? decoder.decode(as: shape)
            #expect(value?["A"] == (isTaken ? .int(5) : nil))
        }
    }

    private func signed(_ value: Int) -> [UInt8] {
        var out: [UInt8] = []
        out.appendGobSigned(Int64(value))
        return out
    }

    @Test("a type that contains only itself is refused or read, without end in neither")
    func selfContaining() {
        // type 65 is a slice of 65, type 66 a map of 66 to 66, type 67 a structure with a field of type 67.
        let loops = [
            message(-65, [2, 2] + signed(65) + [0, 0]) + message(65, [0, 3, 0, 1, 0, 0]),
            message(-65, [4, 2] + signed(65) + [1] + signed(65) + [0, 0]) + message(65, [0, 1, 0, 0]),
        ]
        for bytes in loops {
            var decoder = GobDecoder(bytes)
            #expect(throws: GobError.self) { try decoder.decode(as: Self.integers) }
        }
        let body: [UInt8] = [3, 2, 1, 1, 1, 90, 1] + signed(65) + [0, 0, 0]
        let shape = GobShape(.structure("S", [GobFieldType("Z", .reference("S"))]))
        var decoder = GobDecoder(message(-65, body) + message(65, [1, 1, 0, 0, 0]))
        #expect(throws: Never.self) { try decoder.decode(as: shape) }
    }

    @Test("ids at the ends of what is possible are looked up and not found")
    func extremeIDs() {
        for id in [Int64.min, .min + 1, -1, -64, 0, 64, .max] {
            var decoder = GobDecoder(message(id, [0, 2, 2, 4]))
            #expect(throws: GobError.self) { try decoder.decode(as: Self.integers) }
        }
    }

    @Test("an array of a wrong or impossible length is refused")
    func arrays() {
        for length in [Int64.min, -1, 0, 2, 4, .max] {
            var definition: [UInt8] = [1, 2, 4, 1]
            definition.appendGobSigned(length)
            var decoder = GobDecoder(message(-65, definition + [0, 0]) + message(65, [0, 3, 2, 4, 6]))
            #expect(throws: GobError.self) {
                try decoder.decode(as: GobShape(.array(nil, .int(bits: 64), count: 3)))
            }
        }
    }
}
