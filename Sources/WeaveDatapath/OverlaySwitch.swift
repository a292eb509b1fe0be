/// Which of a connection's overlays carries frames (section 3.1): the first in order of preference that is established
/// and healthy. All of them are kept alive; each direction chooses for itself.
public struct OverlaySwitch: Sendable {
    /// What the shell of a switch has to do, in order.
    public enum Directive: Sendable, Hashable {
        /// The first overlay is established: tell the mesh, once.
        case established
        /// Frames go through this overlay from now on; decisions that named another are out of date.
        case use(index: Int, name: String)
        /// Nothing is left: end the mesh connection with this reason.
        case failed(reason: String)
        /// A line for the log, without the prefix `overlay_switch ->[name(nick)] `.
        case log(SleeveLogLevel, String)
    }

    private struct Slot: Sendable {
        let name: String
        var isWorking = true
        var isEstablished = false
        var isOnHold = false
    }

    private let peer: String
    private var slots: [Slot]
    /// The slot that is used; nil while none works.
    public private(set) var best: Int?
    private var isEstablished = false
    private var hasEnded = false

    /// A switch over the overlays in common, in order of preference, for a peer named `peer` in texts
    /// (`7a:00:00:00:00:01(host1)`). Without a switch on the other side the list is `["sleeve"]`.
    public init(overlays: [String], peer: String) {
        self.peer = peer
        slots = overlays.prefix(OverlayNegotiation.maximumOverlays).map { Slot(name: $0) }
    }

    /// The overlays, in order of preference; the place is the index of control messages.
    public var overlays: [String] { slots.map(\.name) }

    /// The name shown in reports: `none` when nothing carries frames.
    public var name: String { best.map { slots[$0].name } ?? "none" }

    /// The slots to which a frame may be offered, best first: a lower one takes what a higher one declines.
    public var candidates: [Int] {
        guard let best else { return [] }
        return slots.indices.filter { $0 >= best && slots[$0].isWorking && !slots[$0].isOnHold }
    }

    // MARK: - Events

    /// Every overlay was prepared; those that could not be were reported with `onUnusable`.
    public mutating func onPrepared() -> [Directive] { choose() }

    /// An overlay could not be prepared. Its slot stays empty.
    public mutating func onUnusable(_ index: Int, reason: String) -> [Directive] {
        guard !hasEnded, slots.indices.contains(index), slots[index].isWorking else { return [] }
        slots[index].isWorking = false
        return [.log(.warning, "Unable to use \(slots[index].name) for connection to \(peer): \(reason)")]
    }

    /// An overlay carries frames.
    public mutating func onEstablished(_ index: Int) -> [Directive] {
        guard !hasEnded, slots.indices.contains(index), slots[index].isWorking else { return [] }
        slots[index].isEstablished = true
        let isFirst = !isEstablished
        isEstablished = true
        return (isFirst ? [.established] : []) + choose()
    }

    /// An overlay has failed, for the life of the connection.
    public mutating func onFailed(_ index: Int, reason: String) -> [Directive] {
        guard !hasEnded, slots.indices.contains(index), slots[index].isWorking else { return [] }
        slots[index].isWorking = false
        slots[index].isEstablished = false
        return [.log(.info, "\(slots[index].name) \(reason)")] + choose()
    }

    /// An overlay that goes on trying carries frames no longer, or again.
    public mutating func onHealth(_ index: Int, isHealthy: Bool) -> [Directive] {
        guard !hasEnded, slots.indices.contains(index), slots[index].isWorking, slots[index].isOnHold == isHealthy
        else { return [] }
        slots[index].isOnHold = !isHealthy
        let name = slots[index].name
        let change = isHealthy ? "Adding \(name) to" : "Removing \(name) from"
        let text = "\(change) the list of forwarders"
        return [.log(.debug, text)] + choose()
    }

    /// The connection has ended: nothing follows.
    public mutating func onStop() { hasEnded = true }

    private mutating func choose() -> [Directive] {
        guard !hasEnded else { return [] }
        let usable = slots.indices.filter { slots[$0].isWorking && !slots[$0].isOnHold }
        guard let chosen = usable.first(where: { slots[$0].isEstablished }) ?? usable.first else {
            best = nil
            hasEnded = true
            return [.failed(reason: "no working forwarders to \(peer)")]
        }
        guard chosen != best else { return [] }
        best = chosen
        return [.log(.info, "using \(slots[chosen].name)"), .use(index: chosen, name: slots[chosen].name)]
    }
}
