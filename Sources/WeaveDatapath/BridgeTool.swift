import CLinux
import Glibc

/// Runs a small system tool and waits for it, in the calling thread's network namespace.
enum Tool {
    /// The kernel answers within milliseconds; a tool that takes this long is stuck on a lock.
    static let timeoutMilliseconds = 5000
    /// What of a tool's words goes into a message.
    static let outputLimit = 300

    /// Runs `name` from the search path.
    ///
    /// - Returns: nil when it ended with status 0, otherwise what happened.
    static func run(_ name: String, _ arguments: [String], timeoutMilliseconds: Int = timeoutMilliseconds) -> String? {
        var pipeEnds: [Int32] = [-1, -1]
        let made = unsafe weave_pipe(&pipeEnds)
        guard made == 0 else { return "cannot make a pipe: \(errorText(-made))" }
        defer { close(pipeEnds[0]) }
        var child: pid_t = 0
        let started = spawn(name, arguments, output: pipeEnds[1], &child)
        close(pipeEnds[1])
        guard started == 0 else {
            return started == ENOENT ? "\(name) is not installed" : "cannot start \(name): \(errorText(started))"
        }
        guard let status = wait(child, timeoutMilliseconds) else {
            return "\(name) did not end within \(timeoutMilliseconds) ms"
        }
        guard status != 0 else { return nil }
        var buffer = [UInt8](repeating: 0, count: outputLimit)
        let count = max(0, unsafe read(pipeEnds[0], &buffer, outputLimit))
        let words = String(decoding: buffer.prefix(count), as: UTF8.self).split(separator: "\n").first ?? ""
        return "\(name) ended with status \(status >> 8 & 0xff): \(words)"
    }

    private static func spawn(_ name: String, _ arguments: [String], output: Int32, _ child: inout pid_t) -> Int32 {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_adddup2(&actions, output, 1)
        unsafe posix_spawn_file_actions_adddup2(&actions, output, 2)
        var words: [UnsafeMutablePointer<CChar>?] = unsafe ([name] + arguments).map { unsafe strdup($0) }
        unsafe words.append(nil)
        defer { unsafe words.forEach { unsafe free($0) } }
        return unsafe posix_spawnp(&child, name, &actions, nil, words, environ)
    }

    private static func wait(_ child: pid_t, _ timeoutMilliseconds: Int) -> Int32? {
        var status: Int32 = 0
        for _ in 0..<timeoutMilliseconds {
            let ended = unsafe waitpid(child, &status, WNOHANG)
            if ended == child { return status }
            // Somebody else collected it; then its status is not to be had.
            if ended < 0, errno != EINTR { return 0 }
            usleep(1000)
        }
        kill(child, SIGKILL)
        _ = unsafe waitpid(child, &status, 0)
        return nil
    }
}
