import CLinux
import Glibc
import WeaveCore

extension PacketLoop {
    /// Puts a frame on its way to a neighbour: whole, cut into segments or fragments, or answered for its size.
    ///
    /// - Parameters:
    ///   - offload: what the kernel left to us; `.none` for frames off the wire.
    ///   - entry: the place of the neighbour's link.
    ///   - broadcast: it is one of several copies.
    mutating func transmit(
        _ frame: UnsafeMutableRawBufferPointer, _ offload: OffloadHeader, _ header: FrameHeader, source: PeerName,
        destination: PeerName, entry index: Int, broadcast: Bool
    ) {
        if offload.isSuperFrame {
            return unsafe transmitSuper(
                UnsafeRawBufferPointer(frame), offload, header, source: source, destination: destination,
                entry: index, broadcast: broadcast)
        }
        let decision = unsafe snapshot.entry(index).pointee.parameters.decision(for: header, broadcast: broadcast)
        switch decision {
        case .sendDontFragment, .send:
            guard
                let place = unsafe output.place(
                    frame.count, entry: index, dontFragment: decision == .sendDontFragment, source: source,
                    destination: destination)
            else { return }
            unsafe place.copyMemory(from: UnsafeRawBufferPointer(frame))
        case .fragment(let mtu):
            unsafe transmitFragments(
                UnsafeRawBufferPointer(frame), header, mtu: mtu, source: source, destination: destination,
                entry: index)
        case .answerTooBig(let mtu):
            unsafe answerTooBig(
                UnsafeRawBufferPointer(frame), header, mtu: mtu, source: source, destination: destination)
        case .drop(let reason): counts.add(reason)
        }
    }

    /// Cuts a super-frame straight into the packets that carry its segments.
    private mutating func transmitSuper(
        _ frame: UnsafeRawBufferPointer, _ offload: OffloadHeader, _ header: FrameHeader, source: PeerName,
        destination: PeerName, entry index: Int, broadcast: Bool
    ) {
        guard var segmenter = unsafe FrameSegmenter(frame, offload: offload) else {
            return counts.add(FrameDrop.malformed)
        }
        // All segments but the last are as long as the first, and have its flags.
        let first = unsafe FrameHeader(header, length: segmenter.nextLength)
        let decision = unsafe snapshot.entry(index).pointee.parameters.decision(for: first, broadcast: broadcast)
        switch decision {
        case .sendDontFragment, .send:
            let dontFragment = decision == .sendDontFragment
            while unsafe segmenter.nextLength > 0 {
                guard
                    let place = unsafe output.place(
                        segmenter.nextLength, entry: index, dontFragment: dontFragment, source: source,
                        destination: destination)
                else { return }
                unsafe segmenter.next(into: place)
                counts.add(.segmentsCut)
            }
        case .fragment(let mtu):
            while let length = unsafe nextSegment(&segmenter) {
                let segment = unsafe UnsafeRawBufferPointer(scratch.slice(0, length))
                guard let header = unsafe FrameHeader(segment) else { return }
                unsafe transmitFragments(
                    segment, header, mtu: mtu, source: source, destination: destination, entry: index)
            }
        case .answerTooBig(let mtu):
            // One answer is enough for all segments.
            guard let length = unsafe nextSegment(&segmenter) else { return }
            let segment = unsafe UnsafeRawBufferPointer(scratch.slice(0, length))
            guard let header = unsafe FrameHeader(segment) else { return }
            unsafe answerTooBig(segment, header, mtu: mtu, source: source, destination: destination)
        case .drop(let reason): counts.add(reason)
        }
    }

    private func nextSegment(_ segmenter: inout FrameSegmenter) -> Int? {
        let length = unsafe segmenter.nextLength
        guard length > 0, length <= Self.segmentRoom else { return nil }
        unsafe segmenter.next(into: scratch.slice(0, length))
        counts.add(.segmentsCut)
        return length
    }

    /// The part of the scratch memory for a segment; what follows is for fragments of it, or an answer.
    static var segmentRoom: Int { 66 * 1024 }

    @inline(never)
    private mutating func transmitFragments(
        _ frame: UnsafeRawBufferPointer, _ header: FrameHeader, mtu: Int, source: PeerName, destination: PeerName,
        entry index: Int
    ) {
        guard var fragmenter = unsafe IPv4Fragmenter(frame, header: header, mtu: mtu) else {
            return counts.add(FrameDrop.malformed)
        }
        counts.add(.framesFragmented)
        let room = unsafe scratch.slice(Self.segmentRoom, scratch.capacity - Self.segmentRoom)
        while let length = unsafe fragmenter.next(into: room) {
            let place = unsafe output.place(
                length, entry: index, dontFragment: true, source: source, destination: destination)
            guard let place = unsafe place else { return }
            unsafe place.copyMemory(from: UnsafeRawBufferPointer(rebasing: room[..<length]))
        }
    }

    /// Tells the source of a frame what fits: here when it was captured here, else by way of the overlay.
    @inline(never)
    private mutating func answerTooBig(
        _ frame: UnsafeRawBufferPointer, _ header: FrameHeader, mtu: Int, source: PeerName, destination: PeerName
    ) {
        let room = unsafe scratch.slice(Self.segmentRoom, scratch.capacity - Self.segmentRoom)
        let length =
            header.etherType == EtherType.ipv6
            ? unsafe PacketTooBig.answer(to: frame, header: header, mtu: mtu, into: room)
            : unsafe FragmentationNeeded.answer(to: frame, header: header, mtu: mtu, into: room)
        guard let length else { return counts.add(FrameDrop.tooBig) }
        counts.add(.tooBigAnswers)
        let answer = unsafe UnsafeMutableRawBufferPointer(rebasing: room[..<length])
        if source == fabric.ourself { return unsafe injection.write(answer) }
        guard let answerHeader = unsafe FrameHeader(UnsafeRawBufferPointer(answer)),
            let via = routes.nextHop(to: source)
        else { return counts.add(FrameDrop.noRoute) }
        let entry = snapshot.find(via)
        guard entry >= 0 else { return counts.add(FrameDrop.noRoute) }
        // An answer is small and may be fragmented: it is not answered itself.
        let decision = unsafe snapshot.entry(entry).pointee.parameters.decision(for: answerHeader, broadcast: false)
        guard decision == .send || decision == .sendDontFragment else { return counts.add(FrameDrop.tooBig) }
        let place = unsafe output.place(
            length, entry: entry, dontFragment: decision == .sendDontFragment, source: destination,
            destination: source)
        unsafe place?.copyMemory(from: UnsafeRawBufferPointer(answer))
    }
}

extension FrameHeader {
    /// The header of a segment of `length` bytes that was cut from a super-frame with this header.
    init(_ whole: FrameHeader, length: Int) {
        self.length = length
        destination = whole.destination
        source = whole.source
        etherType = whole.etherType
        frameClass = whole.frameClass
        ipHeaderLength = whole.ipHeaderLength
        ipTotalLength = whole.ipHeaderLength == 0 ? 0 : length - SleeveLayout.ethernetHeaderLength
        carriesRouterControl = whole.carriesRouterControl
    }
}
