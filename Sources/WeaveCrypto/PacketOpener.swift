internal import Synchronization

/// What became of a sealed packet.
public enum PacketOpening: Sendable, Equatable {
    /// It is authentic and new. The records are in clear from byte 30 on.
    case accepted
    /// It is authentic, but was here before or is too old to tell. To be dropped without a word.
    case replay
    /// It has fewer bytes than the sequence number takes; this many followed the name.
    case tooShort(Int)
    /// It is damaged or made with another key.
    case undecryptable

    /// What goes into the log, after `Failed to decode packet: `; nil when nothing does.
    public var errorText: String? {
        switch self {
        case .accepted, .replay: nil
        case .tooShort(let count): "encrypted UDP packet too short; expected length >= 8, got \(count)"
        case .undecryptable: "UDP packet decryption failed"
        }
    }
}

/// Opens the packets of one direction of an overlay connection, in place, each at most once.
///
/// Any number of threads may open at the same time: the work is done outside a lock, which is held only for the few
/// nanoseconds it takes to look a sequence number up. Memory grows with use, to about 520 KiB at most.
public final class PacketOpener: Sendable {
    private let cipher: PacketCipher
    private let fragmentable = Mutex(ReplayWindow())
    private let dontFragment = Mutex(ReplayWindow())

    /// An opener for what the *other* end sends, where this end has `role`.
    public init(key: SessionKey, role: TrafficRole) {
        cipher = PacketCipher(key: key, sender: role.opposite)
    }

    /// Opens a whole packet, from the sender's name on. Only when the result is `.accepted` has the packet changed.
    public func open(_ packet: UnsafeMutableRawBufferPointer) -> PacketOpening {
        guard packet.count >= SealedPacketLayout.recordsOffset, let start = packet.baseAddress else {
            let remainder = packet.count - SealedPacketLayout.wordOffset
            return remainder < 8 ? .tooShort(max(remainder, 0)) : .undecryptable
        }
        let word = UInt64(
            bigEndian: unsafe packet.loadUnaligned(fromByteOffset: SealedPacketLayout.wordOffset, as: UInt64.self))
        return unsafe cipher.open(start.assumingMemoryBound(to: UInt8.self), count: packet.count) {
            let sequence = word & (.max >> 1)
            return word >> 63 == 1
                ? dontFragment.withLock { $0.accept(sequence) }
                : fragmentable.withLock { $0.accept(sequence) }
        }
    }

    /// The records of a packet; nil when it was here before or is too old to tell.
    ///
    /// - Throws: `CryptoError` with the text for the log when it is too short or not authentic.
    public func open(_ packet: [UInt8]) throws(CryptoError) -> [UInt8]? {
        var packet = packet
        let opening = unsafe packet.withUnsafeMutableBytes { unsafe open($0) }
        switch opening {
        case .accepted: return Array(packet[SealedPacketLayout.recordsOffset...])
        case .replay: return nil
        case .tooShort: throw CryptoError(.tooShort, opening.errorText ?? "")
        case .undecryptable: throw CryptoError(.authenticationFailed, opening.errorText ?? "")
        }
    }
}
