import Foundation

/// The descriptors of this process, which tests make scarce.
public enum Descriptors {
    /// How many there may be.
    public static func limit() throws -> Int {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { throw Failure() }
        return Int(limit.rlim_cur)
    }

    /// Allows so many from now on.
    public static func setLimit(_ count: Int) throws {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { throw Failure() }
        limit.rlim_cur = rlim_t(count)
        guard unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { throw Failure() }
    }

    /// The highest number in use.
    public static func highest() throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").compactMap { Int($0) }.max() ?? 0
    }

    struct Failure: Error {}
}
