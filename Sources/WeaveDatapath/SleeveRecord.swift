public import WeaveCore

/// One frame inside a packet: where it is in the buffer that was read, and the peers of its record.
public struct SleeveRecord: Sendable, Equatable {
    /// The peer that captured the frame.
    public let source: PeerName
    /// The peer the frame is addressed to.
    public let destination: PeerName
    /// The bytes of the frame, as offsets into the buffer given to the reader.
    public let frame: Range<Int>

    @inlinable
    init(source: PeerName, destination: PeerName, frame: Range<Int>) {
        self.source = source
        self.destination = destination
        self.frame = frame
    }
}

/// A packet that is not made of whole records. The frames before the damage stand.
public struct SleeveDecodeError: Error, Equatable, CustomStringConvertible {
    /// What is wrong, in 2.8.1's words after `Failed to decode packet: `.
    public let reason: String

    /// 2.8.1's whole text.
    public var description: String { "Failed to decode packet: \(reason)" }

    static func truncated(expected: Int, got: Int) -> SleeveDecodeError {
        SleeveDecodeError(reason: "too short; expected frame of length \(expected), got \(got)")
    }

    static func trailing(_ count: Int) -> SleeveDecodeError {
        SleeveDecodeError(reason: "\(count) octets of trailing garbage")
    }

    /// A sealed packet without room for its sequence number; `length` is that of what follows the sender name.
    public static func tooShortToOpen(length: Int) -> SleeveDecodeError {
        SleeveDecodeError(reason: "encrypted UDP packet too short; expected length >= 8, got \(length)")
    }
}

/// Reads the records of a packet in place (section 1.3, steps 7 to 9). The buffer must outlive the reader.
@unsafe
public struct SleeveRecordReader {
    private let bytes: UnsafeRawBufferPointer
    /// How far the reader got.
    public private(set) var position: Int

    /// Reads `bytes` from `position` on: what follows the sender name of a plain packet or the tag of an opened one.
    public init(_ bytes: UnsafeRawBufferPointer, from position: Int = 0) {
        unsafe self.bytes = bytes
        unsafe self.position = max(0, min(position, bytes.count))
    }

    /// The next record, nil at the end of the packet.
    ///
    /// - Throws: `SleeveDecodeError` when the rest is no whole record; after it the reader is at its end.
    public mutating func next() throws(SleeveDecodeError) -> SleeveRecord? {
        let remaining = unsafe bytes.count - position
        guard remaining >= SleeveLayout.recordHeaderLength else {
            guard remaining > 0 else { return nil }
            unsafe position = bytes.count
            throw .trailing(remaining)
        }
        let length = unsafe Int(FrameBytes.load16(bytes, position + 12))
        let start = unsafe position + SleeveLayout.recordHeaderLength
        guard unsafe length <= bytes.count - start else {
            let got = unsafe bytes.count - start
            unsafe position = bytes.count
            throw .truncated(expected: length, got: got)
        }
        let source = unsafe PeerName(truncating: FrameBytes.load48(bytes, position))
        let destination = unsafe PeerName(truncating: FrameBytes.load48(bytes, position + 6))
        unsafe position = start + length
        return SleeveRecord(source: source, destination: destination, frame: start..<start + length)
    }

    /// The name of the sender of a packet, nil when it is shorter than a name.
    public static func sender(_ packet: UnsafeRawBufferPointer) -> PeerName? {
        guard packet.count >= SleeveLayout.senderNameLength else { return nil }
        return unsafe PeerName(truncating: FrameBytes.load48(packet, 0))
    }
}

/// Writes records one after another into a packet buffer, behind room for the packet's header.
///
/// The layout of `buffer` is that of the packet: the header comes first (`headerLength` bytes: 6 plain, 30 sealed),
/// its name is written by `init`, the sequence and tag by whoever seals.
@unsafe
public struct SleevePacketWriter {
    private let buffer: UnsafeMutableRawBufferPointer
    /// The largest packet this one may become; 65507, or `LinkParameters.maximumPayload` for packets with DF.
    public let limit: Int
    private let headerLength: Int
    /// The length of the packet so far, header included.
    public private(set) var length: Int
    /// How many frames are in it.
    public private(set) var frameCount = 0

    /// Begins a packet of `sender` in `buffer`, which should hold `limit` bytes; a smaller buffer lowers the limit.
    /// Nil when not even the header fits.
    public init?(_ buffer: UnsafeMutableRawBufferPointer, sender: PeerName, encrypted: Bool, limit: Int) {
        unsafe self.buffer = buffer
        unsafe self.limit = min(limit, buffer.count, SleeveLayout.maximumPacketLength)
        unsafe headerLength = SleeveLayout.headerLength(encrypted: encrypted)
        unsafe length = unsafe headerLength
        guard unsafe self.limit >= headerLength else { return nil }
        unsafe FrameBytes.store48(sender.rawValue, buffer, 0)
    }

    /// Whether a frame of `frameLength` bytes still fits under `limit` (at most the packet's own).
    @inlinable
    public func admits(frameLength: Int, limit: Int) -> Bool {
        unsafe frameLength <= min(limit, self.limit) - length - SleeveLayout.recordHeaderLength
    }

    /// Whether a frame would not fit even an empty packet under `limit`: it has to be dropped.
    @inlinable
    public static func isTooBig(frameLength: Int, limit: Int, encrypted: Bool) -> Bool {
        frameLength > SleeveLayout.maximumFrameLength(limit: limit, encrypted: encrypted)
    }

    /// 2.8.1's text for a dropped frame; `limit` as for `isTooBig`.
    public static func tooBigText(frameLength: Int, limit: Int) -> String {
        "Dropping too big frame during forwarding: frame len \(frameLength), limit \(limit)"
    }

    /// Writes the header of the next record and gives the place for its frame, for a caller that copies or builds
    /// it there. Nil when it does not fit.
    public mutating func append(
        source: PeerName, destination: PeerName, frameLength: Int
    ) -> UnsafeMutableRawBufferPointer? {
        guard frameLength >= 0, frameLength <= 0xffff, unsafe admits(frameLength: frameLength, limit: limit) else {
            return nil
        }
        unsafe FrameBytes.store48(source.rawValue, buffer, length)
        unsafe FrameBytes.store48(destination.rawValue, buffer, length + 6)
        unsafe FrameBytes.store16(UInt16(truncatingIfNeeded: frameLength), buffer, length + 12)
        let start = unsafe length + SleeveLayout.recordHeaderLength
        unsafe length = start + frameLength
        unsafe frameCount += 1
        return unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[start..<length])
    }

    /// Appends a copy of `frame`; false when it does not fit.
    public mutating func append(source: PeerName, destination: PeerName, frame: UnsafeRawBufferPointer) -> Bool {
        guard let place = unsafe append(source: source, destination: destination, frameLength: frame.count) else {
            return false
        }
        unsafe place.copyMemory(from: frame)
        return true
    }

    /// Takes all frames out again: the next packet starts in the same buffer.
    public mutating func reset() {
        unsafe length = unsafe headerLength
        unsafe frameCount = 0
    }
}
