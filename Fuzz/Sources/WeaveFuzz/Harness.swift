import Glibc

/// One input of the fuzzer, read from its front. What is missing is zero.
struct FuzzInput {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var isEmpty: Bool { position == bytes.count }
    var rest: [UInt8] { Array(bytes[position...]) }

    mutating func byte() -> UInt8 {
        guard position < bytes.count else { return 0 }
        defer { position += 1 }
        return bytes[position]
    }

    /// Two bytes of length and as many bytes, or what is left.
    mutating func piece() -> [UInt8] {
        let length = Int(byte()) << 8 | Int(byte())
        let end = min(bytes.count, position + length)
        defer { position = end }
        return Array(bytes[position..<end])
    }
}

/// Ends the process with a message when a property does not hold: that is how the fuzzer learns of it.
func require(_ holds: Bool, _ what: @autoclosure () -> String) {
    if holds { return }
    let text = "property violated: \(what())\n"
    _ = unsafe write(STDERR_FILENO, text, text.utf8.count)
    abort()
}

/// What is allocated at the moment, as AddressSanitizer counts it.
@_silgen_name("__sanitizer_get_current_allocated_bytes") private func allocatedBytes() -> Int

/// How much memory a decoded value may hold for each byte it was read from, and besides.
enum AllocationBound {
    /// A value of one byte takes an element of a list, which a growing list has room for twice.
    static let perByte = 256
    /// Plans of types, tables, and what is made once in a process.
    static let fixed = 256 << 10
}

/// Runs `body` and requires that what it returns, and what it leaves behind, is within the bound for `count` bytes.
func bounded<Result>(_ count: Int, _ what: StaticString, _ body: () -> Result) -> Result {
    let before = allocatedBytes()
    let result = body()
    let held = allocatedBytes() - before
    let bound = AllocationBound.fixed + AllocationBound.perByte * count
    require(held <= bound, "\(what): \(count) bytes of input hold \(held) bytes of memory; at most \(bound)")
    return result
}

/// Runs a target. When that leaves more memory allocated than there was, it runs again: what is made once in a process
/// is made then, and what grows each time is a leak. (LeakSanitizer does not see through the pointers of texts.)
func runWatched(_ target: FuzzTarget, _ input: FuzzInput) {
    var growth: [Int] = []
    repeat {
        let before = allocatedBytes()
        target.run(input)
        growth.append(allocatedBytes() - before)
        require(growth.count < 6, "each run leaves more allocated: \(growth) bytes")
    } while growth[growth.count - 1] > 0
}
