public import WeaveCore

/// A grow-only set of numbers: what the simulation's own channel carries.
public struct SimulatedItems: GossipData, Equatable {
    public var items: Set<UInt64>

    public init(_ items: Set<UInt64> = []) { self.items = items }

    /// Reads what `encode` wrote; nil for anything else.
    public init?(_ payload: [UInt8]) {
        guard payload.count % 8 == 0 else { return nil }
        var reader = ByteReader(payload)
        items = []
        while let item = reader.readUInt64() { items.insert(item) }
    }

    public func merged(with newer: any GossipData) -> any GossipData {
        guard let newer = newer as? SimulatedItems else { return self }
        return SimulatedItems(items.union(newer.items))
    }

    public func encode() -> [[UInt8]] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(items.count * 8)
        for item in items.sorted() { bytes.appendInteger(item, byteCount: 8) }
        return [bytes]
    }
}
