import WeaveMesh

/// What a simulated peer remembers, counted instead of measured: heaps keep what was let go of, and other tests use them
/// beside.
extension MeshSimulation {
    /// Values that a peer holds: those in its collections, in their elements' collections, and so on. A number counts
    /// one, a string its bytes, a collection of numbers so many.
    public func weight(of host: Int) -> Int {
        hosts[host].core.map { Self.weight($0) } ?? 0
    }

    /// The most that any honest host holds.
    public var largestWeight: Int {
        running.filter { !liars.contains($0) }.reduce(0) { max($0, weight(of: $1)) }
    }

    private static func weight(_ value: Any) -> Int {
        switch value {
        case let value as [UInt8]: return value.count
        case let value as [UInt32]: return value.count
        case let value as [UInt64]: return value.count
        case let value as [Int32]: return value.count
        case let value as String: return value.utf8.count
        default: break
        }
        let children = Mirror(reflecting: value).children
        return children.isEmpty ? 1 : children.reduce(0) { $0 + weight($1.value) }
    }
}
