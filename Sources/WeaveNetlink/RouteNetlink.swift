import CNetlink
import Glibc

/// A conversation with the kernel about links, addresses, routes and neighbours of one network namespace: the one of the
/// thread that opens it, also when it is used on another thread later. To be used by one thread at a time.
///
/// Needs no privilege to read; root (CAP_NET_ADMIN in the namespace) to change.
@safe
public final class RouteNetlink {
    let socket: OpaquePointer

    /// A dump is asked for again when the table changed while it was read, at most this often: a namespace that changes
    /// faster than that must not hold us for ever.
    static let dumpAttempts = 8

    /// Opens a socket in the calling thread's network namespace.
    public init() throws(NetlinkError) {
        guard let socket = unsafe nl_socket_alloc() else {
            throw NetlinkError(.failed, "cannot open a netlink socket: no memory")
        }
        unsafe self.socket = socket
        let result = unsafe nl_connect(socket, NETLINK_ROUTE)
        guard result >= 0 else { throw NetlinkError(library: result, "open a netlink socket") }
    }

    deinit { unsafe nl_socket_free(socket) }

    func check(_ result: Int32, _ what: @autoclosure () -> String, feature: String? = nil) throws(NetlinkError) {
        guard result < 0 else { return }
        throw NetlinkError(library: result, what(), feature: feature)
    }

    /// Fills a cache by `fill`, and again while the kernel says that the table changed under the reader.
    func dump<Element>(
        _ what: String, fill: (UnsafeMutablePointer<OpaquePointer?>) -> Int32, each: (OpaquePointer) -> Element?
    ) throws(NetlinkError) -> [Element] {
        var cache: OpaquePointer?
        var result: Int32 = 0
        for _ in 0..<Self.dumpAttempts {
            result = unsafe fill(&cache)
            if result != -NLE_DUMP_INTR { break }
        }
        guard result >= 0, let cache = unsafe cache else { throw NetlinkError(library: result, "list \(what)") }
        defer { unsafe nl_cache_free(cache) }
        var elements: [Element] = []
        var next = unsafe nl_cache_get_first(cache)
        while let object = unsafe next {
            if let element = unsafe each(object) { elements.append(element) }
            unsafe next = nl_cache_get_next(object)
        }
        return elements
    }

    /// Sends a message built here and waits for the kernel's acknowledgement. Takes the message over.
    func transact(_ message: OpaquePointer, _ what: @autoclosure () -> String, feature: String? = nil)
        throws(NetlinkError)
    {
        // Frees the message, and reads up to our acknowledgement.
        let result = unsafe nl_send_sync(socket, message)
        guard result < 0 else { return }
        throw NetlinkError(library: result, what(), feature: feature)
    }

    func noMemory(_ what: String) -> NetlinkError { NetlinkError(.failed, "cannot \(what): no memory") }
}
