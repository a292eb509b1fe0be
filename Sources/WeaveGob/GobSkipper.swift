/// Passes over one value. Keeps its own stack, so that a value nested thousands deep does not need the thread's.
struct GobSkipper {
    private struct Frame {
        var node: Int
        /// Elements, or keys and values, that are still to come.
        var left = 0
        /// The number of the field being read.
        var field = -1
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

    mutating func skip(_ node: Int, _ cursor: inout GobCursor) throws(GobError) {
        try enter(node, &cursor)
        while !stack.isEmpty { try advance(&cursor) }
    }

    private mutating func enter(_ node: Int, _ cursor: inout GobCursor) throws(GobError) {
        elements += 1
        guard elements <= limits.elements else { throw limits.tooMany }
        var frame = Frame(node: node)
        switch plan.nodes[node].kind {
        case .bool, .int, .uint, .float, .invalid:
            _ = try cursor.readUnsigned()
            return
        case .complex:
            _ = try cursor.readUnsigned()
            _ = try cursor.readUnsigned()
            return
        case .bytes, .string:
            _ = try cursor.readSlice("ignored")
            return
        case .list:
            frame.left = try cursor.readCount("ignored array or slice")
            let required = plan.nodes[node].second
            guard required < 0 || frame.left == required else { throw GobCursor.wrongArrayLength }
        case .map: frame.left = try 2 * cursor.readMapCount()
        case .structure: break
        }
        guard outerDepth + stack.count < limits.depth else { throw limits.tooDeep }
        stack.append(frame)
    }

    private mutating func advance(_ cursor: inout GobCursor) throws(GobError) {
        let top = stack.count - 1
        let frame = stack[top]
        let node = plan.nodes[frame.node]
        if node.kind == .structure {
            guard let field = try cursor.readField(after: frame.field, of: node.second) else {
                stack.removeLast()
                return
            }
            stack[top].field = field
            try enter(plan.fields[node.first + field].node, &cursor)
        } else if frame.left == 0 {
            stack.removeLast()
        } else {
            stack[top].left -= 1
            let isKey = node.kind == .list || frame.left % 2 == 0
            try enter(isKey ? node.first : node.second, &cursor)
        }
    }
}
