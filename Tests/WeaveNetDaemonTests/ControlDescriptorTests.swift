import Foundation
import Logging
import ServiceLifecycle
import Testing
import WeaveTestKit

@testable import WeaveNetDaemon

/// Running out of descriptors happens to the whole process, so it happens in one of its own.
@Suite("The control interface out of descriptors", .timeLimit(.minutes(2)))
struct ControlDescriptorTests {
    @Test("a listener that cannot accept neither spins nor ends, and serves again when there are descriptors")
    func acceptErrors() async {
        await #expect(processExitsWith: .success) {
            let port = UInt16.random(in: 10_000...30_000)
            let lines = Lines()
            let server = ControlServer(
                address: .tcp(host: "127.0.0.1", port: Int(port)),
                routes: ControlRoutes(control: FakeControl(), scope: .control),
                logger: Logger(label: "test") { _ in DaemonLog(level: .info) { lines.append($0) } })
            let group = ServiceGroup(
                configuration: .init(services: [.init(service: server)], logger: Logger(label: "group")))
            let serving = Task { try await group.run() }
            for _ in 0..<500 where !lines.all.contains(where: { $0.contains("Listening for HTTP") }) {
                try await Task.sleep(for: .milliseconds(10))
            }
            let first = try #require(PlainClient(port: port))
            #expect(first.ask("/status").hasPrefix("HTTP/1.1 200"))

            let usual = try Descriptors.limit()
            try Descriptors.setLimit(Descriptors.highest() + 8)
            let fillers = (0..<1000).map { _ in dup(0) }.prefix { $0 >= 0 }
            // Three numbers are left, and clients of this process want one as well as the server.
            for filler in fillers.suffix(3) { close(filler) }
            let clients = (0..<8).map { _ in PlainClient(port: port) }.compactMap { $0 }
            #expect((1...3).contains(clients.count), "\(clients.count) clients")
            let before = ProcessorTime.processSeconds()
            try await Task.sleep(for: .seconds(3))
            let used = ProcessorTime.processSeconds() - before
            #expect(used < 1, "the listener spins: \(used) s of 3")
            #expect(first.ask("/status").hasPrefix("HTTP/1.1 200"), "a client that is there is served no more")
            let complaints = lines.all.count { $0.contains("Too many open files") }
            #expect((1...6).contains(complaints), "\(lines.all)")

            try Descriptors.setLimit(usual)
            for client in clients { #expect(client.ask("/status").hasPrefix("HTTP/1.1 200"), "who waited is served") }
            let late = try #require(PlainClient(port: port))
            #expect(late.ask("/status").hasPrefix("HTTP/1.1 200"))
            await group.triggerGracefulShutdown()
            for client in clients + [first, late] { client.leave() }
            try await serving.value
        }
    }
}

/// A client of HTTP that takes one descriptor and no thread.
private struct PlainClient {
    private let descriptor: Int32

    /// Nil when there is no descriptor, or nobody listens.
    init?(port: UInt16) {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let connected = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        var patience = timeval(tv_sec: 5, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        guard connected == 0, unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, size) == 0 else {
            close(descriptor)
            return nil
        }
    }

    /// The beginning of the answer to a GET; empty when none comes in time.
    func ask(_ path: String, host: String = "localhost") -> String {
        let request = Array("GET \(path) HTTP/1.1\r\nHost: \(host)\r\n\r\n".utf8)
        guard unsafe send(descriptor, request, request.count, Int32(MSG_NOSIGNAL)) == request.count else {
            return ""
        }
        var answer = [UInt8](repeating: 0, count: 65536)
        let count = unsafe recv(descriptor, &answer, answer.count, 0)
        return String(decoding: answer.prefix(max(0, count)), as: UTF8.self)
    }

    func leave() { close(descriptor) }
}
