import CLinux
import Glibc
import Logging
import WeaveCore
import WeaveCrypto

extension SleeveControlLoop {
    // MARK: - Sending

    /// Sends a special frame in a packet of its own.
    mutating func send(_ frame: SpecialFrame, dontFragment: Bool, _ link: Link) {
        let parameters = link.link.parameters
        guard let remote = parameters.remoteAddress, let address = remote.address.v4 else { return }
        let source = link.connection.localAddress.address.v4 ?? .any
        guard let length = build(frame, link), link.packetLink.isEncrypted == parameters.encrypted else { return }
        let packet = unsafe slab.slice(0, length)
        if let sealer = link.packetLink.sealer {
            do {
                try unsafe sealer.seal(packet, dontFragment: dontFragment)
            } catch {
                return logger.warning("\(link.prefix): \(error)")
            }
        }
        var message = weave_outgoing(
            offset: 0, length: UInt32(truncatingIfNeeded: length),
            address: address.rawValue.bigEndian, source: source.rawValue.bigEndian, port: remote.port,
            segment_size: 0)
        let pair = resources.sockets.pairs[0]
        let descriptor = dontFragment ? pair.dontFragment : pair.receiving
        counts.add(.datagramsSent)
        counts.add(.bytesSent, length)
        counts.add(.sendCalls)
        var sent = unsafe weave_udp_send(descriptor, slab.base, &message, 1)
        // The first error may be about an earlier packet.
        if sent < 0, sent != -EMSGSIZE { sent = unsafe weave_udp_send(descriptor, slab.base, &message, 1) }
        guard sent < 0 else { return }
        counts.add(.sendErrors)
        let id = link.connection.id
        if sent == -EMSGSIZE {
            onTooBig(id)
        } else {
            onSendFailure(id, code: -sent)
        }
    }

    private func build(_ frame: SpecialFrame, _ link: Link) -> Int? {
        guard
            var writer = unsafe SleevePacketWriter(
                slab.bytes, sender: fabric.ourself, encrypted: link.packetLink.isEncrypted,
                limit: SleeveLayout.maximumPacketLength),
            let place = unsafe writer.append(
                source: fabric.ourself, destination: link.connection.remoteName, frameLength: frame.length),
            unsafe frame.write(to: place)
        else { return nil }
        return unsafe writer.length
    }

    private mutating func onTooBig(_ id: UInt64) {
        guard let link = links[id], let remote = link.link.parameters.remoteAddress, let address = remote.address.v4
        else { return }
        let mtu = weave_udp_path_mtu(resources.sockets.mtuProbe, address.rawValue.bigEndian, remote.port)
        // 68 is the smallest MTU that IPv4 knows; anything less is no answer.
        guard (68...65535).contains(mtu) else { return }
        update(id) { $0.onMessageTooBig(pathMTU: Int(mtu), $1) }
    }

    private mutating func onSendFailure(_ id: UInt64, code: Int32) {
        guard let link = links[id] else { return }
        let local = link.connection.localAddress.address
        let remote = (link.link.remoteAddress ?? link.connection.remoteAddress).address
        let text = "write ip4 \(local)->\(remote): write: \(errorText(code))"
        update(id) { $0.onSendError(SendFailure(code: code, text: text), $1) }
    }

    // MARK: - Reports of packet threads

    mutating func handle(_ event: PacketEvent) {
        switch event {
        case .special(let id, let frame, let origin): update(id) { $0.onSpecial(frame, from: origin, $1) }
        case .tooBig(let id): onTooBig(id)
        case .pathLimit(let address):
            let limited = links.values.filter {
                $0.link.remoteAddress?.address.v4?.rawValue.bigEndian == address
            }
            for link in limited { onTooBig(link.connection.id) }
        case .sendFailed(let id, let code): onSendFailure(id, code: code)
        case .discovered(let mac, let peer):
            if peer == fabric.ourself {
                logger.debug("Discovered local MAC \(mac)")
            } else {
                logger.info("Discovered remote MAC \(mac) at \(peer)")
            }
        case .moved(let mac, let from, let to): logger.info("MAC \(mac), was at \(from), is at \(to)")
        case .foreignSource(let mac, let destination, let peer):
            logger.warning(
                "Captured frame from MAC (\(mac)) to (\(destination)) associated with another peer \(peer)")
        case .damaged(let id, let origin, let text):
            guard let link = links[id] else { return }
            logger.warning("sleeve ->[\(origin)|\(link.peer)]: Failed to decode packet: \(text)")
        case .short(let origin): logger.warning("ignoring too short UDP packet from \(origin)")
        case .dropped(let id, _, let length, let limit):
            guard let link = links[id] else { return }
            let text = unsafe SleevePacketWriter.tooBigText(frameLength: length, limit: limit)
            logger.warning("\(link.prefix): \(text)")
        case .deviceLost:
            logger.error("Device \(resources.device.name) was removed: no frames are captured from it any more")
        case .segmentationRefused(let code):
            logger.info("UDP_SEGMENT is refused (\(errorText(code))): datagrams are sent one by one")
        }
    }
}
