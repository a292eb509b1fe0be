/// Why the daemon cannot start, or cannot do what a client asked for.
struct DaemonError: Error, Sendable, Equatable, CustomStringConvertible {
    enum Code: Sendable, Equatable {
        /// Flags or their values make no sense: exit status 2.
        case usage
        /// The system refuses: exit status 1.
        case system
        /// A client's request makes no sense.
        case badRequest
        /// It makes sense, and would do harm as things are.
        case conflict
        /// It ended before it was done: cancelled, or the daemon stops.
        case cancelled
    }

    let code: Code
    /// What happened, to what, and what to do.
    let message: String

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    var description: String { message }
}
