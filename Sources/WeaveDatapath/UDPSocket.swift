import CLinux
import Glibc
import WeaveCore

/// The UDP sockets of one packet thread: all bound to the one port, so that every packet comes from it.
///
/// `receiving` also sends what the kernel may fragment; `dontFragment` sends with DF and, when steering works, receives
/// nothing.
struct UDPSocketPair: Sendable {
    var receiving: Int32
    var dontFragment: Int32
    var receivesMerged: Bool
}

/// UDP sockets that could not be made.
public struct UDPSocketError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The error number.
    public let code: Int32
    public let description: String
}

/// The sockets of all packet threads.
final class UDPSockets: Sendable {
    /// Room for some milliseconds of a fast network while the thread does other work.
    static let bufferLength: Int32 = 8 << 20

    let pairs: [UDPSocketPair]
    let port: UInt16
    /// Whether the packets of one peer all come to one thread.
    let isSteered: Bool
    /// Asks for path MTUs; sends nothing.
    let mtuProbe: Int32

    /// Binds sockets for `threads` threads in the network namespace of the calling thread. Port 0 chooses one.
    init(
        address: IPv4Address, port: UInt16, threads: Int, useReceiveOffload: Bool, useSteering: Bool
    ) throws(UDPSocketError) {
        var opened: [Int32] = []
        var bound = port
        func closeAll() { for descriptor in opened { close(descriptor) } }
        // The receivers come first: the steering program names sockets by their order.
        for dontFragment in [false, true] {
            for _ in 0..<threads {
                let descriptor = weave_udp_open(address.rawValue.bigEndian, bound, dontFragment ? 1 : 0)
                guard descriptor >= 0 else {
                    closeAll()
                    throw UDPSocketError(
                        code: -descriptor,
                        description: "cannot bind UDP \(address):\(bound): \(errorText(-descriptor))")
                }
                opened.append(descriptor)
                weave_udp_set_buffers(descriptor, Self.bufferLength)
                if bound == 0 { bound = UInt16(truncatingIfNeeded: weave_udp_port(descriptor)) }
            }
        }
        isSteered = useSteering && weave_udp_steer(opened[0], UInt32(threads)) >= 0
        let probe = weave_udp_open(IPv4Address.any.rawValue, 0, 1)
        guard probe >= 0 else {
            closeAll()
            throw UDPSocketError(code: -probe, description: "cannot make a UDP socket: \(errorText(-probe))")
        }
        mtuProbe = probe
        self.port = bound
        pairs = (0..<threads).map { index in
            let receiving = opened[index]
            let merged = useReceiveOffload && weave_udp_enable_gro(receiving) >= 0
            return UDPSocketPair(
                receiving: receiving, dontFragment: opened[threads + index], receivesMerged: merged)
        }
    }

    deinit {
        for pair in pairs {
            close(pair.receiving)
            close(pair.dontFragment)
        }
        close(mtuProbe)
    }

    /// The thread to which the packets of a sender come.
    static func owner(_ name: UInt64, threads: Int) -> Int {
        Int(truncatingIfNeeded: UInt32(truncatingIfNeeded: name)) % threads
    }
}
