import WeaveCore

/// All records of a peer table in 20 bytes: equal for equal sets of records, whatever the order in which they
/// came. Changing it with a record costs the same however many records there are.
///
/// It finds gaps, and records forged with the version of the true one by those who do not mind being found. Whoever is in
/// the mesh can forge whole records, and choose them so that their sums are equal.
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
        var first = Fingerprint.mixed(name &+ 0x9e37_79b9_7f4a_7c15)
        for part in [entry.uid, entry.version, UInt64(entry.fingerprint)] { first = Fingerprint.mixed(first ^ part) }
        return (first, Fingerprint.mixed(first &+ Fingerprint.mixed(name ^ 0xd1b5_4a32_d192_ed03)))
    }
}
