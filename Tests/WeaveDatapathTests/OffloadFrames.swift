import WeaveCore

/// A TCP or UDP packet described field by field, built into a frame the slow and obvious way.
struct TransportFrame {
    var isIPv6 = false
    var isTCP = true
    var flow: UInt8 = 1
    var trafficClass: UInt8 = 0
    var hopLimit: UInt8 = 64
    var dontFragment = true
    var identification: UInt16 = 0x1234
    var sequence: UInt32 = 0x0102_0304
    var acknowledgement: UInt32 = 0x0a0b_0c0d
    var flags: UInt8 = 0x10
    var window: UInt16 = 0x2000
    /// TCP options, a multiple of four bytes.
    var options: [UInt8] = []
    var tag: [UInt8] = []
    var payload: [UInt8] = []

    var ipStart: Int { 14 + tag.count }
    var transportStart: Int { ipStart + (isIPv6 ? 40 : 20) }
    var headerEnd: Int { transportStart + (isTCP ? 20 + options.count : 8) }

    private var source: [UInt8] { isIPv6 ? [0xfd] + [UInt8](repeating: 0, count: 14) + [flow] : [10, 32, 0, flow] }
    private var destination: [UInt8] { isIPv6 ? [0xfd] + [UInt8](repeating: 7, count: 15) : [10, 32, 0, 200] }

    /// The frame, with a whole checksum, or that of the pseudo header alone.
    func bytes(partialChecksum: Bool = false) -> [UInt8] {
        let ports: [UInt8] = [0x10, flow, 0x13, 0x88]
        let length = (isTCP ? 20 + options.count : 8) + payload.count
        var transport = ports
        if isTCP {
            transport += big32(sequence) + big32(acknowledgement)
            transport += [UInt8((5 + options.count / 4) << 4), flags] + big16(window) + [0, 0, 0, 0] + options
        } else {
            transport += big16(UInt16(length)) + [0, 0]
        }
        transport += payload
        let number: UInt8 = isTCP ? 6 : 17
        let pseudo = source + destination + big16(UInt16(length)) + [0, number]
        let place = isTCP ? 16 : 6
        var checksum = partialChecksum ? ~slowChecksum(pseudo) : slowChecksum(pseudo + transport)
        if checksum == 0, !isTCP { checksum = 0xffff }
        transport.replaceSubrange(place..<place + 2, with: big16(checksum))
        let ethernet: [UInt8] = [2, 0, 0, 0, 0, 200, 2, 0, 0, 0, 0, flow] + tag
        if isIPv6 {
            var header: [UInt8] = [0x60 | trafficClass >> 4, trafficClass << 4, 0, 0] + big16(UInt16(length))
            header += [number, hopLimit]
            return ethernet + [0x86, 0xdd] + header + source + destination + transport
        }
        var header: [UInt8] = [0x45, trafficClass] + big16(UInt16(20 + length)) + big16(identification)
        header += [dontFragment ? 0x40 : 0, 0, hopLimit, number, 0, 0] + source + destination
        header.replaceSubrange(10..<12, with: big16(slowChecksum(header)))
        return ethernet + [0x08, 0x00] + header + transport
    }

    /// The frames that carry this one's payload in pieces of `size` bytes.
    func segments(_ size: Int) -> [[UInt8]] {
        var frames: [[UInt8]] = []
        var position = 0
        repeat {
            let end = min(position + size, payload.count)
            var segment = self
            segment.payload = Array(payload[position..<end])
            segment.identification = identification &+ UInt16(frames.count)
            segment.sequence = sequence &+ UInt32(position)
            if end < payload.count { segment.flags &= ~0x09 }
            if position > 0 { segment.flags &= ~0x80 }
            frames.append(segment.bytes())
            position = end
        } while position < payload.count
        return frames
    }
}

func big16(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xff)] }
func big32(_ value: UInt32) -> [UInt8] { big16(UInt16(value >> 16)) + big16(UInt16(value & 0xffff)) }

/// The Internet checksum, word by word.
func slowChecksum(_ bytes: [UInt8]) -> UInt16 {
    var sum: UInt32 = 0
    for index in stride(from: 0, to: bytes.count, by: 2) {
        let low = index + 1 < bytes.count ? UInt32(bytes[index + 1]) : 0
        sum += UInt32(bytes[index]) << 8 + low
        if sum > 0xffff { sum = (sum & 0xffff) + 1 }
    }
    return ~UInt16(sum)
}

func randomBytes(_ count: Int, _ random: inout SeededGenerator) -> [UInt8] {
    (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
}
