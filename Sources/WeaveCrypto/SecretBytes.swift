internal import CSodium

/// Bytes that are wiped when the last reference to them goes. Always readable where `bytes` says while it lives.
///
/// Sharing is safe because the bytes are written once, before `init` returns, and only read after.
@safe
package final class SecretBytes: @unchecked Sendable {
    /// How many bytes there are.
    package let count: Int
    private let start: UnsafeMutableRawPointer
    private let home: Home

    private enum Home {
        case slot(SecretArena)
        case guarded
        case plain
    }

    /// Takes memory for `count` bytes and lets `fill` write them.
    package init(count: Int, arena: SecretArena = .shared, filledBy fill: (UnsafeMutablePointer<UInt8>) -> Void) {
        self.count = count
        if count <= SecretArena.slotSize {
            unsafe start = arena.take()
            home = .slot(arena)
        } else if let guarded = unsafe sodium_malloc(count) {
            unsafe start = guarded
            home = .guarded
        } else {
            unsafe start = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 16)
            home = .plain
        }
        unsafe fill(start.bindMemory(to: UInt8.self, capacity: count))
    }

    /// Copies `bytes`; what the caller holds stays the caller's to wipe.
    package convenience init(copying bytes: some Collection<UInt8>, arena: SecretArena = .shared) {
        let count = bytes.count
        unsafe self.init(count: count, arena: arena) { output in
            unsafe UnsafeMutableRawBufferPointer(start: output, count: count).copyBytes(from: bytes)
        }
    }

    deinit {
        switch home {
        case .slot(let arena): unsafe arena.giveBack(start)
        case .guarded: unsafe sodium_free(start)
        case .plain:
            unsafe sodium_memzero(start, count)
            unsafe start.deallocate()
        }
    }

    /// Where the bytes are, for as long as this object lives.
    package var bytes: UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(start: start, count: count)
    }

    /// The bytes as the C functions want them.
    var pointer: UnsafePointer<UInt8> { unsafe UnsafePointer(start.assumingMemoryBound(to: UInt8.self)) }

    /// Whether both hold the same bytes, found out in a time that does not depend on them.
    func isEqual(to other: SecretBytes) -> Bool {
        unsafe count == other.count && sodium_memcmp(start, other.start, count) == 0
    }
}
