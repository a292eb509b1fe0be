import Synchronization
import WeaveCore

/// What others ask of the sleeve's control thread, in order.
///
/// Control messages come from peers, so each connection has room for so many of its own; what has none is lost, which
/// the protocol bears: peers send again what is not answered.
final class SleeveControlInbox: Sendable {
    enum Command: Sendable {
        case prepare(SleeveConnection, OverlayNegotiation.Outcome, any SleeveEvents)
        case confirm(UInt64)
        case control(UInt64, tag: UInt8, payload: [UInt8])
        case stop(UInt64)
        case routes(ForwardingRoutes)
        case peerRemoved(PeerName)
    }

    private struct Waiting {
        var commands: [Command] = []
        /// Control messages among them, by connection.
        var controls: [UInt64: Int] = [:]
        var lost = 0
    }

    /// Control messages of one connection that wait; a search for the path's MTU takes one at a time.
    static let controlsPerConnection = 64

    let wakeup = Wakeup()
    private let waiting = Mutex(Waiting())

    func post(_ command: Command) {
        waiting.withLock { $0.commands.append(command) }
        wakeup.signal()
    }

    func postControl(_ id: UInt64, tag: UInt8, payload: [UInt8]) {
        waiting.withLock { waiting in
            let count = waiting.controls[id, default: 0]
            guard count < Self.controlsPerConnection else { return waiting.lost += 1 }
            waiting.controls[id] = count + 1
            // One byte more than fits is enough to see that it is too long.
            let kept = Array(payload.prefix(OverlayControlEnvelope.maximumPayloadLength + 1))
            waiting.commands.append(.control(id, tag: tag, payload: kept))
        }
        wakeup.signal()
    }

    /// All that waits, and how many control messages were lost since the last call.
    func takeAll() -> (commands: [Command], lost: Int) {
        waiting.withLock { waiting in
            let all = waiting
            waiting = Waiting()
            return (all.commands, all.lost)
        }
    }
}
