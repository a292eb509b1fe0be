import Foundation

/// A daemon that runs on this host, seen from outside.
struct DaemonProcess: Sendable, Equatable {
    let id: Int32

    /// The daemon whose process id is in the state directory; nil when it has gone, also when its id is another
    /// program's now.
    init?(_ state: StateDirectory) {
        guard let id = state.processID, id > 1 else { return nil }
        self.id = id
        guard isRunning, Self.name(id) == "weaver" else { return nil }
    }

    init(id: Int32) { self.id = id }

    /// Whether the process is there and has not ended: one that waits for its parent to notice does not count.
    var isRunning: Bool {
        guard let stat = try? String(contentsOfFile: "/proc/\(id)/stat", encoding: .utf8),
            let state = stat.split(separator: ")").last?.split(separator: " ").first
        else { return false }
        return state != "Z" && state != "X"
    }

    /// How long a daemon may take to end.
    static let patience: Duration = .seconds(15)

    /// Asks the process to end, and makes it when it does not.
    ///
    /// - Throws: `CommandError` when the system does not allow it.
    func stop(_ terminal: Terminal) async throws(CommandError) {
        try send(SIGTERM)
        if await hasEnded(within: Self.patience) { return }
        terminal.complain("weaver (process \(id)) does not end by itself; it is killed")
        try send(SIGKILL)
        guard await hasEnded(within: .seconds(5)) else { throw CommandError("weaver (process \(id)) cannot be killed") }
    }

    private func send(_ signal: Int32) throws(CommandError) {
        guard kill(id, signal) != 0 else { return }
        let code = errno
        if code == ESRCH { return }
        let reason = NSError(domain: NSPOSIXErrorDomain, code: Int(code)).localizedDescription
        throw CommandError("cannot stop weaver (process \(id)): \(reason)")
    }

    private func hasEnded(within patience: Duration) async -> Bool {
        let clock = ContinuousClock()
        let deadline = clock.now + patience
        while isRunning {
            guard clock.now < deadline else { return false }
            try? await Task.sleep(for: .milliseconds(50))
        }
        return true
    }

    private static func name(_ id: Int32) -> String? {
        (try? String(contentsOfFile: "/proc/\(id)/comm", encoding: .utf8))?
            .trimmingCharacters(in: .whitespacesAndNewlines)
    }
}
