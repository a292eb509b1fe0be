import Glibc

/// Runs blocking work on a thread of its own, for callers whose threads are shared: netlink and the tools around it take
/// milliseconds, and a few wait for the kernel.
public enum OwnThread {
    /// Runs `body` on a new thread and suspends the caller until it is done.
    public static func run<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
        try await withCheckedThrowingContinuation { continuation in
            do {
                pthread_detach(try start { continuation.resume(with: Swift.Result { try body() }) })
            } catch {
                continuation.resume(throwing: error)
            }
        }
    }

    /// What the thread is to do. The starting thread makes it and hands it over; from then on only the new thread has it.
    private final class Work: @unchecked Sendable {
        let body: () -> Void
        init(_ body: @escaping () -> Void) { self.body = body }
    }

    /// Starts a thread, to be joined or detached by the caller.
    static func start(_ body: @escaping () -> Void) throws(NetlinkError) -> pthread_t {
        var thread = pthread_t()
        let argument = unsafe Unmanaged.passRetained(Work(body)).toOpaque()
        let started = unsafe pthread_create(
            &thread, nil,
            { raw in
                guard let raw = unsafe raw else { return nil }
                unsafe Unmanaged<Work>.fromOpaque(raw).takeRetainedValue().body()
                return nil
            }, argument)
        guard started == 0 else {
            unsafe Unmanaged<Work>.fromOpaque(argument).release()
            throw NetlinkError(system: started, "start a thread")
        }
        return thread
    }
}
