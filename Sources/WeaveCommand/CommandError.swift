/// Why a command failed. What it says goes to standard error.
struct CommandError: Error, Sendable, Equatable, CustomStringConvertible {
    enum Code: Int32, Sendable {
        /// The daemon or the system refused.
        case failed = 1
        /// The words typed make no sense.
        case usage = 2
    }

    let code: Code
    let message: String

    init(_ message: String, code: Code = .failed) {
        self.code = code
        self.message = message
    }

    var description: String { message }
}
