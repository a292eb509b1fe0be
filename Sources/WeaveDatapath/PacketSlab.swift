/// A block of memory for packets, allocated once by its thread.
@safe struct PacketSlab: ~Copyable {
    /// Packets begin on cache lines where their place is free to choose.
    static let alignment = 64

    let bytes: UnsafeMutableRawBufferPointer

    init(capacity: Int) {
        unsafe bytes = .allocate(byteCount: capacity, alignment: 4096)
    }

    deinit { unsafe bytes.deallocate() }

    var capacity: Int { unsafe bytes.count }

    var base: UnsafePointer<UInt8>? { unsafe UnsafePointer(bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)) }

    /// The next place for a packet at or after `offset`.
    static func aligned(_ offset: Int) -> Int { (offset + alignment - 1) & -alignment }

    @inline(__always)
    func slice(_ offset: Int, _ count: Int) -> UnsafeMutableRawBufferPointer {
        unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[offset..<offset + count])
    }
}

/// A list with room for a fixed number of plain values, allocated once by its thread.
@safe struct PacketList<Element>: ~Copyable {
    private let elements: UnsafeMutablePointer<Element>
    let capacity: Int
    private(set) var count = 0

    init(capacity: Int) {
        unsafe elements = .allocate(capacity: capacity)
        self.capacity = capacity
    }

    deinit { unsafe elements.deallocate() }

    var isFull: Bool { count == capacity }
    var pointer: UnsafeMutablePointer<Element> { unsafe elements }

    /// Adds a value; the caller has seen that the list is not full.
    @inline(__always)
    mutating func append(_ element: Element) {
        precondition(count < capacity, "a packet list has a fixed size")
        unsafe (elements + count).initialize(to: element)
        count &+= 1
    }

    mutating func removeAll() { count = 0 }

    @inline(__always)
    subscript(index: Int) -> Element {
        get { unsafe elements[index] }
        nonmutating set { unsafe elements[index] = newValue }
    }
}
