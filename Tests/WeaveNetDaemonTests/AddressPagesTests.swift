import Testing
import WeaveCore

@testable import WeaveIPAM
@testable import WeaveNetDaemon

/// What status, report and metrics show of address allocation.
struct AddressPagesTests {
    private func status(_ change: (inout AllocatorStatus) -> Void = { _ in }) throws -> DaemonStatus {
        let universe = try #require(IPv4CIDR("10.32.0.0/12"))
        let shares: [(PeerName, String, String, Int, Bool)] = [
            (Sample.two, "host2", "10.32.0.0", 349_526, true), (Sample.one, "host1", "10.37.85.86", 349_525, true),
            (Sample.three, "", "10.42.170.171", 349_525, false),
        ]
        var allocator = AllocatorStatus(
            condition: .ready, peer: Sample.two, universe: universe, universeCount: 1 << 20, activeCount: 2,
            consensus: nil,
            entries: try shares.map { peer, nickname, token, size, isKnown in
                AllocatorStatus.Entry(
                    token: try #require(IPv4Address(token)), size: size, peer: peer, nickname: nickname,
                    isKnownPeer: isKnown, version: 7)
            },
            owners: shares.map { peer, nickname, _, size, isKnown in
                AllocatorStatus.Owner(peer: peer, nickname: nickname, count: size, isKnownPeer: isKnown)
            }, pendingClaims: [], pendingAllocations: [], pendingPrimes: 0, conflicts: [], unknownMessages: 3)
        change(&allocator)
        var status = Sample.status()
        status.addresses = AddressStatus(allocator: allocator, defaultSubnet: universe)
        return status
    }

    @Test("the owners are shown in the columns of 2.8.1")
    func owners() throws {
        let page = try #require(try status().addresses?.owners)
        #expect(
            page == """
                00:00:00:00:00:02(host2)                349526 IPs (33.3% of total) (2 active)
                00:00:00:00:00:01(host1)                349525 IPs (33.3% of total)\("")\u{20}
                00:00:00:00:00:03()                     349525 IPs (33.3% of total) - unreachable!

                """)
        let small = try #require(try status { $0.owners[0].count = 52_429 }.addresses?.owners)
        #expect(small.contains("   52429 IPs (05.0% of total) (2 active)\n"))
    }

    @Test("the summary has a section for allocation, and says what needs attention")
    func summary() throws {
        let text = StatusText(status: try status()).summary
        #expect(
            text.hasSuffix(
                "\n\n        Service: ipam\n         Status: ready\n          Range: 10.32.0.0/12\n"
                    + "  DefaultSubnet: 10.32.0.0/12\n"), "\(text)")
        #expect(!StatusText(status: Sample.status()).summary.contains("ipam"))
        let conflict = IPAMError(.conflict, "no")
        var troubled = try status { $0.conflicts = [(Sample.one, conflict), (Sample.one, conflict)] }
        troubled.addresses?.storeFailure = "disk full"
        let line = StatusText(status: troubled).summary
        #expect(
            line.contains(
                "Status: ready; nothing is given out: disk full; 1 peer contradicts our ring, see 'weave ipam"))
    }

    @Test("the report has what 2.8.1 has, null for empty lists")
    func report() throws {
        let quiet = StatusReport(status: try status()).value["IPAM"]
        #expect(quiet?["Paxos"] == .null && quiet?["PendingClaims"] == .null && quiet?["PendingAllocates"] == .null)
        #expect(quiet?["RangeNumIPs"] == .signed(1 << 20) && quiet?["ActiveIPs"] == .signed(2))
        guard case .list(let entries)? = quiet?["Entries"] else {
            Issue.record("no entries")
            return
        }
        #expect(
            entries.last?.compact
                == #"{"Token":"10.42.170.171","Size":349525,"Peer":"00:00:00:00:00:03","Nickname":"","IsKnownPeer":false,"#
                + #""Version":7}"#)
        let (address, subnet) = (try cidr("10.32.0.9/24"), try cidr("10.32.0.0/24"))
        let waiting = StatusReport(
            status: try status {
                $0.consensus = .init(isElector: true, knownNodes: 2, quorum: 3)
                $0.pendingClaims = [("c", address)]
                $0.pendingAllocations = [("d", subnet)]
            }
        ).value["IPAM"]
        #expect(waiting?["Paxos"]?.compact == #"{"Elector":true,"KnownNodes":2,"Quorum":3}"#)
        #expect(
            waiting?["PendingClaims"]?.compact == #"[{"Ident":"c","CIDR":{"Addr":"10.32.0.9","PrefixLen":24}}]"#)
        #expect(waiting?["PendingAllocates"]?.compact == #"["d 10.32.0.0/24"]"#)
        #expect(StatusReport(status: Sample.status()).value["IPAM"] == nil)
    }

    @Test("the metrics have the names of 2.8.1")
    func metrics() throws {
        let text = MetricsText(status: try status(), process: .current()).body
        for line in [
            "weave_ips{state=\"local-used\"} 2", "weave_max_ips 1048576", "weave_ipam_unreachable_count 1",
            "weave_ipam_pending_allocates 0", "weave_ipam_pending_claims 0", "weave_ipam_conflicts 0",
            "weave_ipam_unknown_messages_total 3",
        ] { #expect(text.contains("\n\(line)\n"), "\(line)") }
        #expect(text.contains("\nweave_ipam_unreachable_percentage 33.33"))
        #expect(!MetricsText(status: Sample.status(), process: .current()).body.contains("weave_ips"))
    }

    private func cidr(_ text: String) throws -> IPv4CIDR { try #require(IPv4CIDR(text)) }
}
