@testable import WeaveGob
@testable import WeaveIPAM

/// The shapes that the first byte of an input chooses from: those of the recordings, of every kind of value, and of
/// the messages of the mesh.
private let shapes: [GobShape] = {
    let point = GobType.structure("Point", [GobFieldType("X", .int(bits: 64)), GobFieldType("Y", .int(bits: 64))])
    let nested = GobType.structure(
        "Nested",
        [
            GobFieldType("Name", .string), GobFieldType("Inner", point),
            GobFieldType("More", .slice(.spelled("[]main.Point"), .reference("Point"))),
        ])
    let tree = GobType.structure(
        "Tree", [GobFieldType("Name", .string), GobFieldType("Kids", .slice(nil, .reference("Tree")))])
    let numbers = GobType.structure(
        "Numbers",
        [
            GobFieldType("A", .int(bits: 8)), GobFieldType("B", .uint(bits: 16)), GobFieldType("C", .float(bits: 32)),
            GobFieldType("D", .complex(bits: 64)), GobFieldType("E", .bool), GobFieldType("F", .bytes),
            GobFieldType("G", .pointer(.int(bits: 32))), GobFieldType("H", .array(nil, .uint(bits: 8), count: 3)),
            GobFieldType("I", .float(bits: 64)),
        ])
    let maps = GobType.map(nil, .uint(bits: 64), .map(nil, .string, .slice(nil, point)))
    let types: [GobType] = [
        .map(nil, .string, .string), .bytes, .string, .int(bits: 64), .uint(bits: 64), point, nested, tree, numbers,
        maps, .slice(nil, .int(bits: 64)), .slice(nil, .slice(nil, .bool)), .array(nil, .string, count: 2),
        .slice(nil, .pointer(point)),
    ]
    return types.map { GobShape($0) } + [StateMessage.shape, IPAMWire.rangeShape]
}()

/// Values of one stream at most that an input is read for.
private let rounds = 8

/// A gob stream of any shape: building, skipping and reading in parts agree, and what was read can be written and read.
func fuzzGob(_ input: FuzzInput) {
    var input = input
    let shape = shapes[Int(input.byte()) % shapes.count]
    let split = Int(input.byte())
    let bytes = input.rest
    var decoder = GobDecoder(bytes, limits: .message)
    var skipping = GobDecoder(bytes, limits: .message)
    for _ in 0..<rounds {
        let outcome = bounded(bytes.count, "gob") { Result { () throws(GobError) in try decoder.decode(as: shape) } }
        let skipped = Result { () throws(GobError) in
            try skipping.decode(as: shape) { (reader) throws(GobError) in try reader.skip() }
        }
        switch (outcome, skipped) {
        case (.success(nil), .success(nil)): break
        case (.success(let value?), .success(.some)): checkAgain(value, shape)
        // Numbers that do not fit are seen only by those who look at them.
        case (.failure(let error), .success): require(error.code == .outOfRange, "\(error) but skipped")
        case (.failure, .failure): break
        default: require(false, "decoded \(outcome), skipped \(skipped)")
        }
        require(decoder.bufferedBytes == skipping.bufferedBytes, "as many bytes used by both ways of reading")
        if case .success(nil) = outcome { break }
    }
    let whole = parts([bytes], shape)
    let inTwo = parts([Array(bytes.prefix(split)), Array(bytes.dropFirst(split))], shape)
    require(whole == inTwo, "the same values whether bytes come at once or in two parts")
}

/// What was decoded is encoded and decoded to the same.
private func checkAgain(_ value: GobValue, _ shape: GobShape) {
    guard let first = encoded(value, shape) else { return require(false, "what was decoded can be encoded") }
    var decoder = GobDecoder(first, limits: .default)
    guard let again = try? decoder.decode(as: shape) else { return require(false, "what was encoded can be decoded") }
    require(encoded(again, shape) == first, "the same bytes again")
}

private func encoded(_ value: GobValue, _ shape: GobShape) -> [UInt8]? {
    var encoder = GobEncoder()
    var bytes: [UInt8] = []
    do {
        try encoder.encode(value, as: shape, into: &bytes)
    } catch {
        return nil
    }
    return bytes
}

/// The values and errors of a stream that arrives in parts, as bytes and texts.
private func parts(_ parts: [[UInt8]], _ shape: GobShape) -> [String] {
    var decoder = GobDecoder(limits: .message)
    var seen: [String] = []
    for part in parts {
        decoder.append(part)
        while seen.count < rounds {
            let waiting = decoder.bufferedBytes
            do {
                guard case .value(let value) = try decoder.decodeNext(as: shape) else { break }
                seen.append("\(encoded(value, shape) ?? [])")
            } catch {
                // A stream that is at an end says so again and again.
                guard waiting > 0 else { return seen }
                seen.append(error.message)
            }
        }
    }
    return seen
}
