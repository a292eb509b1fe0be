import CLinux
import Glibc
import Synchronization
import WeaveCore

/// A frame read from the local device.
struct CapturedFrame {
    var offset: Int32
    var length: Int32
    var offload: OffloadHeader
    var header: FrameHeader
    var action: CaptureDecision
}

extension PacketLoop {
    /// Reads what a queue of the local device has, up to a batch, and sends it on its way.
    mutating func capture(_ queue: Int32) {
        readFrames(queue)
        guard captured.count > 0 else { return }
        batchCount += captured.count
        decideCaptured()
        for index in 0..<captured.count {
            let frame = captured[index]
            let bytes = unsafe captureSlab.slice(Int(frame.offset), Int(frame.length))
            if !frame.offload.isSuperFrame, unsafe !frame.offload.completeChecksum(of: bytes) {
                counts.add(FrameDrop.malformed)
                continue
            }
            switch frame.action {
            case .drop(let reason): counts.add(reason)
            case .flood:
                for hop in 0..<snapshot.ownHopCount {
                    let entry = snapshot.ownHop(hop)
                    let name = unsafe snapshot.entry(entry).pointee.name
                    unsafe transmit(
                        bytes, frame.offload, frame.header, source: fabric.ourself, destination: name, entry: entry,
                        broadcast: true)
                }
            case .unicast(let peer, let via):
                let entry = snapshot.find(via)
                if entry >= 0 {
                    unsafe transmit(
                        bytes, frame.offload, frame.header, source: fabric.ourself, destination: peer, entry: entry,
                        broadcast: false)
                } else {
                    counts.add(FrameDrop.noRoute)
                }
            }
            if output.isDue { output.flush() }
        }
        captured.removeAll()
    }

    private mutating func readFrames(_ queue: Int32) {
        let headerLength = setup.hasHeader ? TAPDevice.headerLength : 0
        var offset = 0
        while !captured.isFull, offset < Self.captureLength {
            let place = unsafe captureSlab.slice(offset, TAPDevice.maximumFrameLength)
            let length = unsafe read(queue, place.baseAddress, place.count)
            guard length > 0 else { return }
            counts.add(.framesCaptured)
            counts.add(.bytesCaptured, length - headerLength)
            batchBytes += length - headerLength
            let frame = unsafe UnsafeRawBufferPointer(place)[headerLength..<max(length, headerLength)]
            guard let header = unsafe FrameHeader(UnsafeRawBufferPointer(rebasing: frame)) else {
                counts.add(FrameDrop.malformed)
                continue
            }
            let offload = setup.hasHeader ? unsafe OffloadHeader(UnsafeRawBufferPointer(place)) : .none
            captured.append(
                CapturedFrame(
                    offset: Int32(truncatingIfNeeded: offset + headerLength),
                    length: Int32(truncatingIfNeeded: length - headerLength), offload: offload, header: header,
                    action: .flood))
            offset = PacketSlab.aligned(offset + length)
        }
    }

    private mutating func decideCaptured() {
        let (now, routes) = (now, routes)
        fabric.macs.withLock { table in
            var last = -1
            for index in 0..<captured.count {
                let header = captured[index].header
                // As for frames off the wire: the next of a run goes the same way.
                if last >= 0, header.hasSameWay(as: captured[last].header) {
                    captured[index].action = captured[last].action
                    continue
                }
                let decision = ForwardingDecision.captured(header, routes: routes, table: &table, now: now)
                captured[index].action = decision.action
                last = decision.learned.isSettled ? index : -1
                if decision.learned != .unchanged { reportLearned(decision.learned, header, at: fabric.ourself) }
            }
        }
    }

    @inline(never)
    func reportLearned(_ learned: MACTable.Learned, _ header: FrameHeader, at peer: PeerName) {
        switch learned {
        case .unchanged, .invalid: break
        case .new: reports.complain(.discovered(header.source, at: peer))
        case .moved(let from): reports.complain(.moved(header.source, from: from, to: peer))
        case .held(let holder):
            if peer == fabric.ourself {
                reports.complain(.foreignSource(header.source, to: header.destination, at: holder))
            }
        }
    }
}

extension FrameHeader {
    /// Whether two frames from one place, at one time, are decided alike.
    @inline(__always)
    func hasSameWay(as other: FrameHeader) -> Bool {
        source == other.source && destination == other.destination && etherType == other.etherType
            && carriesRouterControl == other.carriesRouterControl
    }
}

extension MACTable.Learned {
    /// Whether learning the same once more changes nothing and is no news.
    var isSettled: Bool {
        switch self {
        case .unchanged, .new, .moved: true
        case .held, .invalid: false
        }
    }
}
