import WeaveCore

/// ICMPv4 "fragmentation needed" for a frame with the don't-fragment flag that does not fit the next hop (4.7).
public enum FragmentationNeeded {
    /// The longest answer: Ethernet, IPv4 and ICMP headers, then the longest IPv4 header and eight bytes.
    public static let maximumLength = 14 + 20 + 8 + 60 + 8

    /// Writes the answer to the front of `buffer` and returns its length. The source is spoofed as the frame's
    /// destination, so that the sender's stack takes it.
    ///
    /// - Returns: nil when the frame must not be answered: not IPv4 with DF, cut short, from a group or unspecified
    ///   address, or itself an ICMP error; or when `buffer` is shorter than the answer (`maximumLength` is enough).
    public static func answer(
        to frame: UnsafeRawBufferPointer, header: FrameHeader, mtu: Int, into buffer: UnsafeMutableRawBufferPointer
    ) -> Int? {
        let start = SleeveLayout.ethernetHeaderLength
        guard header.frameClass == .dontFragment, frame.count == header.length else { return nil }
        let quoted = header.ipHeaderLength + 8
        let length = start + 20 + 8 + quoted
        guard frame.count >= start + quoted, header.ipTotalLength >= quoted, buffer.count >= length else { return nil }
        guard unsafe mayAnswer(frame, header: header) else { return nil }
        unsafe writeEthernet(frame, into: buffer)
        unsafe FrameBytes.store16(0x4500 | UInt16(FrameBytes.load8(frame, start + 1)), buffer, start)
        unsafe FrameBytes.store16(UInt16(truncatingIfNeeded: length - start), buffer, start + 2)
        unsafe FrameBytes.store32(0, buffer, start + 4)
        unsafe FrameBytes.store32(UInt32(64) << 24 | UInt32(IPProtocol.icmp) << 16, buffer, start + 8)
        unsafe FrameBytes.store32(FrameBytes.load32(frame, start + 16), buffer, start + 12)
        unsafe FrameBytes.store32(FrameBytes.load32(frame, start + 12), buffer, start + 16)
        let icmp = start + 20
        unsafe FrameBytes.store32(0x0304_0000, buffer, icmp)
        unsafe FrameBytes.store32(UInt32(truncatingIfNeeded: min(max(mtu, 0), 0xffff)), buffer, icmp + 4)
        unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[(icmp + 8)..<length])
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: frame[start..<start + quoted]))
        let written = UnsafeRawBufferPointer(buffer)
        let ipSum = unsafe FrameBytes.sum16(written, from: start, to: icmp)
        unsafe FrameBytes.store16(FrameBytes.checksum(folding: ipSum), buffer, start + 10)
        let icmpSum = unsafe FrameBytes.sum16(written, from: icmp, to: length)
        unsafe FrameBytes.store16(FrameBytes.checksum(folding: icmpSum), buffer, icmp + 2)
        return length
    }

    /// The answer as an array, nil as above.
    public static func answer(to frame: [UInt8], mtu: Int) -> [UInt8]? {
        guard let header = FrameHeader(frame) else { return nil }
        var answer = [UInt8](repeating: 0, count: maximumLength)
        let length = unsafe frame.withUnsafeBytes { frame in
            unsafe answer.withUnsafeMutableBytes {
                unsafe Self.answer(to: frame, header: header, mtu: mtu, into: $0)
            }
        }
        return length.map { Array(answer.prefix($0)) }
    }

    /// 2.8.1's log text; addresses are those of the frame that was too big.
    public static func logText(source: String, destination: String, mtu: Int) -> String {
        "Sending ICMP 3,4 (\(destination) -> \(source)): PMTU=\(mtu)"
    }

    /// RFC 1122 3.2.2: no error about an error, nor to an address that is not one host's.
    private static func mayAnswer(_ frame: UnsafeRawBufferPointer, header: FrameHeader) -> Bool {
        let start = SleeveLayout.ethernetHeaderLength
        guard !header.source.isGroup, !header.destination.isGroup else { return false }
        let source = unsafe FrameBytes.load32(frame, start + 12)
        guard source != 0, source < 0xe000_0000 else { return false }
        let isFirst = unsafe FrameBytes.load16(frame, start + 6) & 0x1fff == 0
        guard isFirst, unsafe FrameBytes.load8(frame, start + 9) == IPProtocol.icmp else { return true }
        switch unsafe FrameBytes.load8(frame, start + header.ipHeaderLength) {
        case 3, 4, 5, 11, 12: return false
        default: return true
        }
    }

    /// The Ethernet header of an answer: the addresses exchanged, the type kept.
    static func writeEthernet(_ frame: UnsafeRawBufferPointer, into buffer: UnsafeMutableRawBufferPointer) {
        unsafe FrameBytes.store48(FrameBytes.load48(frame, 6), buffer, 0)
        unsafe FrameBytes.store48(FrameBytes.load48(frame, 0), buffer, 6)
        unsafe FrameBytes.store16(FrameBytes.load16(frame, 12), buffer, 12)
    }
}
