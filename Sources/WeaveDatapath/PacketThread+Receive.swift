import CLinux
import Glibc
import Synchronization
import WeaveCore
import WeaveCrypto

/// The memory into which one packet thread receives, a batch of datagrams at a time. Used by that thread alone.
@safe final class PacketReceiver {
    /// How many datagrams (or merged ones) are received in one go. Fewer merged ones: each may have 64 KiB.
    static let batch = 64
    static let mergedBatch = 8
    /// The room for one datagram: the largest, and some more so that places do not share cache sets.
    static let stride = 65536 + 256

    let slab: PacketSlab
    let incoming: PacketList<weave_incoming>
    private let receiver: OpaquePointer

    /// Nil when the system has no memory left.
    init?(merged: Bool) {
        let batch = merged ? Self.mergedBatch : Self.batch
        let slab = PacketSlab(capacity: batch * Self.stride)
        guard let base = unsafe slab.bytes.assumingMemoryBound(to: UInt8.self).baseAddress,
            let receiver = unsafe weave_receiver_create(base, Self.stride, UInt32(batch))
        else { return nil }
        self.slab = slab
        incoming = PacketList(capacity: batch)
        unsafe self.receiver = receiver
    }

    deinit { unsafe weave_receiver_free(receiver) }

    /// Receives what is there; returns how many messages, or a negated error number.
    func receive(_ descriptor: Int32) -> Int {
        unsafe Int(weave_receiver_receive(receiver, descriptor, incoming.pointer))
    }
}

/// A frame inside a datagram.
struct ReceivedFrame {
    var offset: Int32
    var length: Int32
    var entry: Int32
    /// Which of the messages received it came in.
    var message: Int32
    var source: PeerName
    var destination: PeerName
    var header: FrameHeader
    var action: OverlayDecision

    /// Whether another frame of the batch leads to the same decision as this one.
    @inline(__always)
    func hasSameWay(as other: ReceivedFrame) -> Bool {
        entry == other.entry && source == other.source && destination == other.destination
            && header.hasSameWay(as: other.header)
    }
}

extension PacketLoop {
    /// Receives what is there, up to a batch, and carries it on.
    mutating func receive(_ descriptor: Int32) {
        counts.add(.receiveCalls)
        let count = receiver.receive(descriptor)
        guard count > 0 else { return }
        batchCount += count
        for index in 0..<count { split(index) }
        carryReceived()
        injection.flush()
    }

    /// Takes a message apart into the datagrams that the kernel put together.
    private mutating func split(_ index: Int) {
        let message = receiver.incoming[index]
        let length = Int(message.length)
        let size = message.segment_size > 0 ? Int(message.segment_size) : max(length, 1)
        let base = index * PacketReceiver.stride
        counts.add(.bytesReceived, length)
        batchBytes += length
        if message.truncated != 0 { return counts.add(.truncatedDatagrams) }
        var tally = LinkTally()
        var offset = 0
        repeat {
            let part = min(size, length - offset)
            counts.add(.datagramsReceived)
            open(base + offset, part, message: index, tally: &tally)
            offset += part
        } while offset < length
        settle(&tally)
    }

    /// What one link carried of a message: added to the counts that threads share once, not for each datagram.
    private struct LinkTally {
        var entry = -1
        var datagrams: UInt64 = 0
        var bytes: UInt64 = 0
    }

    private func settle(_ tally: inout LinkTally) {
        guard tally.entry >= 0 else { return }
        let done = tally
        unsafe snapshot.entry(done.entry).pointee.withLink {
            $0.datagramsReceived.wrappingAdd(done.datagrams, ordering: .relaxed)
            $0.bytesReceived.wrappingAdd(done.bytes, ordering: .relaxed)
        }
        tally = LinkTally()
    }

    private mutating func open(_ offset: Int, _ length: Int, message: Int, tally: inout LinkTally) {
        guard length >= SleeveLayout.senderNameLength else {
            counts.add(.shortDatagrams)
            return reports.complain(.short(from: origin(message)))
        }
        let packet = unsafe receiver.slab.slice(offset, length)
        let sender = unsafe PeerName(truncating: FrameBytes.load48(UnsafeRawBufferPointer(packet), 0))
        let index = snapshot.find(sender)
        guard index >= 0 else { return counts.add(.unknownSenders) }
        let entry = unsafe snapshot.entry(index)
        switch unsafe entry.pointee.open(packet) {
        case .accepted: break
        case .replay: return counts.add(.replays)
        case let failure:
            counts.add(.undecryptable)
            return damaged(index, message, failure.errorText ?? "")
        }
        if tally.entry != index {
            settle(&tally)
            tally.entry = index
        }
        tally.datagrams &+= 1
        tally.bytes &+= UInt64(truncatingIfNeeded: length)
        unsafe readRecords(packet, offset, headerLength: entry.pointee.headerLength, entry: index, message: message)
    }

    private mutating func readRecords(
        _ packet: UnsafeMutableRawBufferPointer, _ offset: Int, headerLength: Int, entry: Int, message: Int
    ) {
        var reader = unsafe SleeveRecordReader(UnsafeRawBufferPointer(packet), from: headerLength)
        do throws(SleeveDecodeError) {
            while let record = try unsafe reader.next() {
                let frame = unsafe UnsafeRawBufferPointer(rebasing: packet[record.frame])
                guard let header = unsafe FrameHeader(frame) else {
                    counts.add(FrameDrop.malformed)
                    continue
                }
                if received.isFull { carryReceived() }
                received.append(
                    ReceivedFrame(
                        offset: Int32(truncatingIfNeeded: offset + record.frame.lowerBound),
                        length: Int32(truncatingIfNeeded: record.frame.count),
                        entry: Int32(truncatingIfNeeded: entry), message: Int32(truncatingIfNeeded: message),
                        source: record.source, destination: record.destination, header: header, action: .deliver))
            }
        } catch {
            counts.add(.malformedDatagrams)
            damaged(entry, message, error.reason)
        }
    }

    @inline(never)
    private func damaged(_ index: Int, _ message: Int, _ text: String) {
        let link = unsafe snapshot.entry(index).pointee.withLink { $0.id }
        reports.complain(.damaged(link: link, from: origin(message), text: text))
    }

    private func origin(_ message: Int) -> Endpoint {
        let from = receiver.incoming[message]
        return Endpoint(.v4(IPv4Address(rawValue: UInt32(bigEndian: from.address))), port: from.port)
    }

    // MARK: - Decisions

    private mutating func carryReceived() {
        guard received.count > 0 else { return }
        decideReceived()
        for index in 0..<received.count {
            let frame = received[index]
            let bytes = unsafe receiver.slab.slice(Int(frame.offset), Int(frame.length))
            switch frame.action {
            case .drop(let reason): counts.add(reason)
            case .special: unsafe reportSpecial(frame, UnsafeRawBufferPointer(bytes))
            case .deliver: unsafe injection.add(bytes)
            case .relay(let via):
                counts.add(.framesRelayed)
                let entry = snapshot.find(via)
                if entry >= 0 {
                    unsafe transmit(
                        bytes, .none, frame.header, source: frame.source, destination: frame.destination,
                        entry: entry, broadcast: false)
                } else {
                    counts.add(FrameDrop.noRoute)
                }
            case .deliverAndFlood:
                for entry in floodHops(from: frame.source) {
                    counts.add(.framesRelayed)
                    let name = unsafe snapshot.entry(entry).pointee.name
                    unsafe transmit(
                        bytes, .none, frame.header, source: frame.source, destination: name, entry: entry,
                        broadcast: true)
                }
                unsafe injection.add(bytes)
            }
            if output.isDue { output.flush() }
        }
        // What injection holds lies in the places of this batch.
        injection.flush()
        received.removeAll()
    }

    private mutating func decideReceived() {
        let (now, routes) = (now, routes)
        fabric.macs.withLock { table in
            var last = -1
            for index in 0..<received.count {
                let frame = received[index]
                // Frames of one flow come in runs: what was decided for one goes for the next.
                if last >= 0, frame.hasSameWay(as: received[last]) {
                    received[index].action = received[last].action
                    continue
                }
                let neighbour = unsafe snapshot.entry(Int(frame.entry)).pointee.name
                let decision = ForwardingDecision.received(
                    frame.header, source: frame.source, destination: frame.destination, from: neighbour,
                    routes: routes, table: &table, now: now)
                received[index].action = decision.action
                last = decision.learned.isSettled ? index : -1
                if decision.learned != .unchanged { reportLearned(decision.learned, frame.header, at: frame.source) }
            }
        }
    }

    @inline(never)
    private func reportSpecial(_ frame: ReceivedFrame, _ bytes: UnsafeRawBufferPointer) {
        guard let special = unsafe SpecialFrame(bytes) else { return counts.add(FrameDrop.malformed) }
        let link = unsafe snapshot.entry(Int(frame.entry)).pointee.withLink { $0.id }
        reports.add(.special(link: link, special, from: origin(Int(frame.message))))
    }
}
