import Logging
import NIOCore

/// Leaves a listener alone for a while when a connection cannot be accepted, which is when descriptors or memory have run
/// out: the connection stays in the system's queue, and the system would announce it again at once, for as long as it
/// takes. Stands first in the pipeline of the listener, so that what makes connections of it hears of no error either.
///
/// Confined to the event loop of the listener, which is what makes sharing it safe.
final class AcceptRestHandler: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = any Channel

    /// How long to wait for descriptors to become free.
    static let rest: TimeAmount = .seconds(1)

    private let address: ListenAddress
    private let logger: Logger
    private var isResting = false

    init(address: ListenAddress, logger: Logger) {
        self.address = address
        self.logger = logger
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let error = error as? IOError else { return context.fireErrorCaught(error) }
        guard !isResting else { return }
        isResting = true
        logger.warning(
            "Cannot accept an HTTP connection on \(address): \(error); who asks is kept waiting until descriptors are free"
        )
        let channel = context.channel
        try? channel.syncOptions?.setOption(.autoRead, value: false)
        context.eventLoop.scheduleTask(in: Self.rest) { [self] in
            isResting = false
            try? channel.syncOptions?.setOption(.autoRead, value: true)
        }
    }
}
