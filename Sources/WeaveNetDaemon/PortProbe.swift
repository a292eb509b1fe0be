import Glibc
import NIOCore
import NIOPosix
import WeaveCore

/// Finds out whether ports are free before anything on the host is changed.
enum PortProbe {
    /// - Throws: `DaemonError` (system) for the first port that somebody else has.
    static func check(_ configuration: DaemonConfiguration) async throws(DaemonError) {
        let host = configuration.host?.description ?? "0.0.0.0"
        let port = Int(configuration.port)
        try await check("peers on TCP \(host):\(port) (--port)") {
            try await listen(host, port)
        }
        try await check("frames on UDP \(host):\(port) (--port)") {
            try await DatagramBootstrap(group: MultiThreadedEventLoopGroup.singleton).bind(host: host, port: port).get()
        }
        let listeners = [
            ("--http-addr", configuration.control), ("--status-addr", configuration.status),
            ("--metrics-addr", configuration.metrics),
        ]
        for (flag, address) in listeners {
            if case .tcp(let host, let port) = address {
                try await check("HTTP on \(host):\(port) (\(flag))") { try await listen(host, port) }
            }
        }
    }

    private static func listen(_ host: String, _ port: Int) async throws -> any Channel {
        try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .bind(host: host, port: port).get()
    }

    private static func check(
        _ what: String, _ bind: () async throws -> any Channel
    ) async throws(DaemonError) {
        do {
            try await bind().close().get()
        } catch let error as IOError where error.errnoCode == EADDRINUSE {
            throw DaemonError(
                .system, "cannot listen for \(what): another process has the port, maybe another weaver")
        } catch {
            throw DaemonError(.system, "cannot listen for \(what): \(error)")
        }
    }
}
