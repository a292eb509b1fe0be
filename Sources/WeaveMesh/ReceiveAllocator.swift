internal import NIOCore
internal import Synchronization

/// Lets the sockets of one event loop read into one buffer, which each gives back when its bytes have been used.
///
/// A socket of its own accord keeps a buffer of the size that it last needed, and with hundreds of sockets these are
/// most of the memory of a mesh. It keeps only the first buffer that it is given, as long as it reads one message at a time
/// (`maxMessagesPerRead`) and the allocator makes no promise about the size of the next: so the first one is small.
struct ReceiveAllocator: RecvByteBufferAllocator {
    /// A buffer that nobody uses at the moment. Whoever has read bytes of one puts it here.
    let spare: NIOLoopBoundBox<ByteBuffer?>
    private var hasRead = false

    /// Kept by each socket for good. The header of a handshake fits.
    private static let firstBytes = 32
    private static let bytes = 16 << 10

    private static let spares = Mutex<[ObjectIdentifier: NIOLoopBoundBox<ByteBuffer?>]>([:])

    /// The place for the spare buffer of an event loop. The loops of a process are few and live as long as it does.
    static func spare(of loop: any EventLoop) -> NIOLoopBoundBox<ByteBuffer?> {
        spares.withLock { spares in
            if let known = spares[ObjectIdentifier(loop)] { return known }
            let spare = NIOLoopBoundBox.makeEmptyBox(valueType: ByteBuffer.self, eventLoop: loop)
            spares[ObjectIdentifier(loop)] = spare
            return spare
        }
    }

    init(spare: NIOLoopBoundBox<ByteBuffer?>) { self.spare = spare }

    func buffer(allocator: ByteBufferAllocator) -> ByteBuffer {
        guard hasRead else { return allocator.buffer(capacity: Self.firstBytes) }
        guard var buffer = spare.value, buffer.capacity >= Self.bytes else {
            return allocator.buffer(capacity: Self.bytes)
        }
        spare.value = nil
        // A buffer that somebody still reads is left to him: this makes another one then.
        buffer.clear()
        return buffer
    }

    mutating func record(actualReadBytes: Int) -> Bool {
        hasRead = true
        return true
    }

    func nextBufferSize() -> Int? { nil }
}
