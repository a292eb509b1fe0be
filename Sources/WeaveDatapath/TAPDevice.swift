import CLinux
import Glibc

/// A TAP device that could not be used.
public struct TAPDeviceError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The error number.
    public let code: Int32
    public let description: String
}

/// A TAP device, open: as many queues as are asked for when the device can have several. Frames are read and written whole,
/// behind the kernel's offload header when `hasHeader`.
struct TAPDevice: ~Copyable {
    /// The offload header (`virtio_net_hdr`) before each frame.
    static let headerLength = 10
    /// The largest frame that the kernel hands over, header included: 64 KiB and the link layer's part.
    static let maximumFrameLength = 65536 + 128

    let descriptors: [Int32]
    let name: String
    let hasHeader: Bool
    /// Which work the kernel leaves to us, as bits of TUNSETOFFLOAD.
    let offloads: UInt32

    /// Opens the device `name` with up to `queues` queues in the network namespace of the calling thread, making it when
    /// there is none. Offloads that the kernel does not know are done without.
    init(name: String, queues: Int, useHeader: Bool) throws(TAPDeviceError) {
        guard (1...15).contains(name.utf8.count) else {
            throw TAPDeviceError(code: EINVAL, description: "cannot open TAP device \(name): not a device name")
        }
        var attempts: [UInt32] = []
        let header = UInt32(WEAVE_TAP_VNET_HEADER.rawValue)
        let multiple = UInt32(WEAVE_TAP_MULTI_QUEUE.rawValue)
        for headers in useHeader ? [header, 0] : [0] {
            // A device that exists has several queues or has not, whatever we ask for.
            attempts += queues > 1 ? [headers | multiple, headers] : [headers, headers | multiple]
        }
        var failure: Int32 = EINVAL
        for options in attempts {
            let first = Self.open(name, options)
            guard first >= 0 else {
                failure = -first
                if failure == EINVAL { continue }
                break
            }
            var all = [first]
            while options & multiple != 0, all.count < queues {
                let next = Self.open(name, options)
                guard next >= 0 else { break }
                all.append(next)
            }
            self.init(descriptors: all, name: name, hasHeader: options & header != 0)
            return
        }
        throw TAPDeviceError(
            code: failure, description: "cannot open TAP device \(name): \(errorText(failure))")
    }

    /// Takes a device that is open already.
    init(descriptor: Int32) throws(TAPDeviceError) {
        let options = weave_tap_options(descriptor)
        guard options >= 0 else {
            throw TAPDeviceError(
                code: -options, description: "descriptor \(descriptor) is no TAP device: \(errorText(-options))")
        }
        let flags = fcntl(descriptor, F_GETFL)
        _ = fcntl(descriptor, F_SETFL, flags | O_NONBLOCK)
        let hasHeader = UInt32(options) & UInt32(WEAVE_TAP_VNET_HEADER.rawValue) != 0
        self.init(descriptors: [descriptor], name: "descriptor \(descriptor)", hasHeader: hasHeader)
    }

    private init(descriptors: [Int32], name: String, hasHeader: Bool) {
        self.descriptors = descriptors
        self.name = name
        self.hasHeader = hasHeader
        // A device that was used with a header remembers its offloads, and would leave work to us unsaid.
        if !hasHeader { _ = weave_tap_set_offloads(descriptors[0], 0) }
        offloads = hasHeader ? Self.enableOffloads(descriptors[0]) : 0
    }

    deinit { for descriptor in descriptors { close(descriptor) } }

    private static func open(_ name: String, _ options: UInt32) -> Int32 {
        var actual = [CChar](repeating: 0, count: 16)
        return unsafe weave_tap_attach(name, options, &actual)
    }

    private static func enableOffloads(_ descriptor: Int32) -> UInt32 {
        _ = weave_tap_set_header_length(descriptor, Int32(headerLength))
        let checksum = UInt32(WEAVE_TAP_OFFLOAD_CHECKSUM.rawValue)
        let tcp =
            checksum | UInt32(WEAVE_TAP_OFFLOAD_TCP4.rawValue) | UInt32(WEAVE_TAP_OFFLOAD_TCP6.rawValue)
            | UInt32(WEAVE_TAP_OFFLOAD_TCP_ECN.rawValue)
        let udp = UInt32(WEAVE_TAP_OFFLOAD_UDP4.rawValue) | UInt32(WEAVE_TAP_OFFLOAD_UDP6.rawValue)
        for offloads in [tcp | udp, tcp, checksum] where weave_tap_set_offloads(descriptor, offloads) >= 0 {
            return offloads
        }
        _ = weave_tap_set_offloads(descriptor, 0)
        return 0
    }

    /// Whether the kernel takes and gives UDP super-frames.
    var hasUDPOffload: Bool { offloads & UInt32(WEAVE_TAP_OFFLOAD_UDP4.rawValue) != 0 }
    /// Whether the kernel takes and gives TCP super-frames.
    var hasTCPOffload: Bool { offloads & UInt32(WEAVE_TAP_OFFLOAD_TCP4.rawValue) != 0 }
}

/// The text of an error number.
func errorText(_ code: Int32) -> String {
    var buffer = [CChar](repeating: 0, count: 128)
    guard unsafe strerror_r(code, &buffer, buffer.count) == 0 else { return "error \(code)" }
    let text = buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    return String(decoding: text, as: UTF8.self).lowercased()
}
