/// What did not come to hold in time.
public struct TimedOut: Error, CustomStringConvertible {
    public let description: String
}

/// Waits until something holds.
public func eventually(
    _ what: String, within limit: Duration = .seconds(60), _ condition: () async throws -> Bool
) async throws {
    let end = ContinuousClock.now + limit
    while try await !condition() {
        guard ContinuousClock.now < end else { throw TimedOut(description: "not within \(limit): \(what)") }
        try await Task.sleep(for: .milliseconds(10))
    }
}
