import Foundation
import Glibc
import Logging
import ServiceLifecycle

/// The pages of machine code that this process holds in memory.
///
/// Nine tenths of what a freshly started daemon has resident is code: of itself, Foundation, the HTTP server, the
/// database. Most of it ran once. Code is a copy of what the file has, so the process can let all of it go and have back,
/// at a fault of a microsecond, what it runs into again.
struct ProgramPages: Sendable {
    /// Where code lies in the address space, in bytes.
    let ranges: [Range<UInt>]

    /// Finds the code in the text of a `/proc/PID/smaps`: pages of files that can be run and not written, and of which
    /// nothing was changed in memory (a debugger's breakpoints, say, would be lost).
    init(smaps: String) {
        var ranges: [Range<UInt>] = []
        var code: Range<UInt>?
        for line in smaps.split(separator: "\n") {
            let words = line.split(separator: " ", omittingEmptySubsequences: true)
            guard let first = words.first else { continue }
            if first.hasSuffix(":") {
                guard first == "Anonymous:", let found = code else { continue }
                if words.count > 1, words[1] == "0" { ranges.append(found) }
                code = nil
            } else {
                code = Self.code(words)
            }
        }
        self.ranges = ranges
    }

    /// The range of a line `start-end permissions offset device inode path` if it is code of a file.
    private static func code(_ words: [Substring]) -> Range<UInt>? {
        guard words.count >= 6, words[1] == "r-xp", words[5].hasPrefix("/") else { return nil }
        let ends = words[0].split(separator: "-").map { UInt($0, radix: 16) }
        guard ends.count == 2, let start = ends[0], let end = ends[1], start < end else { return nil }
        return start..<end
    }

    /// The code of this process; none where `/proc` does not tell.
    static func ofThisProcess() -> ProgramPages {
        // To its end: the kernel gives such a file a page at a time, which reading it as a whole takes for all.
        let file = FileHandle(forReadingAtPath: "/proc/self/smaps")
        let bytes = (try? file?.readToEnd()) ?? Data()
        try? file?.close()
        return ProgramPages(smaps: String(decoding: bytes, as: UTF8.self))
    }

    /// Lets the pages go. Those that run come back by themselves.
    func release() {
        for range in ranges {
            guard let start = unsafe UnsafeMutableRawPointer(bitPattern: range.lowerBound) else { continue }
            // It can only fail for a range that is gone by now, of which nothing is resident either.
            _ = unsafe madvise(start, range.count, MADV_DONTNEED)
        }
    }
}

/// Lets code go that only the start needed, and now and then what requests brought in since.
struct ProgramPagesService: Service {
    let logger: Logger

    private static let settling: Duration = .seconds(5)
    private static let interval: Duration = .seconds(600)

    func run() async throws {
        try? await cancelWhenGracefulShutdown {
            try await Task.sleep(for: Self.settling)
            while true {
                let before = ProcessUsage.current().residentBytes
                ProgramPages.ofThisProcess().release()
                let after = ProcessUsage.current().residentBytes
                logger.debug("Code that is not in use left memory: \(before >> 20) MiB resident, now \(after >> 20)")
                try await Task.sleep(for: Self.interval)
            }
        }
    }
}
