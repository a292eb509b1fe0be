/// Lets one task through at a time, in the order in which they came.
actor Turnstile {
    private var isBusy = false
    private var waiting: [CheckedContinuation<Void, Never>] = []

    /// Does `work` while nobody else does theirs.
    func alone<Value: Sendable>(_ work: @Sendable () async throws -> Value) async rethrows -> Value {
        if isBusy {
            await withCheckedContinuation { waiting.append($0) }
        }
        isBusy = true
        defer { leave() }
        return try await work()
    }

    /// Hands the place on: nobody slips in between.
    private func leave() {
        if waiting.isEmpty {
            isBusy = false
        } else {
            waiting.removeFirst().resume()
        }
    }
}
