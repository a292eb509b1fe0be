import Foundation

/// A blocking HTTP client on a Unix socket, one connection each: what a program beside the daemon would be. Fast enough
/// to load it, and with no library between the test and the bytes.
public final class ControlClient {
    /// The answer to a request.
    public struct Answer: Sendable, Equatable {
        public var status: Int
        public var body: String
    }

    private let descriptor: Int32
    private var received: [UInt8] = []

    /// Connects.
    ///
    /// - Throws: `LabShell.Failure` when nobody listens.
    public init(path: String, seconds: Int = 10) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        let connected = unsafe withUnsafeMutableBytes(of: &address.sun_path) { room in
            guard bytes.count < room.count else { return false }
            unsafe room.copyBytes(from: bytes)
            return true
        }
        var limit = timeval(tv_sec: seconds, tv_usec: 0)
        _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let result = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard connected, result == 0 else {
            let reason = unsafe String(cString: strerror(errno))
            close(descriptor)
            throw LabShell.Failure(description: "cannot connect to \(path): \(reason)")
        }
    }

    deinit { close(descriptor) }

    /// Sends a request without a body and reads its answer.
    ///
    /// - Throws: `LabShell.Failure` when the connection ends first, or nothing comes in time.
    public func request(_ method: String, _ path: String) throws -> Answer {
        try send(Array("\(method) \(path) HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".utf8))
        let head = try take(through: Array("\r\n\r\n".utf8))
        let lines = String(decoding: head, as: UTF8.self).split(separator: "\r\n")
        guard let status = lines.first?.split(separator: " ").dropFirst().first.flatMap({ Int($0) }) else {
            throw LabShell.Failure(description: "no HTTP answer: \(String(decoding: head, as: UTF8.self))")
        }
        func header(_ name: String) -> String? {
            lines.first { $0.lowercased().hasPrefix(name + ":") }?.split(separator: ":", maxSplits: 1).last
                .map { $0.trimmingCharacters(in: .whitespaces) }
        }
        var body: [UInt8] = []
        if header("transfer-encoding") == "chunked" {
            while true {
                let size = String(decoding: try take(through: [13, 10]).dropLast(2), as: UTF8.self)
                guard let count = Int(size, radix: 16) else {
                    throw LabShell.Failure(description: "no chunk size: \(size)")
                }
                body += try take(count: count + 2).dropLast(2)
                if count == 0 { break }
            }
        } else {
            body = try take(count: header("content-length").flatMap { Int($0) } ?? 0)
        }
        return Answer(status: status, body: String(decoding: body, as: UTF8.self))
    }

    private func send(_ bytes: [UInt8]) throws {
        let flags = Int32(MSG_NOSIGNAL)
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.send(descriptor, $0.baseAddress, $0.count, flags) }
            guard count > 0 else { throw Self.ended }
            rest = rest.dropFirst(count)
        }
    }

    private func take(through mark: [UInt8]) throws -> [UInt8] {
        while true {
            if let end = received.firstRange(of: mark)?.upperBound {
                defer { received.removeFirst(end) }
                return Array(received[..<end])
            }
            try receive()
        }
    }

    private func take(count: Int) throws -> [UInt8] {
        while received.count < count { try receive() }
        defer { received.removeFirst(count) }
        return Array(received[..<count])
    }

    private func receive() throws {
        var room = [UInt8](repeating: 0, count: 4096)
        let count = unsafe recv(descriptor, &room, room.count, 0)
        guard count > 0 else { throw Self.ended }
        received += room[..<count]
    }

    private static var ended: LabShell.Failure {
        LabShell.Failure(description: "the daemon ended the connection, or does not answer")
    }
}
