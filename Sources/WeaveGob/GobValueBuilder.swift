/// Builds one value by a plan. Keeps its own stack, so that a value nested thousands deep does not need the thread's.
struct GobValueBuilder {
    /// A list, map or structure that is not complete.
    private struct Frame {
        var node: Int
        /// Elements, or keys and values, that are still to come.
        var left = 0
        var items: [GobValue] = []
        var fields: [GobValue.Field] = []
        /// The number of the field being read.
        var field = -1
    }

    private enum Step {
        case complete(GobValue)
        case entered
    }

    private let plan: GobPlan
    private let limits: GobLimits
    private let outerDepth: Int
    private var stack: [Frame] = []
    private(set) var elements: Int

    init(plan: GobPlan, limits: GobLimits, elements: Int, depth: Int) {
        self.plan = plan
        self.limits = limits
        self.elements = elements
        outerDepth = depth
    }

    mutating func build(_ node: Int, _ cursor: inout GobCursor) throws(GobError) -> GobValue {
        var step = try enter(node, &cursor)
        while true {
            if case .complete(let value) = step {
                guard !stack.isEmpty else { return value }
                deliver(value)
            }
            step = try advance(&cursor)
        }
    }

    /// Begins the value of a node; leaves are complete at once.
    private mutating func enter(_ node: Int, _ cursor: inout GobCursor) throws(GobError) -> Step {
        elements += 1
        guard elements <= limits.elements else { throw limits.tooMany }
        var frame = Frame(node: node)
        switch plan.nodes[node].kind {
        case .list:
            frame.left = try cursor.readCount("int array or slice")
            let required = plan.nodes[node].second
            guard required < 0 || frame.left == required else { throw GobCursor.wrongArrayLength }
        case .map: frame.left = try 2 * cursor.readMapCount()
        case .structure: break
        default: return .complete(try leaf(node, &cursor))
        }
        guard outerDepth + stack.count < limits.depth else { throw limits.tooDeep }
        stack.append(frame)
        return .entered
    }

    /// Goes on with the innermost value: the next element, or its end.
    private mutating func advance(_ cursor: inout GobCursor) throws(GobError) -> Step {
        let top = stack.count - 1
        let node = plan.nodes[stack[top].node]
        if node.kind == .structure { return try advanceStructure(node, &cursor) }
        let left = stack[top].left
        guard left > 0 else {
            let items = stack.removeLast().items
            return .complete(node.kind == .list ? .list(items) : .map(Self.pairs(items)))
        }
        stack[top].left -= 1
        let isKey = node.kind == .list || left % 2 == 0
        return try enter(isKey ? node.first : node.second, &cursor)
    }

    private mutating func advanceStructure(
        _ node: GobPlan.Node, _ cursor: inout GobCursor
    ) throws(GobError) -> Step {
        let top = stack.count - 1
        guard let field = try cursor.readField(after: stack[top].field, of: node.second) else {
            return .complete(.structure(stack.removeLast().fields))
        }
        stack[top].field = field
        let member = plan.fields[node.first + field]
        guard member.local < 0 else { return try enter(member.node, &cursor) }
        var skipper = GobSkipper(
            plan: plan, limits: limits, elements: elements, depth: outerDepth + stack.count)
        try skipper.skip(member.node, &cursor)
        elements = skipper.elements
        return .entered
    }

    /// Gives a complete value to the one around it.
    private mutating func deliver(_ value: GobValue) {
        let top = stack.count - 1
        let node = plan.nodes[stack[top].node]
        guard node.kind == .structure else {
            stack[top].items.append(value)
            return
        }
        let local = plan.fields[node.first + stack[top].field].local
        let name = plan.shape.fields[plan.localFields[stack[top].node] + local].name
        // A definition may name a field twice; the last value counts.
        if let known = stack[top].fields.firstIndex(where: { $0.name == name }) {
            stack[top].fields[known].value = value
        } else {
            stack[top].fields.append(GobValue.Field(name, value))
        }
    }

    /// Keys and values in turn as pairs; of equal keys the last counts.
    private static func pairs(_ items: [GobValue]) -> [GobValue.Pair] {
        var pairs: [GobValue.Pair] = []
        var index: [GobValue: Int] = [:]
        for start in stride(from: 0, to: items.count - 1, by: 2) {
            if let known = index[items[start]] {
                pairs[known].value = items[start + 1]
            } else {
                index[items[start]] = pairs.count
                pairs.append(GobValue.Pair(key: items[start], value: items[start + 1]))
            }
        }
        return pairs
    }

    private func leaf(_ node: Int, _ cursor: inout GobCursor) throws(GobError) -> GobValue {
        let bits = plan.nodes[node].bits
        switch plan.nodes[node].kind {
        case .bool: return .bool(try cursor.readUnsigned() != 0)
        case .int:
            let value = try cursor.readSigned()
            guard value.fits(bits) else { throw plan.outOfRange(node) }
            return .int(value)
        case .uint:
            let value = try cursor.readUnsigned()
            guard value.fits(bits) else { throw plan.outOfRange(node) }
            return .uint(value)
        case .float: return .float(try float(node, &cursor))
        case .complex: return .complex(try float(node, &cursor), try float(node, &cursor))
        case .bytes: return .bytes(Array(try cursor.readSlice("[]uint8")))
        case .string: return .string(Array(try cursor.readSlice("string")))
        case .list, .map, .structure, .invalid: throw GobDecoder.unknownType
        }
    }

    private func float(_ node: Int, _ cursor: inout GobCursor) throws(GobError) -> Double {
        guard let value = try cursor.readFloat().narrowed(to: plan.nodes[node].bits) else {
            throw plan.outOfRange(node)
        }
        return value
    }
}
