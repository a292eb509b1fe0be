import Foundation
import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveGob

/// Every recording of what Go's encoder writes and what its decoder makes of good, damaged and hostile bytes.
@Suite("Gob recordings") struct GobVectorTests {
    private static func cases(_ kind: String) -> [Vectors.Case] { (try? Vectors.load("gob", kind: kind)) ?? [] }

    /// Go nests values 10,000 deep. The default here stops sooner, so that any thread can free what it decoded; the
    /// recordings go 3,000 deep.
    private static var limits: GobLimits {
        var limits = GobLimits.default
        limits.depth = 4096
        return limits
    }

    @Test("every kind of case has a test")
    func allKinds() throws {
        let counts = Dictionary(grouping: try Vectors.load("gob"), by: \.kind).mapValues(\.count)
        #expect(
            counts == [
                "encode": 152, "encode-ids": 10, "stream": 9, "decode": 5, "convert": 34, "malformed": 46,
                "malformed-stream": 6, "truncation": 4, "mutated": 146, "encode-error": 4,
            ])
    }

    @Test(
        "values are encoded to the recorded bytes, and these decode to the values",
        arguments: cases("encode") + cases("encode-ids") + cases("stream"))
    func encode(_ recorded: Vectors.Case) throws {
        var reader = GobVectorJSON()
        let values = try #require(recorded["values"] as? [[String: Any]])
        let first = try #require(recorded["first_type_id"] as? Int)
        var encoder = GobEncoder(firstTypeID: first)
        var decoder = GobDecoder(try reader.hex(recorded["bytes"]))
        for step in values {
            let type = try reader.type(step["type"])
            let value = try reader.value(step["value"], as: type)
            #expect(try encoder.encode(value, as: type).hex == step["bytes"] as? String)
            let decoded = try #require(try decoder.decode(as: type))
            #expect(same(reader.canonical(decoded, as: type), reader.canonical(value, as: type)))
        }
        #expect(decoder.bufferedBytes == 0)
        #expect(try decoder.decode(as: .int) == nil)
    }

    @Test("a stream that arrives byte by byte gives the same values", arguments: cases("stream"))
    func arriving(_ recorded: Vectors.Case) throws {
        var reader = GobVectorJSON()
        let steps = try #require(recorded["values"] as? [[String: Any]])
        var decoder = GobDecoder(limits: .message)
        var decoded = 0
        for byte in try reader.hex(recorded["bytes"]) {
            decoder.append([byte])
            guard decoded < steps.count else { break }
            let type = try reader.type(steps[decoded]["type"])
            guard case .value(let value) = try decoder.decodeNext(as: type) else { continue }
            let expected = try reader.value(steps[decoded]["value"], as: type)
            #expect(same(reader.canonical(value, as: type), reader.canonical(expected, as: type)))
            decoded += 1
        }
        #expect(decoded == steps.count)
        #expect(decoder.bufferedBytes == 0)
    }

    @Test(
        "bytes decode to the recorded value, or fail where Go fails",
        arguments: cases("decode") + cases("convert") + cases("malformed") + cases("mutated"))
    func decode(_ recorded: Vectors.Case) throws {
        var reader = GobVectorJSON()
        let type = try reader.type(recorded["type"])
        let bytes = try reader.hex(recorded["bytes"])
        var decoder = GobDecoder(bytes, limits: Self.limits)
        if recorded["error"] != nil || recorded["crash"] != nil || recorded["panic"] != nil {
            // Go says EOF where there is no value.
            let value = try? decoder.decode(as: type)
            #expect(value == nil)
            return
        }
        let value = try #require(try decoder.decode(as: type))
        if let list = recorded["list_values"] as? [String] {
            #expect(Self.listValues(value) == list.compactMap { Int64($0) })
        } else {
            let expected = reader.canonical(try reader.value(recorded["value"], as: type), as: type)
            #expect(same(reader.canonical(value, as: type), expected))
        }
    }

    /// The `Value` fields of a linked list, without recursion.
    private static func listValues(_ head: GobValue) -> [Int64] {
        var values: [Int64] = []
        var node: GobValue? = head
        while let current = node {
            if case .int(let value)? = current["Value"] { values.append(value) } else { values.append(0) }
            node = current["Next"]
        }
        return values
    }

    @Test("after a bad message the stream goes on as in Go", arguments: cases("malformed-stream"))
    func stream(_ recorded: Vectors.Case) throws {
        var reader = GobVectorJSON()
        let targets = try #require(recorded["targets"] as? [[String: Any]])
        let results = try #require(recorded["results"] as? [[String: Any]])
        var decoder = GobDecoder(try reader.hex(recorded["bytes"]))
        for (target, result) in zip(targets, results) {
            let type = try reader.type(target["type"])
            let value = try? decoder.decode(as: type)
            if result["error"] is String {
                #expect(value == nil)
            } else {
                let expected = try reader.value(result["value"], as: type)
                #expect(reader.canonical(value, as: type) == reader.canonical(expected, as: type))
            }
        }
    }

    @Test("every beginning of a stream is an end, an error or the value, as in Go", arguments: cases("truncation"))
    func truncation(_ recorded: Vectors.Case) throws {
        var reader = GobVectorJSON()
        let type = try reader.type(recorded["type"])
        let bytes = try reader.hex(recorded["bytes"])
        let errors = try #require(recorded["errors"] as? [Any])
        #expect(errors.count == bytes.count + 1)
        for (length, expected) in errors.enumerated() {
            var decoder = GobDecoder(Array(bytes.prefix(length)))
            switch expected as? String {
            case "EOF": #expect(try decoder.decode(as: type) == nil)
            case .some: #expect(throws: GobError.self) { try decoder.decode(as: type) }
            case nil: #expect(try decoder.decode(as: type) != nil)
            }
            var arriving = GobDecoder(Array(bytes.prefix(length)))
            if case .value = try arriving.decodeNext(as: type) {
                #expect(length == bytes.count)
            } else {
                #expect(length < bytes.count)
            }
        }
    }

    @Test("what Go does not encode is not encoded", arguments: cases("encode-error"))
    func encodeError(_ recorded: Vectors.Case) throws {
        let point = GobType.structure(
            "Point", [GobFieldType("X", .int(bits: 64)), GobFieldType("Y", .int(bits: 64))])
        var encoder = GobEncoder()
        var out: [UInt8] = []
        switch recorded["go_type"] as? String {
        case "*Point":
            #expect(throws: GobError.self) { try encoder.encode(.null, as: GobShape(.pointer(point)), into: &out) }
        case "[]*Point":
            let shape = GobShape(.slice(nil, .pointer(point)))
            #expect(throws: GobError.self) { try encoder.encode(.list([.null]), as: shape, into: &out) }
        case "chan int":
            // There is no way to describe such a type; the nearest is a reference to nothing.
            #expect(throws: GobError.self) {
                try encoder.encode(.structure([]), as: GobShape(.reference("chan int")), into: &out)
            }
        case "struct{}":
            try encoder.encode(.structure([]), as: GobShape(.structure("", [])), into: &out)
        default: Issue.record("no test for \(recorded)")
        }
        #expect(out.hex == recorded["bytes"] as? String)
    }
}
