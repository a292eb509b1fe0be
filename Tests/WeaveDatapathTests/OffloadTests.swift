import Glibc
import Testing
import WeaveCore

@testable import WeaveDatapath

/// Cuts a super-frame; nil when it is refused.
private func cut(_ frame: [UInt8], _ offload: OffloadHeader) -> [[UInt8]]? {
    unsafe frame.withUnsafeBytes { bytes in
        guard var segmenter = unsafe FrameSegmenter(bytes, offload: offload) else { return nil }
        var frames: [[UInt8]] = []
        while unsafe segmenter.nextLength > 0 {
            var place = unsafe [UInt8](repeating: 0xee, count: segmenter.nextLength)
            unsafe place.withUnsafeMutableBytes { unsafe segmenter.next(into: $0) }
            frames.append(place)
        }
        return frames
    }
}

/// What a coalescer made of one frame or several.
private struct Merged {
    var offload: OffloadHeader
    var frame: [UInt8]
    var count: Int
    /// As the kernel would cut it.
    var frames: [[UInt8]]? { offload.isSuperFrame ? cut(frame, offload) : [frame] }
}

private func coalesce(_ frames: [[UInt8]], capacity: Int = 256, tcp: Bool = true, udp: Bool = true) -> [Merged] {
    var arena = frames.flatMap { $0 }
    var merged: [Merged] = []
    unsafe arena.withUnsafeMutableBytes { arena in
        var coalescer = FrameCoalescer(capacity: capacity, hasHeader: true, tcp: tcp, udp: udp)
        func drain() {
            unsafe coalescer.flush { parts, count, length in
                var bytes: [UInt8] = []
                for index in 0..<parts.count {
                    let part = unsafe parts[index]
                    unsafe bytes += UnsafeRawBufferPointer(start: part.iov_base, count: part.iov_len)
                }
                let offload = unsafe bytes.withUnsafeBytes { unsafe OffloadHeader($0) }
                let frame = Array(bytes.dropFirst(OffloadHeader.length))
                #expect(frame.count == length)
                merged.append(Merged(offload: offload, frame: frame, count: count))
            }
        }
        var offset = 0
        for frame in frames {
            if coalescer.isFull { drain() }
            let end = offset + frame.count
            unsafe coalescer.add(UnsafeMutableRawBufferPointer(rebasing: arena[offset..<end]))
            offset = end
        }
        drain()
        let isEmpty = coalescer.isEmpty
        #expect(isEmpty)
    }
    return merged
}

private func offload(_ frame: TransportFrame, size: Int) -> OffloadHeader {
    OffloadHeader(
        kind: frame.isTCP ? (frame.isIPv6 ? .tcp6 : .tcp4) : .udp, headerLength: frame.headerEnd, segmentSize: size,
        checksumStart: frame.transportStart, checksumOffset: frame.isTCP ? 16 : 6)
}

@Suite("Offloads")
struct OffloadTests {
    private static let shapes: [TransportFrame] = [
        TransportFrame(), TransportFrame(isIPv6: true), TransportFrame(isTCP: false),
        TransportFrame(isIPv6: true, isTCP: false),
        TransportFrame(
            trafficClass: 2, dontFragment: false, flags: 0x99, options: [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]),
        TransportFrame(isIPv6: true, trafficClass: 3, flags: 0x59, options: [1, 1, 1, 1]),
        TransportFrame(sequence: 0xffff_ff00, flags: 0x18, tag: [0x81, 0x00, 0x00, 0x05]),
        TransportFrame(isIPv6: true, isTCP: false, tag: [0x88, 0xa8, 0, 7, 0x81, 0x00, 0x00, 0x05]),
    ]

    @Test("the fast sum is the slow one at every length and place")
    func sums() {
        var random = SeededGenerator(seed: 1)
        let bytes = randomBytes(300, &random)
        for start in 0..<9 {
            for count in [0, 1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 63, 64, 65, 200, 255, 290] {
                let slice = Array(bytes[start..<start + count])
                let sum = unsafe bytes.withUnsafeBytes {
                    unsafe OffloadChecksum.sum(UnsafeRawBufferPointer(rebasing: $0[start..<start + count]))
                }
                var copy = [UInt8](repeating: 0, count: count)
                let copied = unsafe bytes.withUnsafeBytes { from in
                    unsafe copy.withUnsafeMutableBytes {
                        unsafe OffloadChecksum.copy(
                            UnsafeRawBufferPointer(rebasing: from[start..<start + count]), to: $0)
                    }
                }
                #expect(~OffloadChecksum.fold(sum).bigEndian == slowChecksum(slice) || slowChecksum(slice) == 0xffff)
                #expect(sum == copied)
                #expect(copy == slice)
            }
        }
        let ones = [UInt8](repeating: 0xff, count: 65_535)
        let sum = unsafe ones.withUnsafeBytes { unsafe OffloadChecksum.sum($0) }
        #expect(~OffloadChecksum.fold(sum).bigEndian == slowChecksum(ones))
    }

    @Test("a super-frame is cut into the frames its sender would have made", arguments: shapes)
    func segments(_ shape: TransportFrame) throws {
        var random = SeededGenerator(seed: 2)
        for size in [1, 7, 536, 1398, 1400, 8948] {
            for count in [1, size, size + 1, size * 3, size * 5 - 1, 60_000] where count <= size * 64 {
                var frame = shape
                frame.payload = randomBytes(count, &random)
                let made = try #require(cut(frame.bytes(partialChecksum: true), offload(frame, size: size)))
                #expect(made == frame.segments(size), "size \(size), payload \(count)")
            }
        }
    }

    @Test("a frame whose checksum was left to us gets it")
    func completes() {
        var random = SeededGenerator(seed: 3)
        for shape in Self.shapes {
            for count in [0, 1, 99, 1400] {
                var frame = shape
                frame.payload = randomBytes(count, &random)
                var bytes = frame.bytes(partialChecksum: true)
                let header = OffloadHeader(
                    checksumStart: frame.transportStart, checksumOffset: frame.isTCP ? 16 : 6)
                let isDone = unsafe bytes.withUnsafeMutableBytes { unsafe header.completeChecksum(of: $0) }
                #expect(isDone)
                #expect(bytes == frame.bytes())
            }
        }
    }

    @Test("headers that do not fit their frame are refused")
    func refuses() {
        var random = SeededGenerator(seed: 4)
        var frame = TransportFrame()
        frame.payload = randomBytes(3000, &random)
        let bytes = frame.bytes(partialChecksum: true)
        #expect(cut(bytes, .none) == nil)
        #expect(cut(bytes, offload(frame, size: 0)) == nil)
        #expect(cut(Array(bytes.prefix(40)), offload(frame, size: 1000)) == nil)
        var other = frame
        other.isIPv6 = true
        #expect(cut(bytes, offload(other, size: 1000)) == nil)
        other = frame
        other.isTCP = false
        #expect(cut(bytes, offload(other, size: 1000)) == nil)
        for start in [0, 13, 3053, 65_535] {
            var copy = bytes
            let header = OffloadHeader(checksumStart: start, checksumOffset: 16)
            let isDone = unsafe copy.withUnsafeMutableBytes { unsafe header.completeChecksum(of: $0) }
            #expect(!isDone)
            #expect(copy == bytes)
        }
        // Whatever the header and the frame say, nothing is read or written beyond them.
        for _ in 0..<3000 {
            let raw = randomBytes(OffloadHeader.length, &random)
            var damaged = Array(bytes.prefix(Int.random(in: 0...200, using: &random)))
            for _ in 0..<3 where !damaged.isEmpty {
                damaged[Int.random(in: damaged.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            var header = unsafe raw.withUnsafeBytes { unsafe OffloadHeader($0) }
            if Bool.random(using: &random) { header = offload(frame, size: Int.random(in: 1...70, using: &random)) }
            _ = cut(damaged, header)
            _ = unsafe damaged.withUnsafeMutableBytes { unsafe header.completeChecksum(of: $0) }
        }
    }

    @Test("segments that belong together become one super-frame", arguments: shapes)
    func merges(_ shape: TransportFrame) throws {
        guard shape.tag.isEmpty else { return }
        var random = SeededGenerator(seed: 5)
        var frame = shape
        frame.flags = shape.flags & 0x58
        frame.payload = randomBytes(20_001, &random)
        let segments = frame.segments(1400)
        let merged = coalesce(segments)
        let whole = try #require(merged.first)
        #expect(merged.count == 1)
        #expect(whole.count == segments.count)
        #expect(whole.frame == frame.bytes(partialChecksum: true))
        #expect(whole.offload == offload(frame, size: 1400))
        #expect(whole.frames == segments)
        let apart = coalesce(segments, tcp: !frame.isTCP, udp: frame.isTCP)
        #expect(apart.map(\.frame) == segments)
    }

    @Test("what the kernel would not merge is not merged")
    func keepsApart() {
        var random = SeededGenerator(seed: 6)
        let first = TransportFrame(options: [1, 1, 1, 1], payload: randomBytes(1000, &random))
        var next = first
        next.sequence &+= 1000
        next.identification &+= 1
        func isMerged(_ change: (inout TransportFrame) -> Void, damage: Int? = nil, from head: TransportFrame) -> Bool {
            var second = next
            change(&second)
            var bytes = second.bytes()
            if let damage { bytes[damage] ^= 1 }
            return coalesce([head.bytes(), bytes]).count == 1
        }
        #expect(isMerged({ _ in }, from: first))
        #expect(isMerged({ $0.flags |= 0x08 }, from: first))
        #expect(isMerged({ $0.payload.removeLast(500) }, from: first))
        #expect(isMerged({ $0.identification = first.identification }, from: first))
        let changes: [(inout TransportFrame) -> Void] = [
            { $0.sequence &+= 1 }, { $0.acknowledgement &+= 1 }, { $0.window &+= 1 }, { $0.hopLimit -= 1 },
            { $0.trafficClass = 3 }, { $0.dontFragment = false }, { $0.options = [2, 2, 2, 2] }, { $0.options = [] },
            { $0.flags = 0x11 }, { $0.flags = 0x14 }, { $0.flags = 0x90 }, { $0.flags = 0x50 }, { $0.flags = 0x12 },
            { $0.payload.append(1) }, { $0.payload = [] }, { $0.identification &+= 1 }, { $0.flow = 2 },
        ]
        for (index, change) in changes.enumerated() { #expect(!isMerged(change, from: first), "change \(index)") }
        for place in [14, 22, 24, 40, 50, 58, 500, 1057] {
            #expect(!isMerged({ _ in }, damage: place, from: first), "byte \(place)")
        }
        var pushed = first
        pushed.flags |= 0x08
        #expect(!isMerged({ _ in }, from: pushed))
    }

    @Test("whatever is merged, each flow is cut again into what arrived", arguments: 0..<60)
    func equivalence(_ seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var flows = (1...4).map { flow in
            TransportFrame(
                isIPv6: Bool.random(using: &random), isTCP: Int.random(in: 0..<3, using: &random) > 0,
                flow: UInt8(flow),
                trafficClass: UInt8.random(in: 0...3, using: &random), dontFragment: Bool.random(using: &random),
                options: Bool.random(using: &random) ? [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2] : [])
        }
        var arrived: [[UInt8]] = []
        for _ in 0..<Int.random(in: 1...120, using: &random) {
            let index = Int.random(in: 0..<flows.count, using: &random)
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                arrived.append(contentsOf: Self.next(&flows[index], &random))
            }
        }
        let merged = coalesce(arrived, capacity: Int.random(in: 1...400, using: &random))
        #expect(merged.reduce(0) { $0 + $1.count } == arrived.count)
        let left = merged.flatMap { $0.frames ?? [] }
        #expect(Self.byFlow(arrived) == Self.byFlow(left))
        #expect(merged.allSatisfy { $0.frame.count <= 65_535 + 54 && $0.count <= FrameCoalescer.maximumSegments })
    }

    /// The next frame of a flow, with an oddity now and then.
    private static func next(_ flow: inout TransportFrame, _ random: inout SeededGenerator) -> [[UInt8]] {
        flow.payload = randomBytes(Int.random(in: 0..<20, using: &random) == 0 ? 77 : 300, &random)
        flow.flags = 0x10
        var frame = flow
        var padding = 0
        var damage: Int?
        switch Int.random(in: 0..<30, using: &random) {
        case 0: frame.flags = 0x18
        case 1: frame.flags = 0x11
        case 2: frame.hopLimit = 9
        case 3: frame.payload = []
        case 4: frame.sequence &-= 300
        case 5: damage = Int.random(in: 14..<frame.bytes().count, using: &random)
        case 6: padding = 6
        case 7: frame.trafficClass ^= 3
        case 8: frame.window += 1
        case 9: frame.flags = 0x90
        case 10: frame.tag = [0x81, 0, 0, 5]
        default: break
        }
        if frame.isTCP { flow.sequence &+= UInt32(frame.payload.count) }
        flow.identification &+= 1
        var bytes = frame.bytes() + [UInt8](repeating: 0, count: padding)
        if let damage { bytes[damage] ^= 0x10 }
        return [bytes]
    }

    /// The frames of each flow in order, padding left out. A frame whose addresses or ports were damaged is of another.
    private static func byFlow(_ frames: [[UInt8]]) -> [[UInt8]: [[UInt8]]] {
        var flows: [[UInt8]: [[UInt8]]] = [:]
        for frame in frames {
            var end = frame.count
            var key = Array(frame[6..<14])
            if frame[12] == 0x08 {
                end = min(end, 14 + Int(frame[16]) << 8 + Int(frame[17]))
                key += frame[26..<38]
            }
            if frame[12] == 0x86 {
                end = min(end, 54 + Int(frame[18]) << 8 + Int(frame[19]))
                key += frame[22..<58]
            }
            flows[key, default: []].append(Array(frame[..<end]))
        }
        return flows
    }

    @Test("frames that are no flow's pass through as they are, and no flow passes a fragment")
    func passesThrough() {
        var random = SeededGenerator(seed: 8)
        var frame = TransportFrame(dontFragment: false, payload: randomBytes(800, &random))
        let first = frame.bytes()
        var fragment = first
        fragment[20] = 0x20
        frame.sequence &+= 800
        frame.identification &+= 1
        let second = frame.bytes()
        let arp = [UInt8](repeating: 0xff, count: 42)
        #expect(coalesce([first, fragment, second]).map(\.frame) == [first, fragment, second])
        #expect(coalesce([first, arp, second]).map(\.count) == [2, 1])
        #expect(coalesce([[], [1, 2, 3], arp]).map(\.frame) == [[], [1, 2, 3], arp])
        for _ in 0..<2000 {
            let length = Int.random(in: 0...120, using: &random)
            var damaged = Array(first.prefix(length))
            for _ in 0..<4 where !damaged.isEmpty {
                damaged[Int.random(in: damaged.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            #expect(coalesce([damaged, damaged]).flatMap { $0.frames ?? [] }.count == 2)
        }
    }
}
