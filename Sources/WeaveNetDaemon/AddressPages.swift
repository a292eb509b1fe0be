import Foundation
import WeaveCore
import WeaveIPAM

/// The state of address allocation at one moment, as status, report and metrics show it.
struct AddressStatus: Sendable {
    var allocator: AllocatorStatus
    var defaultSubnet: IPv4CIDR
    /// Why nothing can be saved, and so nothing be given out; nil when all is well.
    var storeFailure: String?

    /// One line: what 2.8.1 says, and what needs attention beside it.
    var condition: String {
        var parts = ["\(allocator.condition)"]
        if let storeFailure { parts.append("nothing is given out: \(printable(storeFailure))") }
        if !allocator.conflicts.isEmpty {
            let peers = Set(allocator.conflicts.map(\.source)).count
            parts.append(
                "\(peers) peer\(peers == 1 ? "" : "s") contradict\(peers == 1 ? "s" : "") our ring, "
                    + "see 'weave ipam explain'")
        }
        return parts.joined(separator: "; ")
    }

    /// `/status/ipam`: who owns how much.
    var owners: String {
        allocator.owners.map { owner in
            let name = "\(owner.peer)(\(printable(owner.nickname)))"
            let share = 100 * Double(owner.count) / Double(max(allocator.universeCount, 1))
            let note =
                owner.peer == allocator.peer
                ? "(\(allocator.activeCount) active)" : owner.isKnownPeer ? "" : "- unreachable!"
            return name.padded(to: 37) + " " + "\(owner.count)".rightAligned(to: 8)
                + " IPs (\(String(format: "%04.1f", share))% of total) \(note)\n"
        }.joined()
    }

    /// The object `IPAM` of the report.
    var report: ReportValue {
        let consensus = allocator.consensus.map { state in
            ReportValue.object([
                .init("Elector", .bool(state.isElector)), .init("KnownNodes", .signed(state.knownNodes)),
                .init("Quorum", .signed(state.quorum)),
            ])
        }
        let entries = allocator.entries.map { entry in
            ReportValue.object([
                .init("Token", .text("\(entry.token)")), .init("Size", .signed(entry.size)),
                .init("Peer", .text("\(entry.peer)")), .init("Nickname", .text(entry.nickname)),
                .init("IsKnownPeer", .bool(entry.isKnownPeer)), .init("Version", .signed(Int(entry.version))),
            ])
        }
        let claims = allocator.pendingClaims.map { claim in
            ReportValue.object([
                .init("Ident", .text(claim.ident)),
                .init(
                    "CIDR",
                    .object([
                        .init("Addr", .text("\(claim.cidr.address)")),
                        .init("PrefixLen", .signed(claim.cidr.prefixLength)),
                    ])),
            ])
        }
        return .object([
            .init("Paxos", consensus ?? .null),
            .init("Range", .text("\(allocator.universe)")),
            .init("RangeNumIPs", .signed(allocator.universeCount)),
            .init("ActiveIPs", .signed(allocator.activeCount)),
            .init("DefaultSubnet", .text("\(defaultSubnet)")),
            .init("Entries", .listOrNull(entries)),
            .init("PendingClaims", .listOrNull(claims)),
            .init(
                "PendingAllocates",
                .listOrNull(allocator.pendingAllocations.map { .text("\($0.ident) \($0.subnet)") })),
        ])
    }
}
