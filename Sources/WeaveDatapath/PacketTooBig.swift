import WeaveCore

/// ICMPv6 "packet too big" for an IPv6 frame that does not fit the next hop: what 2.8.1 does for IPv4 only.
public enum PacketTooBig {
    /// The MTU that every IPv6 path has to offer; a smaller one is never quoted.
    public static let minimumMTU = 1280
    /// The longest answer: an Ethernet header and the smallest IPv6 MTU.
    public static let maximumLength = 14 + minimumMTU

    private static let ipHeaderLength = 40
    private static let icmpHeaderLength = 8
    /// More extension headers than this are not walked.
    private static let maximumExtensionHeaders = 8

    /// Writes the answer to the front of `buffer` and returns its length. The source is spoofed as the frame's
    /// destination.
    ///
    /// - Returns: nil when the frame must not be answered: not IPv6, cut short, from or to a group address, from the
    ///   unspecified address, or itself an ICMPv6 error or redirect; or when `buffer` is shorter than the answer
    ///   (`maximumLength` is enough).
    public static func answer(
        to frame: UnsafeRawBufferPointer, header: FrameHeader, mtu: Int, into buffer: UnsafeMutableRawBufferPointer
    ) -> Int? {
        let start = SleeveLayout.ethernetHeaderLength
        guard header.etherType == EtherType.ipv6, frame.count == header.length,
            frame.count >= start + ipHeaderLength, unsafe mayAnswer(frame, header: header)
        else { return nil }
        let stated = unsafe ipHeaderLength + Int(FrameBytes.load16(frame, start + 4))
        let quoted = min(frame.count - start, stated, minimumMTU - ipHeaderLength - icmpHeaderLength)
        let icmp = start + ipHeaderLength
        let length = icmp + icmpHeaderLength + quoted
        guard buffer.count >= length else { return nil }
        unsafe FragmentationNeeded.writeEthernet(frame, into: buffer)
        unsafe FrameBytes.store32(0x6000_0000, buffer, start)
        unsafe FrameBytes.store16(UInt16(truncatingIfNeeded: length - icmp), buffer, start + 4)
        unsafe FrameBytes.store16(UInt16(IPProtocol.icmpv6) << 8 | 64, buffer, start + 6)
        for half in [0, 8] {
            unsafe FrameBytes.store64(FrameBytes.load64(frame, start + 24 + half), buffer, start + 8 + half)
            unsafe FrameBytes.store64(FrameBytes.load64(frame, start + 8 + half), buffer, start + 24 + half)
        }
        unsafe FrameBytes.store32(UInt32(ICMPv6Type.packetTooBig) << 24, buffer, icmp)
        unsafe FrameBytes.store32(UInt32(truncatingIfNeeded: max(mtu, minimumMTU)), buffer, icmp + 4)
        unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[(icmp + icmpHeaderLength)..<length])
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: frame[start..<start + quoted]))
        let sum = unsafe FrameBytes.sum16(UnsafeRawBufferPointer(buffer), from: start + 8, to: length)
        let pseudo = UInt64(length - icmp) + UInt64(IPProtocol.icmpv6)
        unsafe FrameBytes.store16(FrameBytes.checksum(folding: sum + pseudo), buffer, icmp + 2)
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

    /// RFC 4443 2.4(e).
    private static func mayAnswer(_ frame: UnsafeRawBufferPointer, header: FrameHeader) -> Bool {
        let start = SleeveLayout.ethernetHeaderLength
        guard !header.source.isGroup, !header.destination.isGroup else { return false }
        let version = unsafe FrameBytes.load8(frame, start) >> 4
        let isGroup = unsafe FrameBytes.load8(frame, start + 8) == 0xff || FrameBytes.load8(frame, start + 24) == 0xff
        let isUnspecified = unsafe FrameBytes.load64(frame, start + 8) | FrameBytes.load64(frame, start + 16) == 0
        guard version == 6, !isGroup, !isUnspecified else { return false }
        return unsafe !isError(frame, next: FrameBytes.load8(frame, start + 6), at: start + ipHeaderLength)
    }

    /// Whether the packet is an ICMPv6 error or redirect, or too strange to tell.
    private static func isError(_ frame: UnsafeRawBufferPointer, next first: UInt8, at start: Int) -> Bool {
        var next = first
        var offset = start
        for _ in 0...maximumExtensionHeaders {
            switch next {
            case IPProtocol.icmpv6:
                guard frame.count > offset else { return true }
                let type = unsafe FrameBytes.load8(frame, offset)
                return type < ICMPv6Type.firstInformational || type == ICMPv6Type.redirect
            case IPProtocol.hopByHop, IPProtocol.routing, IPProtocol.destinationOptions, IPProtocol.fragment:
                guard frame.count >= offset + 8 else { return true }
                let isFragment = next == IPProtocol.fragment
                if isFragment, unsafe FrameBytes.load16(frame, offset + 2) & 0xfff8 != 0 { return false }
                next = unsafe FrameBytes.load8(frame, offset)
                offset += isFragment ? 8 : unsafe (Int(FrameBytes.load8(frame, offset + 1)) + 1) * 8
            default: return false
            }
        }
        return true
    }
}
