import CLinux
import Glibc

/// Runs a small system tool and waits for it, in the calling thread's network namespace.
enum Tool {
    /// The kernel answers within milliseconds; a tool that takes this long is stuck on a lock.
    static let timeoutMilliseconds = 5000
    /// What of a tool's words goes into a message.
    static let outputLimit = 300

    /// How a tool ended that was started and did not hang.
    struct Outcome: Sendable {
        let name: String
        /// As the tool gave it, or 128 and the number of the signal that ended it.
        let status: Int32
        let output: String
        let complaints: String

        /// What happened: the status with the tool's first words, remarks (`# ...`) passed over.
        var description: String {
            let lines = (complaints.split(separator: "\n") + output.split(separator: "\n"))
            let words = lines.first { !$0.hasPrefix("#") } ?? ""
            return "\(name) ended with status \(status): \(words.prefix(Tool.outputLimit))"
        }
    }

    /// Why there is no outcome.
    struct Failure: Error {
        let isMissing: Bool
        let description: String
    }

    /// Runs `name` from the search path.
    ///
    /// - Returns: nil when it ended with status 0, otherwise what happened.
    static func run(_ name: String, _ arguments: [String], timeoutMilliseconds: Int = timeoutMilliseconds) -> String? {
        switch execute(name, arguments, timeoutMilliseconds: timeoutMilliseconds) {
        case .failure(let failure): failure.description
        case .success(let outcome): outcome.status == 0 ? nil : outcome.description
        }
    }

    /// Runs `name` from the search path.
    ///
    /// - Parameters:
    ///   - input: what it reads from its standard input.
    ///   - outputLimit: how many bytes of its output, and of its complaints, are kept; the rest is dropped.
    static func execute(
        _ name: String, _ arguments: [String], input: String? = nil, outputLimit: Int = outputLimit,
        timeoutMilliseconds: Int = timeoutMilliseconds
    ) -> Result<Outcome, Failure> {
        // Files in memory rather than pipes: neither side ever waits for the other.
        let files = (0..<3).map { _ in weave_memory_file() }
        defer { for file in files where file >= 0 { close(file) } }
        if let failed = files.first(where: { $0 < 0 }) {
            return .failure(Failure(isMissing: false, description: "cannot start \(name): \(errorText(-failed))"))
        }
        let bytes = Array((input ?? "").utf8)
        let written = unsafe bytes.isEmpty ? 0 : pwrite(files[0], bytes, bytes.count, 0)
        guard written == bytes.count else {
            return .failure(Failure(isMissing: false, description: "cannot start \(name): no memory for its input"))
        }
        var child: pid_t = 0
        let started = spawn(name, arguments, files, &child)
        guard started == 0 else {
            let isMissing = started == ENOENT
            let text = isMissing ? "\(name) is not installed" : "cannot start \(name): \(errorText(started))"
            return .failure(Failure(isMissing: isMissing, description: text))
        }
        guard let status = wait(child, timeoutMilliseconds) else {
            return .failure(
                Failure(isMissing: false, description: "\(name) did not end within \(timeoutMilliseconds) ms"))
        }
        return .success(
            Outcome(
                name: name, status: status & 0x7f == 0 ? status >> 8 & 0xff : 128 + status & 0x7f,
                output: contents(files[1], outputLimit), complaints: contents(files[2], outputLimit)))
    }

    private static func contents(_ file: Int32, _ limit: Int) -> String {
        let size = min(Int(lseek(file, 0, SEEK_END)), limit)
        guard size > 0 else { return "" }
        var buffer = [UInt8](repeating: 0, count: size)
        let count = max(0, unsafe pread(file, &buffer, size, 0))
        return String(decoding: buffer.prefix(count), as: UTF8.self)
    }

    /// - Parameter files: what the child gets as standard input, output and error.
    private static func spawn(_ name: String, _ arguments: [String], _ files: [Int32], _ child: inout pid_t) -> Int32 {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        for (place, file) in files.enumerated() {
            unsafe posix_spawn_file_actions_adddup2(&actions, file, Int32(place))
        }
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
