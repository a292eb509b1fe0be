import CLinux
import Glibc
import Synchronization

/// A network namespace, held open: it stays usable when the container that made it has gone.
///
/// Opening one needs the right to see its file; `run` needs CAP_SYS_ADMIN.
public final class NetworkNamespace: Sendable, CustomStringConvertible {
    /// What makes two handles the same namespace.
    public struct Identity: Hashable, Sendable {
        public let device: UInt64
        public let inode: UInt64
    }

    /// Where it was found, for messages.
    public let path: String
    public let identity: Identity
    let descriptor: Int32

    public var description: String { "network namespace \(path)" }

    /// Where `ip netns` keeps names.
    public static let namedDirectory = "/var/run/netns"

    /// Opens the namespace a file stands for, such as `/proc/17/ns/net` or `/var/run/netns/c1`.
    ///
    /// - Throws: `NetlinkError`: `notFound`, `notPermitted`, or `invalid` when the file is no network namespace.
    public init(path: String) throws(NetlinkError) {
        self.path = path
        descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw NetlinkError(system: errno, "open the network namespace \(path)")
        }
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else {
            let number = errno
            close(descriptor)
            throw NetlinkError(system: number, "open the network namespace \(path)")
        }
        guard weave_is_network_namespace(descriptor) == 1 else {
            close(descriptor)
            throw NetlinkError(.invalid, "\(path) is not a network namespace")
        }
        identity = Identity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
    }

    /// Opens a namespace that `ip netns` knows by name.
    public convenience init(named name: String) throws(NetlinkError) {
        guard !name.isEmpty, name != ".", name != "..", !name.utf8.contains(UInt8(ascii: "/")), !name.utf8.contains(0)
        else { throw NetlinkError(.invalid, "\"\(name)\" cannot name a network namespace") }
        try self.init(path: Self.namedDirectory + "/" + name)
    }

    /// Opens the namespace of a process; `procRoot` is where the host's `/proc` is.
    public convenience init(processID: Int32, procRoot: String = "/proc") throws(NetlinkError) {
        guard processID > 0 else { throw NetlinkError(.invalid, "\(processID) is not a process") }
        do {
            try self.init(path: "\(procRoot)/\(processID)/ns/net")
        } catch {
            guard error.code == .notFound else { throw error }
            throw NetlinkError(.notFound, "there is no process \(processID)")
        }
    }

    /// The namespace of the calling thread.
    public static func current() throws(NetlinkError) -> NetworkNamespace {
        try NetworkNamespace(path: "/proc/thread-self/ns/net")
    }

    deinit { close(descriptor) }

    /// The names `ip netns` knows, sorted.
    public static func names() -> [String] {
        guard let directory = unsafe opendir(namedDirectory) else { return [] }
        defer { unsafe closedir(directory) }
        var names: [String] = []
        while let entry = unsafe readdir(directory) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
                unsafe $0.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// Runs `body` inside the namespace and waits for it: on a thread made for it, which ends afterwards, so no other
    /// work can ever find itself in the wrong namespace. Blocks the calling thread.
    public func run<Result: Sendable>(_ body: @Sendable () throws -> Result) throws -> Result {
        let descriptor = descriptor
        let path = path
        return try Self.onThread {
            let entered = weave_setns_net(descriptor)
            guard entered == 0 else { throw NetlinkError(system: entered, "enter the network namespace \(path)") }
            return try body()
        }
    }

    /// The same for callers that must not block: they are suspended.
    public func run<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
        try await OwnThread.run { try self.run(body) }
    }

    private static func onThread<Outcome: Sendable>(_ body: @Sendable () throws -> Outcome) throws -> Outcome {
        let outcome = Mutex<Swift.Result<Outcome, any Error>?>(nil)
        try withoutActuallyEscaping(body) { body in
            let thread = try OwnThread.start {
                let result = Swift.Result { try body() }
                outcome.withLock { $0 = result }
            }
            pthread_join(thread, nil)
        }
        guard let outcome = outcome.withLock({ $0 }) else {
            throw NetlinkError(.failed, "the thread for a network namespace ended without a result")
        }
        return try outcome.get()
    }
}

extension NetworkNamespace: Hashable {
    public static func == (left: NetworkNamespace, right: NetworkNamespace) -> Bool { left.identity == right.identity }
    public func hash(into hasher: inout Hasher) { hasher.combine(identity) }
}

extension NetworkNamespace {
    /// A conversation with the kernel about this namespace, to be had from any one thread.
    public func routeNetlink() throws -> RouteNetlink { try run { Opened(try RouteNetlink()) }.netlink }

    /// Hands a socket from the thread that opened it to the caller; only one of them ever has it.
    private struct Opened: @unchecked Sendable {
        let netlink: RouteNetlink
        init(_ netlink: RouteNetlink) { self.netlink = netlink }
    }
}
