internal import Synchronization
public import WeaveCore

/// Seals the packets of one direction of an overlay connection, in place.
///
/// Any number of threads may seal at the same time: sequence numbers are taken atomically, everything else is constant.
/// A packet costs no allocation and no lock.
public final class PacketSealer: Sendable {
    private let cipher: PacketCipher
    private let fragmentable: Atomic<UInt64>
    private let dontFragment: Atomic<UInt64>

    /// One more than the highest sequence number that fits beside the don't-fragment bit.
    private static let sequenceEnd: UInt64 = 1 << 63

    /// A sealer for what this end, which has `role`, sends; both sequences begin at 0.
    public convenience init(key: SessionKey, role: TrafficRole) {
        self.init(key: key, role: role, firstSequence: 0)
    }

    package init(key: SessionKey, role: TrafficRole, firstSequence: UInt64) {
        cipher = PacketCipher(key: key, sender: role)
        fragmentable = Atomic(firstSequence)
        dontFragment = Atomic(firstSequence)
    }

    /// Seals a whole packet: name in its first 6 bytes, records from byte 30 to the end. Writes bytes 6 to 29 and
    /// encrypts what follows. The packets of either kind (may be fragmented or not) are numbered on their own; a packet
    /// that is never sent leaves a harmless gap.
    ///
    /// - Throws: `CryptoError` for a packet of fewer than 30 bytes, or once 2^63 packets of the kind were sealed.
    public func seal(_ packet: UnsafeMutableRawBufferPointer, dontFragment isWhole: Bool) throws(CryptoError) {
        guard packet.count >= SealedPacketLayout.recordsOffset, let start = packet.baseAddress else {
            throw Self.tooShort(packet.count)
        }
        let sequence =
            isWhole
            ? dontFragment.wrappingAdd(1, ordering: .relaxed).oldValue
            : fragmentable.wrappingAdd(1, ordering: .relaxed).oldValue
        guard sequence < Self.sequenceEnd else { throw exhausted(isWhole) }
        let word = isWhole ? sequence | Self.sequenceEnd : sequence
        unsafe packet.storeBytes(of: word.bigEndian, toByteOffset: SealedPacketLayout.wordOffset, as: UInt64.self)
        unsafe cipher.seal(start.assumingMemoryBound(to: UInt8.self), count: packet.count)
    }

    /// A new sealed packet of `name` and `records`.
    public func seal(name: PeerName, records: [UInt8], dontFragment: Bool) throws(CryptoError) -> [UInt8] {
        var packet = name.bytes
        packet.reserveCapacity(SealedPacketLayout.recordsOffset + records.count)
        packet.append(contentsOf: repeatElement(0, count: SealedPacketLayout.recordsOffset - packet.count))
        packet.append(contentsOf: records)
        var failure: CryptoError?
        unsafe packet.withUnsafeMutableBytes { buffer in
            do throws(CryptoError) { unsafe try seal(buffer, dontFragment: dontFragment) } catch { failure = error }
        }
        if let failure { throw failure }
        return packet
    }

    @inline(never)
    private func exhausted(_ isWhole: Bool) -> CryptoError {
        // Keeps the counter at its end, however often somebody tries.
        if isWhole {
            dontFragment.store(Self.sequenceEnd, ordering: .relaxed)
        } else {
            fragmentable.store(Self.sequenceEnd, ordering: .relaxed)
        }
        return CryptoError(.sequenceExhausted, "all sequence numbers of this connection are used up; connect again")
    }

    @inline(never)
    private static func tooShort(_ count: Int) -> CryptoError {
        CryptoError(
            .tooShort, "packet of \(count) bytes has no room for its seal of \(SealedPacketLayout.recordsOffset)")
    }
}
