internal import NIOCore
internal import WeaveCore

/// What happens on a socket.
enum LinkEvent: Sendable {
    case dialled(ConnectionID, any Channel)
    case dialFailed(ConnectionID, Endpoint, String)
    case accepted(MeshChannelHandler, any Channel)
    case bytes(ConnectionID, ByteBuffer)
    case wrote(ConnectionID, Int)
    case readFailed(ConnectionID, String)
    case writeFailed(ConnectionID, String)
    case ended(ConnectionID)
}

/// Hands what happens on one socket to the router, on whose event loop it runs.
///
/// Confined to that event loop, which is what makes sharing it safe.
final class MeshChannelHandler: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer

    private let router: MeshRouter
    /// Nil for an accepted connection until the router has seen it.
    var id: ConnectionID?
    private let isAccepted: Bool

    init(router: MeshRouter, dialled id: ConnectionID?) {
        self.router = router
        self.id = id
        isAccepted = id == nil
    }

    func channelActive(context: ChannelHandlerContext) {
        if isAccepted { post(.accepted(self, context.channel)) }
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = unwrapInboundIn(data)
        if let id { post(.bytes(id, bytes)) }
        router.spareBuffer.value = bytes
    }

    func channelInactive(context: ChannelHandlerContext) {
        if let id { post(.ended(id)) }
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if let id { post(.readFailed(id, SocketErrorText.cause(error))) }
        context.close(promise: nil)
    }

    private func post(_ event: LinkEvent) { router.assumeIsolated { $0.post(event) } }
}
