internal import NIOCore
internal import NIOPosix
internal import WeaveCore

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

extension Endpoint {
    /// Nil for addresses that are not IP.
    init?(_ address: SocketAddress?) {
        guard let address, let text = address.ipAddress, let port = address.port else { return nil }
        guard let parsed = IPAddress(text.prefix { $0 != "%" }) else { return nil }
        self.init(parsed, port: UInt16(truncatingIfNeeded: port))
    }

    func socketAddress() throws -> SocketAddress {
        try SocketAddress(ipAddress: address.description, port: Int(port))
    }
}

extension IPAddress {
    func isSameFamily(as other: IPAddress) -> Bool { (v4 == nil) == (other.v4 == nil) }
}

extension MonotonicTime {
    /// The clock of the event loops.
    static func now() -> MonotonicTime {
        MonotonicTime(nanoseconds: Int64(clamping: NIODeadline.now().uptimeNanoseconds))
    }

    var deadline: NIODeadline { .uptimeNanoseconds(UInt64(max(0, nanoseconds))) }
}

/// Errors of sockets in the words that operators of 2.8.1 know.
enum SocketErrorText {
    static func cause(_ error: any Error) -> String {
        switch error {
        case let error as IOError: text(error.errnoCode)
        case let error as NIOConnectionError:
            error.connectionErrors.first.map { cause($0.error) } ?? "connection refused"
        case ChannelError.connectTimeout: "i/o timeout"
        case ChannelError.eof: "EOF"
        case is ChannelError: "use of closed network connection"
        default: "\(error)"
        }
    }

    private static func text(_ code: Int32) -> String {
        switch code {
        case ECONNREFUSED: "connection refused"
        case ECONNRESET: "connection reset by peer"
        case EPIPE: "broken pipe"
        case EHOSTUNREACH: "no route to host"
        case ENETUNREACH: "network is unreachable"
        case ETIMEDOUT: "connection timed out"
        case EADDRINUSE: "address already in use"
        case EADDRNOTAVAIL: "cannot assign requested address"
        case EACCES: "permission denied"
        case EPERM: "operation not permitted"
        case EMFILE: "too many open files"
        case EINVAL: "invalid argument"
        case EAFNOSUPPORT: "address family not supported by protocol"
        default: "error \(code)"
        }
    }

    /// What is said of an address to which no connection came about.
    static func dial(_ error: any Error, from local: IPAddress?, to remote: Endpoint) -> String {
        let local = local.map { "\(Endpoint($0, port: 0))" } ?? ":0"
        let cause = cause(error)
        return "dial tcp \(local)->\(remote): \(cause == "i/o timeout" ? cause : "connect: \(cause)")"
    }
}

/// Names to addresses, on threads of their own.
enum NameLookup {
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// All addresses of a host, IPv4 first; port 0 without a service. Blocks.
    static func resolve(host: String, service: String) throws(Failure) -> [Endpoint] {
        if service.isEmpty || UInt16(service) != nil, let address = IPAddress(host) {
            return [Endpoint(address, port: UInt16(service) ?? 0)]
        }
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = socketType
        unsafe hints.ai_family = AF_UNSPEC
        var first: UnsafeMutablePointer<addrinfo>?
        let status = unsafe getaddrinfo(host, service.isEmpty ? nil : service, &hints, &first)
        guard status == 0 else { throw Failure(description: text(status, host, service)) }
        defer { unsafe freeaddrinfo(first) }
        var found: [Endpoint] = []
        var next = unsafe first
        while let entry = unsafe next {
            if let endpoint = unsafe endpoint(entry.pointee), !found.contains(endpoint) { found.append(endpoint) }
            unsafe next = entry.pointee.ai_next
        }
        guard !found.isEmpty else { throw Failure(description: "lookup \(host): no such host") }
        return found.filter { $0.address.v4 != nil } + found.filter { $0.address.v4 == nil }
    }

    private static var socketType: Int32 {
        #if canImport(Glibc)
            Int32(SOCK_STREAM.rawValue)
        #else
            SOCK_STREAM
        #endif
    }

    private static func endpoint(_ entry: addrinfo) -> Endpoint? {
        guard let address = unsafe entry.ai_addr else { return nil }
        switch unsafe entry.ai_family {
        case AF_INET:
            return unsafe address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                unsafe Endpoint(SocketAddress($0.pointee))
            }
        case AF_INET6:
            return unsafe address.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
                unsafe Endpoint(SocketAddress($0.pointee))
            }
        default: return nil
        }
    }

    private static func text(_ status: Int32, _ host: String, _ service: String) -> String {
        switch status {
        case EAI_NONAME: "lookup \(host): no such host"
        case EAI_SERVICE: "lookup tcp/\(service): unknown port"
        case EAI_AGAIN: "lookup \(host): server misbehaving"
        default: "lookup \(host): error \(status)"
        }
    }
}
