public import WeaveCore

/// A whole packet as a value: for tests, tools and special frames. The packet path uses `SleeveRecordReader` and
/// `SleevePacketWriter`.
public struct SleevePacket: Sendable, Equatable {
    /// A frame with the peers of its record.
    public struct Record: Sendable, Equatable {
        public var source: PeerName
        public var destination: PeerName
        public var frame: [UInt8]

        public init(source: PeerName, destination: PeerName, frame: [UInt8]) {
            self.source = source
            self.destination = destination
            self.frame = frame
        }
    }

    public var sender: PeerName
    public var records: [Record]

    public init(sender: PeerName, records: [Record]) {
        self.sender = sender
        self.records = records
    }

    /// The bytes of the plain packet; nil when a frame is longer than 65535 bytes or the packet than a UDP datagram.
    public func encodePlain() -> [UInt8]? {
        let length = records.reduce(SleeveLayout.plainHeaderLength) {
            $0 + SleeveLayout.recordHeaderLength + $1.frame.count
        }
        guard length <= SleeveLayout.maximumPacketLength else { return nil }
        return unsafe [UInt8](unsafeUninitializedCapacity: length) { buffer, count in
            count = 0
            let raw = UnsafeMutableRawBufferPointer(buffer)
            guard
                var writer = unsafe SleevePacketWriter(
                    raw, sender: sender, encrypted: false, limit: SleeveLayout.maximumPacketLength)
            else { return }
            for record in records {
                unsafe record.frame.withUnsafeBytes { frame in
                    _ = unsafe writer.append(source: record.source, destination: record.destination, frame: frame)
                }
            }
            count = unsafe writer.length
        }
    }

    /// Reads records up to the first damage: the frames read, and the error if there was one. `bytes` is what follows
    /// the sender name.
    public static func decodeRecords(_ bytes: [UInt8]) -> (records: [Record], error: SleeveDecodeError?) {
        var records: [Record] = []
        let error: SleeveDecodeError? = unsafe bytes.withUnsafeBytes { raw in
            var reader = unsafe SleeveRecordReader(raw)
            do throws(SleeveDecodeError) {
                while let record = try unsafe reader.next() {
                    let frame = Array(bytes[record.frame])
                    records.append(Record(source: record.source, destination: record.destination, frame: frame))
                }
            } catch {
                return error
            }
            return nil
        }
        return (records, error)
    }
}
