public import WeaveCore

/// A number that many peers raise. Each peer has a share of its own that only grows; the value is the sum of all.
public struct GrowOnlyCounter: ReplicatedData, Equatable {
    /// What each peer has added.
    public private(set) var shares: [PeerName: UInt64] = [:]

    /// Shares taken from the network at most: a counter of so many peers is nobody's honest work.
    public static let maximumShares = 65536
    private static let entryBytes = PeerName.byteCount + 8

    public init() {}

    /// The sum of all shares, at most what 64 bits hold.
    public var value: UInt64 {
        shares.values.reduce(0) {
            let (sum, overflow) = $0.addingReportingOverflow($1)
            return overflow ? .max : sum
        }
    }

    /// Raises the share of one peer, which must be this one.
    public mutating func increment(by amount: UInt64, at peer: PeerName) {
        let (sum, overflow) = (shares[peer] ?? 0).addingReportingOverflow(amount)
        shares[peer] = overflow ? .max : sum
    }

    public init(decoding bytes: [UInt8]) throws {
        guard bytes.count % Self.entryBytes == 0, bytes.count / Self.entryBytes <= Self.maximumShares else {
            throw ReplicatedDataError("a counter of \(bytes.count) bytes")
        }
        var reader = ByteReader(bytes)
        while let name = reader.readPeerName(), let share = reader.readUInt64() {
            shares[name] = max(share, shares[name] ?? 0)
        }
    }

    /// The shares as bytes: for each peer its name and its share.
    public func encode() -> [UInt8] {
        var bytes: [UInt8] = []
        for (name, share) in shares.sorted(by: { $0.key < $1.key }) {
            bytes += name.bytes
            bytes.appendInteger(share, byteCount: 8)
        }
        return bytes
    }

    /// Takes over what the other knows better; the result is what was news, nil if nothing was.
    public mutating func merge(_ other: GrowOnlyCounter) -> GrowOnlyCounter? {
        var news = GrowOnlyCounter()
        for (name, share) in other.shares where share > shares[name] ?? 0 {
            guard shares[name] != nil || shares.count < Self.maximumShares else { continue }
            shares[name] = share
            news.shares[name] = share
        }
        return news.shares.isEmpty ? nil : news
    }
}
