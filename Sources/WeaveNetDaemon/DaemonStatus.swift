import Foundation
import WeaveCore
import WeaveMesh

/// What the status pages, the report and the metrics are made of: the state of the daemon at one moment.
struct DaemonStatus: Sendable {
    /// Where a MAC address was seen last.
    struct MAC: Sendable {
        var address: MACAddress
        var peer: PeerName
        var nickname: String
        var lastSeen: Date
    }

    var mesh: MeshStatus
    /// How frames are captured, such as `vethwe-tap (via tap)`.
    var interface: String
    /// Counters of the datapath, all of them cumulative; names are lower case words joined by `_`.
    var counters: [(name: String, value: UInt64)]
    /// Counters of the mesh.
    var meshCounters: [MeshStatistics.Series] = []
    var macs: [MAC]
    /// nil when addresses are not allocated here.
    var addresses: AddressStatus?
    /// When all this was so.
    var time: Date
}

extension MeshStatus.Connection {
    /// Whether a TCP connection stands behind it, as opposed to a target that waits or is being dialled.
    var isLive: Bool { state == .established || state == .pending }

    /// The info column: for live connections overlay and peer, for targets why they are not connected.
    ///
    /// - Parameter encryption: Whether a password is set; then the overlay's encryption is said as well.
    func info(encryption: Bool, now: Date) -> String {
        guard !isLive else {
            let seal = overlay?.encrypted == true ? "encrypted" : "unencrypted"
            let peer = "\(peer ?? .unknown)(\(printable(nickname ?? "")))"
            return (encryption ? seal.padded(to: 11) + " " : "") + (overlay?.name ?? "none").padded(to: 6) + " " + peer
        }
        let reason = printable(lastError ?? "")
        switch state {
        case .failed: return "\(reason), retry: \(nextAttempt(now))"
        case .waiting: return "until: \(nextAttempt(now))"
        case .retrying: return reason
        case .connecting, .established, .pending: return ""
        }
    }

    private func nextAttempt(_ now: Date) -> String {
        guard !neverRetry, let retryIn else { return "never" }
        return CivilTime(now.addingTimeInterval(Double(retryIn.wholeNanoseconds) / 1e9)).rfc3339
    }

    /// The overlay's attributes but its name, in the order of keys.
    var attributes: [(key: String, value: String)] {
        guard isLive, let overlay else { return [] }
        var list: [(key: String, value: String)] = []
        if overlay.encrypted { list.append(("encrypted", "true")) }
        if let mtu = overlay.mtu { list.append(("mtu", String(mtu))) }
        return list
    }
}
