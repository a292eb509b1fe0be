package import NIOCore

/// Leaves a listener alone for a while when a connection cannot be accepted, which is when descriptors or memory have run
/// out: the connection stays in the system's queue, and the system would announce it again at once, for as long as it
/// takes. Stands first in the pipeline of a listener whose other handlers are to hear of no such error.
///
/// Confined to the event loop of the listener, which is what makes sharing it safe.
package final class AcceptPauseHandler: ChannelInboundHandler, @unchecked Sendable {
    package typealias InboundIn = any Channel

    /// How long to wait for descriptors to become free.
    static let pause: TimeAmount = .seconds(1)

    private let onFailure: @Sendable (IOError) -> Void
    private var isPaused = false

    /// - Parameter onFailure: hears of the failure that begins each pause, on the event loop.
    package init(onFailure: @escaping @Sendable (IOError) -> Void) { self.onFailure = onFailure }

    package func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let error = error as? IOError else { return context.fireErrorCaught(error) }
        guard !isPaused else { return }
        isPaused = true
        onFailure(error)
        let channel = context.channel
        try? channel.syncOptions?.setOption(.autoRead, value: false)
        context.eventLoop.scheduleTask(in: Self.pause) { [self] in
            isPaused = false
            try? channel.syncOptions?.setOption(.autoRead, value: true)
        }
    }
}
