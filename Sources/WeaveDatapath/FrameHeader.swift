public import WeaveCore

/// How a frame may be carried, by its outermost headers (section 4.4). Tagged frames, IPv6, ARP and malformed IPv4
/// are `other`.
public enum FrameClass: Sendable, Hashable, CaseIterable {
    /// IPv4 with the don't-fragment flag: sent whole with DF, or answered with ICMP.
    case dontFragment
    /// IPv4 that may be fragmented.
    case fragmentable
    /// Anything else: left to the kernel to fragment.
    case other
}

/// What the packet path needs to know of a frame, read in one pass without copying.
public struct FrameHeader: Sendable, Equatable {
    /// The whole frame, from the destination MAC on, without checksum.
    public let length: Int
    public let destination: MACAddress
    public let source: MACAddress
    /// The type or length field after the addresses.
    public let etherType: UInt16
    /// How the frame may be carried.
    public let frameClass: FrameClass
    /// The length of the IPv4 header, options included; 0 for `FrameClass.other`.
    public let ipHeaderLength: Int
    /// The IPv4 total length, with 0 (rest of the frame) resolved; may exceed what was captured. 0 for
    /// `FrameClass.other`.
    public let ipTotalLength: Int
    /// An ICMPv6 router advertisement or redirect, or an IPv6 fragment that could hide one.
    public let carriesRouterControl: Bool

    /// Fourteen zero bytes: about the path, between neighbours.
    @inlinable
    public var isSpecial: Bool { source.rawValue | destination.rawValue == 0 && etherType == 0 }

    /// Reads the headers of a frame; nil when it is shorter than an Ethernet header.
    public init?(_ frame: UnsafeRawBufferPointer) {
        guard frame.count >= SleeveLayout.ethernetHeaderLength else { return nil }
        length = frame.count
        destination = unsafe MACAddress(truncating: FrameBytes.load48(frame, 0))
        source = unsafe MACAddress(truncating: FrameBytes.load48(frame, 6))
        let type = unsafe FrameBytes.load16(frame, 12)
        etherType = type
        guard type == EtherType.ipv4, let header = unsafe IPv4Summary(frame) else {
            frameClass = .other
            ipHeaderLength = 0
            ipTotalLength = 0
            carriesRouterControl =
                unsafe type == EtherType.ipv6 || EtherType.isTag(type) ? RouterGuard.matches(frame) : false
            return
        }
        frameClass = header.dontFragment ? .dontFragment : .fragmentable
        ipHeaderLength = header.headerLength
        ipTotalLength = header.totalLength
        carriesRouterControl = false
    }

    /// Reads the headers of a frame in an array.
    public init?(_ frame: [UInt8]) {
        guard let header = unsafe frame.withUnsafeBytes({ unsafe FrameHeader($0) }) else { return nil }
        self = header
    }
}

/// Numbers of the Ethernet type field.
enum EtherType {
    static let ipv4: UInt16 = 0x0800
    static let ipv6: UInt16 = 0x86dd

    /// 802.1Q and 802.1ad tags.
    static func isTag(_ type: UInt16) -> Bool { type == 0x8100 || type == 0x88a8 }
}

/// The fields of an outer IPv4 header that decide how a frame is carried.
private struct IPv4Summary {
    let headerLength: Int
    let totalLength: Int
    let dontFragment: Bool

    /// Nil when the header is malformed or not wholly there. The version is not looked at, as in 2.8.1.
    init?(_ frame: UnsafeRawBufferPointer) {
        let start = SleeveLayout.ethernetHeaderLength
        let available = frame.count - start
        guard available >= 20 else { return nil }
        headerLength = unsafe Int(FrameBytes.load8(frame, start) & 15) * 4
        let stated = unsafe Int(FrameBytes.load16(frame, start + 2))
        totalLength = stated == 0 ? available : stated
        guard headerLength >= 20, totalLength >= headerLength, headerLength <= available else { return nil }
        dontFragment = unsafe FrameBytes.load16(frame, start + 6) & 0x4000 != 0
    }
}

/// Finds ICMPv6 router advertisements and redirects: one container must not become the router of all others.
enum RouterGuard {
    /// More extension headers than this have no honest use.
    static let maximumExtensionHeaders = 8
    /// More tags than this have no honest use.
    static let maximumTags = 2

    /// Whether a frame, tagged or not, is a router advertisement or redirect, or hides what it is.
    static func matches(_ frame: UnsafeRawBufferPointer) -> Bool {
        var offset = SleeveLayout.ethernetHeaderLength
        var type = unsafe FrameBytes.load16(frame, 12)
        for _ in 0..<maximumTags where EtherType.isTag(type) {
            guard frame.count >= offset + 4 else { return false }
            type = unsafe FrameBytes.load16(frame, offset + 2)
            offset += 4
        }
        guard type == EtherType.ipv6, frame.count >= offset + 40 else { return false }
        return unsafe matchesChain(frame, next: FrameBytes.load8(frame, offset + 6), at: offset + 40)
    }

    private static func matchesChain(_ frame: UnsafeRawBufferPointer, next first: UInt8, at start: Int) -> Bool {
        var next = first
        var offset = start
        var isFragment = false
        for _ in 0...maximumExtensionHeaders {
            switch next {
            case IPProtocol.icmpv6:
                guard frame.count > offset else { return isFragment }
                let type = unsafe FrameBytes.load8(frame, offset)
                return type == ICMPv6Type.routerAdvertisement || type == ICMPv6Type.redirect
            case IPProtocol.hopByHop, IPProtocol.routing, IPProtocol.destinationOptions,
                IPProtocol.authentication, IPProtocol.fragment:
                guard frame.count >= offset + 8 else { return isFragment }
                if next == IPProtocol.fragment {
                    // Only the first fragment tells what it is; the others are useless without it.
                    guard unsafe FrameBytes.load16(frame, offset + 2) & 0xfff8 == 0 else { return false }
                    isFragment = true
                }
                let units = unsafe Int(FrameBytes.load8(frame, offset + 1))
                let length = next == IPProtocol.authentication ? (units + 2) * 4 : (units + 1) * 8
                let isFixed = next == IPProtocol.fragment
                next = unsafe FrameBytes.load8(frame, offset)
                offset += isFixed ? 8 : length
            default: return false
            }
        }
        return true
    }
}

/// Numbers of the IP protocol field.
enum IPProtocol {
    static let hopByHop: UInt8 = 0
    static let icmp: UInt8 = 1
    static let tcp: UInt8 = 6
    static let udp: UInt8 = 17
    static let routing: UInt8 = 43
    static let fragment: UInt8 = 44
    static let authentication: UInt8 = 51
    static let icmpv6: UInt8 = 58
    static let destinationOptions: UInt8 = 60
}

/// Numbers of the ICMPv6 type field.
enum ICMPv6Type {
    static let packetTooBig: UInt8 = 2
    /// Types from here on are informational; those below are errors.
    static let firstInformational: UInt8 = 128
    static let routerAdvertisement: UInt8 = 134
    static let redirect: UInt8 = 137
}
