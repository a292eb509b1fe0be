import Synchronization
import WeaveCore

/// The state that others may see: what is durable, and its bytes, made once for all neighbours.
final class PublishedState: Sendable {
    private struct Content {
        var state: StateMessage
        var bytes: [UInt8]?
    }

    private let content: Mutex<Content>

    init(_ state: StateMessage) { content = Mutex(Content(state: state)) }

    /// How old the time in a message may be; peers of before 2.0 refuse those whose clock is far off.
    private static let maximumAge: Int64 = 30

    func publish(_ state: StateMessage) {
        content.withLock { content in
            var same = state
            same.unixSeconds = content.state.unixSeconds
            if same == content.state, abs(state.unixSeconds - content.state.unixSeconds) < Self.maximumAge { return }
            content = Content(state: state)
        }
    }

    /// The state as a message.
    var bytes: [UInt8] {
        content.withLock { content in
            if let bytes = content.bytes { return bytes }
            let bytes = content.state.encode()
            content.bytes = bytes
            return bytes
        }
    }
}

/// The state on its way: bytes are made when they leave, so that the newest goes, and merging has nothing to do.
struct AllocatorGossip: GossipData {
    let published: PublishedState

    func merged(with newer: any GossipData) -> any GossipData { newer }

    func encode() -> [[UInt8]] { [published.bytes] }
}
