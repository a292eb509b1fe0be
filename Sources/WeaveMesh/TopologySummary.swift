import WeaveCore

/// All records of a peer table in 20 bytes: equal for equal sets of names, incarnations and versions, whatever the order
/// in which they came. Changing it with a record costs the same however many records there are.
///
/// It finds gaps, not forgeries: whoever is in the mesh can forge whole records.
struct TopologySummary: Sendable, Equatable {
    private(set) var count: UInt32 = 0
    private(set) var first: UInt64 = 0
    private(set) var second: UInt64 = 0

    init() {}

    init(count: UInt32, first: UInt64, second: UInt64) {
        self.count = count
        self.first = first
        self.second = second
    }

    mutating func add(_ entry: TopologyDigest.Entry) {
        let (first, second) = Self.hashes(entry)
        count &+= 1
        self.first &+= first
        self.second &+= second
    }

    mutating func remove(_ entry: TopologyDigest.Entry) {
        let (first, second) = Self.hashes(entry)
        count &-= 1
        self.first &-= first
        self.second &-= second
    }

    /// Two hashes of everything by which records are told apart. Every peer must come to the same.
    private static func hashes(_ entry: TopologyDigest.Entry) -> (UInt64, UInt64) {
        let name = entry.name.rawValue << 1 | (entry.hasShortID ? 1 : 0)
        let first = mixed(mixed(mixed(name &+ 0x9e37_79b9_7f4a_7c15) ^ entry.uid) ^ entry.version)
        return (first, mixed(first &+ mixed(name ^ 0xd1b5_4a32_d192_ed03)))
    }

    /// A permutation in which each bit of the input changes half of those of the output.
    private static func mixed(_ value: UInt64) -> UInt64 {
        var value = value
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }
}
