internal import CSodium
internal import Synchronization

/// True once libsodium has looked at the processor and chosen its implementations.
let sodiumIsReady: Bool = sodium_init() >= 0

/// Small slots for keys in pages that are kept out of swap and core dumps where the system allows it.
///
/// Keys share pages because the system limits how much memory a process may lock (often 64 KiB) and how many mappings
/// it may have; one guarded page for each of a large mesh's keys would exceed both. Pages stay with the arena, so
/// it is as large as the most keys ever alive at once.
package final class SecretArena: Sendable {
    /// Bytes in a slot: a cache line.
    package static let slotSize = 64

    /// Bytes taken from the system at a time, aligned to as much: whole pages wherever pages are 4 or 16 KiB.
    private static let slabSize = 16_384

    /// The arena that all keys of a process come from.
    static let shared = SecretArena()

    private struct Memory {
        /// Addresses of the slots nobody has; each is zero throughout.
        var free: [UInt] = []
        /// Addresses of everything taken from the system.
        var slabs: [UInt] = []
    }

    private let memory = Mutex(Memory())

    /// An arena of its own. Its secrets keep it alive.
    package init() { _ = sodiumIsReady }

    deinit {
        for slab in memory.withLock({ $0.slabs }) {
            guard let start = unsafe UnsafeMutableRawPointer(bitPattern: slab) else { continue }
            _ = unsafe sodium_munlock(start, Self.slabSize)
            unsafe start.deallocate()
        }
    }

    /// A slot full of zeros.
    func take() -> UnsafeMutableRawPointer {
        let slot = memory.withLock { memory in
            if memory.free.isEmpty { Self.addSlab(to: &memory) }
            return memory.free.removeLast()
        }
        // Never nil: it is an address inside memory that `addSlab` got.
        return unsafe UnsafeMutableRawPointer(bitPattern: slot).unsafelyUnwrapped
    }

    /// Wipes a slot and keeps it for the next taker.
    func giveBack(_ slot: UnsafeMutableRawPointer) {
        unsafe sodium_memzero(slot, Self.slotSize)
        memory.withLock { $0.free.append(UInt(bitPattern: slot)) }
    }

    private static func addSlab(to memory: inout Memory) {
        let slab = UnsafeMutableRawPointer.allocate(byteCount: slabSize, alignment: slabSize)
        unsafe sodium_memzero(slab, slabSize)
        // A refusal leaves the memory usable, only not protected from swapping: a missing privilege must not cost
        // the operator the encryption itself.
        _ = unsafe sodium_mlock(slab, slabSize)
        let start = UInt(bitPattern: slab)
        memory.slabs.append(start)
        memory.free += stride(from: slabSize - slotSize, through: 0, by: -slotSize).map { start + UInt($0) }
    }
}
