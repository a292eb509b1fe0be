internal import CSodium

/// Where the parts of a sealed packet are, in bytes from its start (overlay-sleeve.md 1.2).
public enum SealedPacketLayout {
    /// The word of don't-fragment bit and sequence number, big-endian, 8 bytes. The sender's name is before it.
    public static let wordOffset = 6
    /// The authentication tag, 16 bytes.
    public static let tagOffset = 14
    /// The records: before sealing and after opening in clear, to the end of the packet.
    public static let recordsOffset = 30
}

/// XSalsa20-Poly1305 of the packets of one direction, in place.
///
/// The first 16 bytes of all nonces of a direction are the same, so the Salsa20 key that XSalsa20 derives from them is
/// computed once. The other 8 are the word in the packet.
///
/// The key stream is made in whole strides and combined with the records after that. libsodium's vector code takes no
/// longer for a stride of 512 bytes than for half of it, and the ends of a packet would otherwise go through its
/// slow paths, which for 1,400 bytes costs a third more than all of the stream.
package struct PacketCipher: Sendable {
    /// The Salsa20 key of the direction, 32 bytes.
    package let subkey: SecretBytes

    /// The cipher for what the peer of the given role sends.
    package init(key: SessionKey, sender: TrafficRole) {
        subkey = unsafe SecretBytes(count: 32) { output in
            var prefix = [UInt8](repeating: 0, count: 16)
            prefix[0] = sender.packetNonceByte
            _ = unsafe crypto_core_hsalsa20(output, prefix, key.secret.pointer, nil)
        }
    }

    /// Bytes at the start of the key stream that authenticate rather than encrypt.
    private static let authenticationKeySize = 32
    /// What the counter of Salsa20 counts.
    private static let blockSize = 64
    /// The unit of the vector code: eight blocks.
    private static let stride = 512
    /// How much key stream is made at a time. With more than this, or aligned to more than 16 bytes, a temporary
    /// allocation would not surely come from the stack.
    private static let streamSize = 2 * stride

    private typealias Bytes = UnsafeMutablePointer<UInt8>

    /// Encrypts the records and writes the tag. The word is in place already.
    @inline(__always)
    func seal(_ packet: UnsafeMutablePointer<UInt8>, count: Int) {
        let records = unsafe packet + SealedPacketLayout.recordsOffset
        let length = count - SealedPacketLayout.recordsOffset
        unsafe withKeyStream(of: packet, length) { stream in
            unsafe withUnsafeTemporaryAllocation(byteCount: Self.authenticationKeySize, alignment: 16) { buffer in
                // Apart from the stream, which long packets overwrite before the tag can be computed.
                let key = unsafe buffer.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self)
                unsafe key.initialize(from: stream, count: Self.authenticationKeySize)
                unsafe crypt(records, length, packet, stream)
                _ = unsafe crypto_onetimeauth_poly1305(
                    packet + SealedPacketLayout.tagOffset, records, UInt64(length), key)
                unsafe sodium_memzero(key, Self.authenticationKeySize)
            }
        }
    }

    /// Checks the tag; when it is right and `accept` agrees, decrypts the records. Leaves the packet alone otherwise.
    @inline(__always)
    func open(_ packet: UnsafeMutablePointer<UInt8>, count: Int, accept: () -> Bool) -> PacketOpening {
        let records = unsafe packet + SealedPacketLayout.recordsOffset
        let length = count - SealedPacketLayout.recordsOffset
        return unsafe withKeyStream(of: packet, length) { stream in
            let tag = unsafe packet + SealedPacketLayout.tagOffset
            guard unsafe crypto_onetimeauth_poly1305_verify(tag, records, UInt64(length), stream) == 0 else {
                return .undecryptable
            }
            guard accept() else { return .replay }
            unsafe crypt(records, length, packet, stream)
            return .accepted
        }
    }

    /// Lends the first piece of the key stream for a packet of `length` bytes of records, and wipes it. It starts with
    /// the authentication key.
    @inline(__always)
    private func withKeyStream<Result>(
        of packet: Bytes, _ length: Int, _ body: (Bytes) -> Result
    ) -> Result {
        unsafe withUnsafeTemporaryAllocation(byteCount: Self.streamSize, alignment: 16) { buffer in
            // Never nil: the buffer is not empty.
            let stream = unsafe buffer.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self)
            let needed = length + Self.authenticationKeySize
            let made = needed <= Self.blockSize ? Self.blockSize : Self.size(for: needed)
            unsafe makeKeyStream(stream, made, packet, block: 0)
            defer { unsafe sodium_memzero(stream, made) }
            return unsafe body(stream)
        }
    }

    /// Combines the records with the key stream: first what was made of it already, then piece after piece.
    @inline(__always)
    private func crypt(_ records: Bytes, _ length: Int, _ packet: Bytes, _ stream: Bytes) {
        var done = min(length, Self.streamSize - Self.authenticationKeySize)
        unsafe Self.combine(records, stream + Self.authenticationKeySize, done)
        while done < length {
            let piece = min(length - done, Self.streamSize)
            let block = UInt64(done + Self.authenticationKeySize) / UInt64(Self.blockSize)
            unsafe makeKeyStream(stream, Self.size(for: piece), packet, block: block)
            unsafe Self.combine(records + done, stream, piece)
            done += piece
        }
    }

    /// `count` bytes in whole strides, as far as there is room.
    @inline(__always)
    private static func size(for count: Int) -> Int {
        min((count + stride - 1) & ~(stride - 1), streamSize)
    }

    @inline(__always)
    private func makeKeyStream(_ stream: Bytes, _ count: Int, _ packet: Bytes, block: UInt64) {
        unsafe stream.initialize(repeating: 0, count: count)
        _ = unsafe crypto_stream_salsa20_xor_ic(
            stream, stream, UInt64(count), packet + SealedPacketLayout.wordOffset, block, subkey.pointer)
    }

    @inline(__always)
    private static func combine(_ records: Bytes, _ stream: Bytes, _ count: Int) {
        typealias Lanes = SIMD16<UInt8>
        let width = MemoryLayout<Lanes>.size
        let target = UnsafeMutableRawPointer(records)
        let source = UnsafeRawPointer(stream)
        var offset = 0
        while offset + width <= count {
            let mixed =
                unsafe target.loadUnaligned(fromByteOffset: offset, as: Lanes.self)
                ^ source.loadUnaligned(fromByteOffset: offset, as: Lanes.self)
            unsafe target.storeBytes(of: mixed, toByteOffset: offset, as: Lanes.self)
            offset += width
        }
        while offset < count {
            unsafe records[offset] ^= stream[offset]
            offset += 1
        }
    }
}
