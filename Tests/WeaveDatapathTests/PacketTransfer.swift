import Glibc
import Synchronization
import WeaveCore
import WeaveNetlink
import WeaveTestKit

@testable import WeaveDatapath

/// TCP and UDP between two namespaces with content that is checked.
enum PacketTransfer {
    private static func address(_ text: String, _ port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = (IPv4Address(text) ?? .any).rawValue.bigEndian
        return address
    }

    private static func with<Result>(_ address: sockaddr_in, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result)
        -> Result
    {
        unsafe withUnsafePointer(to: address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    private static func setTimeout(_ socket: Int32, seconds: Int) {
        var time = timeval(tv_sec: seconds, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        _ = unsafe setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, size)
        _ = unsafe setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &time, size)
    }

    private static func pattern(_ count: Int, seed: UInt64) -> [UInt8] {
        var generator = SeededGenerator(seed: seed)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count + 8)
        while bytes.count < count { bytes.appendInteger(generator.next(), byteCount: 8) }
        return Array(bytes.prefix(count))
    }

    private static func listener(
        in namespace: NetworkNamespace, address text: String, port: UInt16
    ) throws -> Int32 {
        try namespace.run { () -> Int32 in
            let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            setTimeout(listener, seconds: 20)
            _ = unsafe with(address(text, port)) { unsafe bind(listener, $0, $1) }
            listen(listener, 1)
            return listener
        }
    }

    /// Sends seeded bytes over TCP and returns whether exactly they arrived.
    static func tcp(
        from: NetworkNamespace, to: NetworkNamespace, address text: String, count: Int, seed: UInt64
    ) throws -> Bool {
        let listener = try listener(in: to, address: text, port: 5001)
        defer { close(listener) }
        let bytes = pattern(count, seed: seed)
        let sender = PlainThread(name: "test-sender") {
            _ = try? from.run {
                let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
                defer { close(client) }
                setTimeout(client, seconds: 20)
                guard unsafe with(address(text, 5001), { unsafe connect(client, $0, $1) }) == 0 else { return }
                var offset = 0
                while offset < bytes.count {
                    let sent = unsafe bytes.withUnsafeBytes { raw in
                        unsafe Glibc.send(client, raw.baseAddress.map { unsafe $0 + offset }, raw.count - offset, 0)
                    }
                    guard sent > 0 else { return }
                    offset += sent
                }
            }
        }
        let accepted = accept(listener, nil, nil)
        defer {
            close(accepted)
            sender?.join()
        }
        guard accepted >= 0 else { return false }
        setTimeout(accepted, seconds: 20)
        var buffer = [UInt8](repeating: 0, count: 1 << 18)
        var received = 0
        while true {
            let count = unsafe recv(accepted, &buffer, buffer.count, 0)
            guard count > 0 else { break }
            guard received + count <= bytes.count, buffer[..<count] == bytes[received..<received + count] else {
                return false
            }
            received += count
        }
        return received == bytes.count
    }

    /// Sends datagrams of several sizes, and returns how many arrived as they were.
    static func udp(
        from: NetworkNamespace, to: NetworkNamespace, address text: String, sizes: [Int], seed: UInt64
    ) throws -> Int {
        let receiver = try to.run { () -> Int32 in
            let receiver = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
            setTimeout(receiver, seconds: 1)
            _ = unsafe with(address(text, 5002)) { unsafe bind(receiver, $0, $1) }
            return receiver
        }
        defer { close(receiver) }
        try send(from: from, to: text, port: 5002, sizes.map { pattern($0, seed: seed &+ UInt64($0)) })
        var intact = 0
        var buffer = [UInt8](repeating: 0, count: 65536)
        for _ in sizes {
            let count = unsafe recv(receiver, &buffer, buffer.count, 0)
            guard count >= 0 else { break }
            if buffer[..<count] == pattern(count, seed: seed &+ UInt64(count))[...] { intact += 1 }
        }
        return intact
    }

    /// Sends datagrams, which may be fragmented.
    static func send(from: NetworkNamespace, to text: String, port: UInt16, _ datagrams: [[UInt8]]) throws {
        try from.run {
            let sender = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
            defer { close(sender) }
            var never = Int32(IP_PMTUDISC_DONT)
            _ = unsafe setsockopt(
                sender, Int32(IPPROTO_IP), IP_MTU_DISCOVER, &never, socklen_t(MemoryLayout<Int32>.size))
            for datagram in datagrams {
                _ = unsafe with(address(text, port)) { remote, length in
                    unsafe datagram.withUnsafeBytes {
                        unsafe sendto(sender, $0.baseAddress, $0.count, 0, remote, length)
                    }
                }
            }
        }
    }

    /// Ends what runs until it is told.
    final class Stop: Sendable {
        private let stopped = Atomic<Bool>(false)
        var isNow: Bool { stopped.load(ordering: .relaxed) }
        func now() { stopped.store(true, ordering: .relaxed) }
    }

    /// Sends bytes over TCP as fast as they go, to a reader that drops them. It ends by itself after ten minutes.
    static func stream(from: NetworkNamespace, to: NetworkNamespace, address text: String, until stop: Stop) throws {
        let listener = try listener(in: to, address: text, port: 5003)
        defer { close(listener) }
        let reader = PlainThread(name: "test-reader") {
            let accepted = accept(listener, nil, nil)
            guard accepted >= 0 else { return }
            defer { close(accepted) }
            setTimeout(accepted, seconds: 20)
            var buffer = [UInt8](repeating: 0, count: 1 << 18)
            while unsafe recv(accepted, &buffer, buffer.count, 0) > 0 {}
        }
        defer { reader?.join() }
        try from.run {
            let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(client) }
            setTimeout(client, seconds: 20)
            guard unsafe with(address(text, 5003), { unsafe connect(client, $0, $1) }) == 0 else { return }
            let bytes = [UInt8](repeating: 0x5a, count: 1 << 17)
            let end = monotonicNow() + .seconds(600)
            while !stop.isNow, monotonicNow() < end {
                let sent = unsafe bytes.withUnsafeBytes { unsafe Glibc.send(client, $0.baseAddress, $0.count, 0) }
                guard sent > 0 else { return }
            }
        }
    }

    /// Sends datagrams of `size` bytes as fast as they go, to a port that nobody reads. It ends by itself after ten
    /// minutes.
    static func flood(from: NetworkNamespace, to text: String, size: Int, until stop: Stop) throws {
        try from.run {
            let sender = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
            defer { close(sender) }
            let bytes = [UInt8](repeating: 0x5a, count: size)
            let end = monotonicNow() + .seconds(600)
            while !stop.isNow, monotonicNow() < end {
                _ = unsafe with(address(text, 5004)) { remote, length in
                    unsafe bytes.withUnsafeBytes { unsafe sendto(sender, $0.baseAddress, $0.count, 0, remote, length) }
                }
            }
        }
    }
}
