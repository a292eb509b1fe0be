/// Reads one value straight into a program's own types, without building a `GobValue`.
///
/// Each call takes the next value and fails when that is of another kind. What was left unread - a field the program does
/// not care for, the rest of a list's element - is skipped.
///
///     let point = try decoder.decode(as: pointShape) { reader throws(GobError) in
///         var point = Point()
///         try reader.structure { (reader, field) throws(GobError) in
///             switch field {
///             case 0: point.x = try reader.int()
///             default: point.y = try reader.int()
///             }
///         }
///         return point
///     }
public struct GobReader {
    private let plan: GobPlan
    private let limits: GobLimits
    private var cursor: GobCursor
    /// The value to be read next, and the one after it when that is known (the value after a key); -1 for none.
    private var pending: Int
    private var following = -1
    private var depth = 0
    private var elements = 0

    init(plan: GobPlan, limits: GobLimits, cursor: GobCursor) {
        self.plan = plan
        self.limits = limits
        self.cursor = cursor
        pending = GobPlan.root
    }

    /// Reads a bool.
    public mutating func bool() throws(GobError) -> Bool {
        _ = try take(.bool)
        return try cursor.readUnsigned() != 0
    }

    /// Reads a signed integer; it fits the width that the shape gives.
    public mutating func int() throws(GobError) -> Int64 {
        let node = try take(.int)
        let value = try cursor.readSigned()
        guard value.fits(plan.nodes[node].bits) else { throw outOfRange(node) }
        return value
    }

    /// Reads an unsigned integer; it fits the width that the shape gives.
    public mutating func uint() throws(GobError) -> UInt64 {
        let node = try take(.uint)
        let value = try cursor.readUnsigned()
        guard value.fits(plan.nodes[node].bits) else { throw outOfRange(node) }
        return value
    }

    /// Reads a floating-point number; it fits the width that the shape gives.
    public mutating func float() throws(GobError) -> Double { try part(of: try take(.float)) }

    /// Reads a byte string.
    public mutating func bytes() throws(GobError) -> [UInt8] {
        _ = try take(.bytes)
        return Array(try cursor.readSlice("[]uint8"))
    }

    /// Reads a string as its bytes, which need not be UTF-8.
    public mutating func stringBytes() throws(GobError) -> [UInt8] {
        _ = try take(.string)
        return Array(try cursor.readSlice("string"))
    }

    /// Reads a string. Bytes that are not UTF-8 are replaced.
    public mutating func string() throws(GobError) -> String {
        _ = try take(.string)
        return String(decoding: try cursor.readSlice("string"), as: UTF8.self)
    }

    /// Reads a byte string of at most eight bytes as a number, first byte most significant; nil when it is longer.
    public mutating func shortBytes() throws(GobError) -> (value: UInt64, count: Int)? {
        _ = try take(.bytes)
        let slice = try cursor.readSlice("[]uint8")
        guard slice.count <= 8 else { return nil }
        var value: UInt64 = 0
        for byte in slice { value = value << 8 | UInt64(byte) }
        return (value, slice.count)
    }

    /// Reads a slice or an array: `body` is called before each element.
    ///
    /// There may be as many elements as the message has bytes; the count is not to be trusted for more.
    public mutating func list(_ body: (inout GobReader) throws(GobError) -> Void) throws(GobError) {
        let node = try take(.list)
        let count = try cursor.readCount("int array or slice")
        let required = plan.nodes[node].second
        guard required < 0 || count == required else { throw GobCursor.wrongArrayLength }
        let element = plan.nodes[node].first
        let outer = try enter()
        for _ in 0..<count {
            try countElement()
            pending = element
            try body(&self)
            if pending >= 0 { try skip() }
        }
        leave(outer)
    }

    /// Reads a map: `body` is called before each pair, and reads the key and then the value. A key may come twice; then
    /// the last value counts.
    public mutating func map(_ body: (inout GobReader) throws(GobError) -> Void) throws(GobError) {
        let node = try take(.map)
        let count = try cursor.readMapCount()
        let outer = try enter()
        for _ in 0..<count {
            try countElement()
            pending = plan.nodes[node].first
            following = plan.nodes[node].second
            try body(&self)
            while pending >= 0 { try skip() }
        }
        leave(outer)
    }

    /// Reads a structure: `body` is called before each field that is there, with its number in the shape.
    public mutating func structure(
        _ body: (inout GobReader, Int) throws(GobError) -> Void
    ) throws(GobError) {
        let node = plan.nodes[try take(.structure)]
        let outer = try enter()
        var field = -1
        while let next = try cursor.readField(after: field, of: node.second) {
            field = next
            try countElement()
            let local = plan.fields[node.first + field].local
            pending = plan.fields[node.first + field].node
            if local >= 0 { try body(&self, local) }
            if pending >= 0 { try skip() }
        }
        leave(outer)
    }

    /// Reads any value.
    public mutating func value() throws(GobError) -> GobValue {
        var builder = GobValueBuilder(plan: plan, limits: limits, elements: elements, depth: depth)
        let value = try builder.build(try takeAny(), &cursor)
        elements = builder.elements
        return value
    }

    /// Passes over a value.
    public mutating func skip() throws(GobError) {
        var skipper = GobSkipper(plan: plan, limits: limits, elements: elements, depth: depth)
        try skipper.skip(try takeAny(), &cursor)
        elements = skipper.elements
    }

    // MARK: Inside

    private mutating func takeAny() throws(GobError) -> Int {
        guard pending >= 0 else { throw GobError(.typeMismatch, "gob: nothing to read here") }
        defer {
            pending = following
            following = -1
        }
        return pending
    }

    private mutating func take(_ kind: GobKind) throws(GobError) -> Int {
        guard pending >= 0, plan.nodes[pending].kind == kind else {
            throw GobError(.typeMismatch, "gob: the next value is no \(kind)")
        }
        return try takeAny()
    }

    /// What follows the value that is being gone into.
    private mutating func enter() throws(GobError) -> Int {
        guard depth < limits.depth else { throw limits.tooDeep }
        depth += 1
        defer {
            pending = -1
            following = -1
        }
        return pending
    }

    private mutating func leave(_ outer: Int) {
        depth -= 1
        pending = outer
        following = -1
    }

    private mutating func countElement() throws(GobError) {
        elements += 1
        guard elements <= limits.elements else { throw limits.tooMany }
    }

    private mutating func part(of node: Int) throws(GobError) -> Double {
        guard let value = try cursor.readFloat().narrowed(to: plan.nodes[node].bits) else { throw outOfRange(node) }
        return value
    }

    private func outOfRange(_ node: Int) -> GobError { plan.outOfRange(node) }
}

extension GobPlan {
    func outOfRange(_ node: Int) -> GobError { GobError(.outOfRange, "value for \"\(places[node])\" out of range") }
}

extension GobLimits {
    var tooDeep: GobError { GobError(.limit, "gob: value nested deeper than \(depth)") }
    var tooMany: GobError { GobError(.limit, "gob: more than \(elements) elements in one value") }
}

extension Double {
    /// The number as one of `bits` bits holds it; nil when it is too large for that.
    func narrowed(to bits: Int) -> Double? {
        guard bits == 32 else { return self }
        guard !isFinite || magnitude <= Double(Float.greatestFiniteMagnitude) else { return nil }
        return Double(Float(self))
    }
}
