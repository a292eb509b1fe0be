/// A frame between two neighbours about the path itself: never forwarded, never delivered (section 2).
///
/// Recognised by fourteen zero bytes; what it is follows from its length alone.
public enum SpecialFrame: Sendable, Hashable {
    /// Proves that packets arrive; carries the uid of the connection.
    case heartbeat(uid: UInt64)
    /// Arrives only when the path carries fragments.
    case fragmentationTest
    /// Arrives only when an overlay packet of `length - 14` bytes fits the path. `length` is that of the whole frame.
    case mtuProbe(length: Int)

    /// The length of a heartbeat.
    public static let heartbeatLength = 22
    /// The length of a fragmentation test.
    public static let fragmentationTestLength = 60001
    /// The length of the probe that makes the kernel say what the path takes.
    public static let discoveryLength = 60000
    /// The value with which a peer acknowledges the discovery probe.
    public static let discoveryMTU = discoveryLength - SleeveLayout.ethernetHeaderLength

    /// The probe that makes the kernel say what the path takes: too long for nearly every path.
    public static let pathMTUDiscovery = SpecialFrame.mtuProbe(length: discoveryLength)

    /// A probe for an overlay MTU. Values that would make it another kind of special frame, or not fit a record,
    /// are moved to the nearest that does not.
    public static func probe(mtu: Int) -> SpecialFrame {
        let largest = SleeveLayout.maximumFrameLength(limit: SleeveLayout.maximumPacketLength, encrypted: true)
        var length = min(max(mtu, 1), largest) + SleeveLayout.ethernetHeaderLength
        if length == heartbeatLength || length == fragmentationTestLength { length -= 1 }
        return .mtuProbe(length: min(length, largest))
    }

    /// The length of the frame in bytes.
    public var length: Int {
        switch self {
        case .heartbeat: Self.heartbeatLength
        case .fragmentationTest: Self.fragmentationTestLength
        case .mtuProbe(let length): length
        }
    }

    /// Whether a frame is special: fourteen zero bytes to begin with.
    @inlinable
    public static func isSpecial(_ frame: UnsafeRawBufferPointer) -> Bool {
        guard frame.count >= SleeveLayout.ethernetHeaderLength else { return false }
        return unsafe FrameBytes.load64(frame, 0) == 0 && FrameBytes.load48(frame, 8) == 0
    }

    /// Reads a special frame; nil when the frame is not special, or is a fragmentation test with a byte that is not
    /// zero, which is to be ignored.
    public init?(_ frame: UnsafeRawBufferPointer) {
        guard unsafe Self.isSpecial(frame) else { return nil }
        switch frame.count {
        case Self.heartbeatLength:
            self = unsafe .heartbeat(uid: FrameBytes.load64(frame, SleeveLayout.ethernetHeaderLength))
        case Self.fragmentationTestLength:
            guard unsafe frame.allSatisfy({ $0 == 0 }) else { return nil }
            self = .fragmentationTest
        default:
            self = .mtuProbe(length: frame.count)
        }
    }

    /// Reads a special frame from an array, as the other initialiser does.
    public init?(_ frame: [UInt8]) {
        guard let special = unsafe frame.withUnsafeBytes({ unsafe SpecialFrame($0) }) else { return nil }
        self = special
    }

    /// Writes the frame to the front of `buffer`; false when it is shorter than `length`.
    public func write(to buffer: UnsafeMutableRawBufferPointer) -> Bool {
        guard buffer.count >= length else { return false }
        unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[..<length]).initializeMemory(as: UInt8.self, repeating: 0)
        if case .heartbeat(let uid) = self {
            unsafe FrameBytes.store64(uid, buffer, SleeveLayout.ethernetHeaderLength)
        }
        return true
    }

    /// The frame as an array.
    public var bytes: [UInt8] {
        unsafe [UInt8](unsafeUninitializedCapacity: length) { buffer, count in
            count = unsafe write(to: UnsafeMutableRawBufferPointer(buffer)) ? length : 0
        }
    }
}
