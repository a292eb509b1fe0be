import CNetlink
import Glibc

extension NetworkNamespace {
    /// The number that the calling thread's namespace has for this one: what `Link.peerNamespace` shows there. Nil while
    /// it has none, which is so as long as no device there leads here.
    public func number() throws(NetlinkError) -> Int? {
        let what = "ask for the number of \(self)"
        guard let socket = unsafe nl_socket_alloc() else { throw NetlinkError(.failed, "cannot \(what): no memory") }
        defer { unsafe nl_socket_free(socket) }
        // The answer alone, without an acknowledgement to read after it.
        unsafe nl_socket_disable_auto_ack(socket)
        let connected = unsafe nl_connect(socket, NETLINK_ROUTE)
        guard connected >= 0 else { throw NetlinkError(library: connected, what) }
        guard let message = unsafe nlmsg_alloc_simple(Int32(RTM_GETNSID), 0) else {
            throw NetlinkError(.failed, "cannot \(what): no memory")
        }
        defer { unsafe nlmsg_free(message) }
        var header = rtgenmsg(rtgen_family: UInt8(AF_UNSPEC))
        guard
            unsafe nlmsg_append(message, &header, MemoryLayout<rtgenmsg>.size, Int32(NLMSG_ALIGNTO)) == 0,
            unsafe nla_put_u32(message, Int32(NETNSA_FD), UInt32(bitPattern: descriptor)) == 0
        else { throw NetlinkError(.failed, "cannot \(what): no memory") }
        let sent = unsafe nl_send_auto(socket, message)
        guard sent >= 0 else { throw NetlinkError(library: sent, what) }

        var sender = sockaddr_nl()
        var answer: UnsafeMutablePointer<UInt8>?
        let count = unsafe nl_recv(socket, &sender, &answer, nil)
        guard count > 0, let answer = unsafe answer else { throw NetlinkError(library: count, what) }
        defer { unsafe free(answer) }
        return try unsafe answer.withMemoryRebound(to: nlmsghdr.self, capacity: 1) { reply throws(NetlinkError) in
            guard unsafe nlmsg_ok(reply, count) != 0, unsafe Int(reply.pointee.nlmsg_type) == RTM_NEWNSID,
                let attribute = unsafe nlmsg_find_attr(reply, Int32(MemoryLayout<rtgenmsg>.size), Int32(NETNSA_NSID))
            else { throw NetlinkError(.failed, "cannot \(what): the kernel does not say") }
            let number = Int(unsafe nla_get_s32(attribute))
            return number < 0 ? nil : number
        }
    }
}
