/// Cuts an IPv4 frame into fragments that fit an overlay MTU (section 4.5); the destination's own stack puts them
/// together. Works on fragments too. Nothing is allocated: each piece is written to a buffer of the caller.
@unsafe
public struct IPv4Fragmenter {
    /// Frames are padded with zeros to the smallest that Ethernet carries.
    public static let minimumFrameLength = 60

    private let frame: UnsafeRawBufferPointer
    private let headerLength: Int
    private let end: Int
    private let unit: Int
    private let flagsAndOffset: UInt16
    private var position: Int

    private static let moreFragments: UInt16 = 0x2000
    private static let offsetMask: UInt16 = 0x1fff

    /// Begins to cut `frame`, which must outlive the fragmenter. What follows the IP packet is left out.
    ///
    /// - Returns: nil for a frame that is not IPv4, is cut short, has the don't-fragment flag, leaves no room for a
    ///   payload in `mtu`, or would end beyond the largest IP packet.
    public init?(_ frame: UnsafeRawBufferPointer, header: FrameHeader, mtu: Int) {
        let start = SleeveLayout.ethernetHeaderLength
        guard header.frameClass == .fragmentable, frame.count == header.length,
            header.ipTotalLength <= frame.count - start
        else { return nil }
        let word = unsafe FrameBytes.load16(frame, start + 6)
        let payload = header.ipTotalLength - header.ipHeaderLength
        guard unsafe Int(word & Self.offsetMask) * 8 + payload <= 0xffff else { return nil }
        unsafe unit = (mtu - header.ipHeaderLength) / 8 * 8
        guard unsafe unit > 0 else { return nil }
        unsafe self.frame = frame
        unsafe headerLength = start + header.ipHeaderLength
        unsafe end = start + header.ipTotalLength
        unsafe flagsAndOffset = word
        unsafe position = start + header.ipHeaderLength
        if payload == 0 { return nil }
    }

    /// The length of the longest piece: how large the buffers for `next` have to be.
    public var maximumLength: Int { unsafe max(headerLength + min(unit, end - headerLength), Self.minimumFrameLength) }

    /// Writes the next fragment to the front of `buffer` and returns its length; nil after the last, or when `buffer`
    /// is shorter than `maximumLength`.
    public mutating func next(into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        guard unsafe position < end, unsafe buffer.count >= maximumLength else { return nil }
        let ip = SleeveLayout.ethernetHeaderLength
        let count = unsafe min(unit, end - position)
        let length = unsafe headerLength + count
        unsafe buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: frame[..<headerLength]))
        unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[headerLength..<length])
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: frame[position..<position + count]))
        let isLast = unsafe position + count == end
        let units = unsafe UInt16(truncatingIfNeeded: (position - headerLength) / 8)
        let offset = unsafe (flagsAndOffset & Self.offsetMask) + units
        let flags = unsafe isLast ? flagsAndOffset & ~Self.offsetMask : Self.moreFragments
        unsafe FrameBytes.store16(UInt16(truncatingIfNeeded: length - ip), buffer, ip + 2)
        unsafe FrameBytes.store16(flags | offset, buffer, ip + 6)
        unsafe FrameBytes.store16(0, buffer, ip + 10)
        let sum = unsafe FrameBytes.sum16(UnsafeRawBufferPointer(buffer), from: ip, to: headerLength)
        unsafe FrameBytes.store16(FrameBytes.checksum(folding: sum), buffer, ip + 10)
        unsafe position += count
        guard unsafe length < Self.minimumFrameLength else { return length }
        unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[length..<Self.minimumFrameLength])
            .initializeMemory(as: UInt8.self, repeating: 0)
        return unsafe Self.minimumFrameLength
    }

    /// All fragments of a frame, nil as above. For tests and tools.
    public static func fragments(of frame: [UInt8], mtu: Int) -> [[UInt8]]? {
        guard let header = FrameHeader(frame) else { return nil }
        return unsafe frame.withUnsafeBytes { bytes in
            guard var fragmenter = unsafe IPv4Fragmenter(bytes, header: header, mtu: mtu) else { return nil }
            var fragments: [[UInt8]] = []
            var buffer = unsafe [UInt8](repeating: 0, count: fragmenter.maximumLength)
            while let length = unsafe buffer.withUnsafeMutableBytes({ unsafe fragmenter.next(into: $0) }) {
                fragments.append(Array(buffer.prefix(length)))
            }
            return fragments
        }
    }
}
