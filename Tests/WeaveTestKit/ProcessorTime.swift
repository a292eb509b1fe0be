import Glibc

/// How long code keeps a processor. Unlike a clock it does not count the time in which others had it, so bounds hold
/// on a busy machine too.
public enum ProcessorTime {
    /// The processor time that the calling thread spends in `body`.
    public static func measure(_ body: () throws -> Void) rethrows -> Duration {
        let start = now()
        try body()
        return now() - start
    }

    private static func now() -> Duration {
        var time = timespec()
        _ = unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }
}
