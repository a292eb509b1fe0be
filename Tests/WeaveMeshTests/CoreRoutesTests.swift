import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveMesh

@Suite("Routes")
struct CoreRoutesTests {
    /// The example of the specification: 6 says that its connection to 3 is not established.
    private static let example: [(UInt64, [UInt64])] = [
        (1, [2, 3]), (2, [1, 4]), (3, [1, 4, 6]), (4, [2, 3, 5]), (5, [4, 6]), (6, [5, 3]),
    ]

    private func table(at own: UInt64) throws -> PeerTable {
        var table = PeerTable(name: PeerName(truncating: own), nickname: "", uid: 1, shortID: nil)
        let others = Self.example.filter { $0.0 != own }.map { peer, links in
            SampleRecord(name: peer, links: links.map { ($0, !(peer == 6 && $0 == 3)) })
        }
        _ = table.apply(try TopologyReader.read(encodeUpdate(others)))
        for link in Self.example.first(where: { $0.0 == own })?.1 ?? [] {
            let slot = try #require(table.slot(of: PeerName(truncating: link)))
            table.connect(slot, PeerTable.OwnLink(address: "", outbound: true, established: false))
            if !(own == 6 && link == 3) { table.establish(slot) }
        }
        return table
    }

    @Test(
        "are those of the specification",
        arguments: [
            (1, "2:2 3:3 4:2 5:2 6:2", "2:2 3:3 4:2 5:2 6:3"), (2, "1:1 3:1 4:4 5:4 6:4", "1:1 3:1 4:4 5:4 6:1"),
            (3, "1:1 2:1 4:4 5:4 6:4", "1:1 2:1 4:4 5:4 6:6"), (4, "1:2 2:2 3:3 5:5 6:5", "1:2 2:2 3:3 5:5 6:3"),
            (5, "1:4 2:4 3:4 4:4 6:6", "1:4 2:4 3:4 4:4 6:6"), (6, "1:5 2:5 3:5 4:5 5:5", "1:3 2:3 3:3 4:3 5:5"),
        ] as [(UInt64, String, String)])
    func unicast(_ own: UInt64, _ established: String, _ all: String) throws {
        let table = try table(at: own)
        for (kind, expected) in [(TopologyGraph.Kind.established, established), (.all, all)] {
            let hops = table.graph.nextHops(from: PeerTable.ourSlot, kind, ranks: table.ranks)
            let text = table.sortedSlots.filter { $0 != PeerTable.ourSlot }.map { slot in
                "\(table.names[slot].rawValue):\(hops[slot] < 0 ? 0 : table.names[Int(hops[slot])].rawValue)"
            }
            #expect(text.joined(separator: " ") == expected, "\(kind)")
        }
    }

    @Test("lead each broadcast of the specification to every peer once")
    func broadcast() throws {
        let expected: [TopologyGraph.Kind: [UInt64: String]] = [
            .established: [
                1: "1->2,3 2->4 4->5 5->6", 2: "1->3 2->1,4 4->5 5->6", 3: "1->2 3->1,4 4->5 5->6",
                4: "2->1 4->2,3,5 5->6", 5: "2->1 4->2,3 5->4,6", 6: "2->1 4->2,3 5->4 6->5",
            ],
            .all: [
                1: "1->2,3 2->4 3->6 4->5", 2: "1->3 2->1,4 3->6 4->5", 3: "1->2 3->1,4,6 4->5",
                4: "2->1 3->6 4->2,3,5", 5: "2->1 4->2,3 5->4,6", 6: "1->2 3->1,4 6->3,5",
            ],
        ]
        for (kind, origins) in expected {
            for (origin, text) in origins {
                var found: [String] = []
                for own in 1...6 as ClosedRange<UInt64> {
                    let table = try table(at: own)
                    let slot = try #require(table.slot(of: PeerName(truncating: origin)))
                    let hops = table.graph.broadcastHops(at: PeerTable.ourSlot, from: slot, kind, ranks: table.ranks)
                        .map { table.names[$0].rawValue }.sorted()
                    if !hops.isEmpty { found.append("\(own)->\(hops.map { "\($0)" }.joined(separator: ","))") }
                }
                #expect(found.joined(separator: " ") == text, "origin \(origin), \(kind)")
            }
        }
    }

    @Test("of a snapshot agree with the graph, and know nothing of inventions")
    func snapshot() throws {
        let table = try table(at: 4)
        let ranks = table.ranks
        let snapshot = RouteSnapshot(
            table, ranks: ranks,
            nextHops: table.graph.nextHops(from: PeerTable.ourSlot, .established, ranks: ranks))
        #expect(snapshot.routes.count == 5)
        #expect(snapshot.knownPeers.count == 6)
        #expect(snapshot.broadcastHops(from: PeerName(truncating: 1)).map(\.rawValue) == [5])
        #expect(snapshot.broadcastHops(from: PeerName(truncating: 99)).isEmpty)
        #expect(snapshot.computed.map(\.origin.rawValue) == [1])
    }

    @Test("of a thousand peers take a few milliseconds", arguments: ["full mesh", "sparse"])
    func speed(_ shape: String) throws {
        let count: UInt64 = 1000
        var generator = SeededGenerator(seed: 5)
        var links = [[UInt64]](repeating: [], count: Int(count))
        for from in 0..<count {
            if shape == "full mesh" {
                links[Int(from)] = (0..<count).filter { $0 != from }
            } else {
                for _ in 0..<3 {
                    let to = UInt64.random(in: 0..<count, using: &generator)
                    links[Int(from)].append(to)
                    links[Int(to)].append(from)
                }
            }
        }
        var table = PeerTable(name: PeerName(truncating: 1), nickname: "", uid: 1, shortID: nil)
        for first in stride(from: 1, to: count, by: 100) {
            let records = (first..<min(count, first + 100)).map { peer in
                SampleRecord(name: peer + 1, links: links[Int(peer)].map { ($0 + 1, true) })
            }
            _ = table.apply(try TopologyReader.read(encodeUpdate(records)))
        }
        for link in links[0] where link != 0 {
            let slot = try #require(table.slot(of: PeerName(truncating: link + 1)))
            table.connect(slot, PeerTable.OwnLink(address: "", outbound: true, established: true))
        }
        let ranks = table.ranks
        var best = Duration.seconds(100)
        for _ in 0..<5 {
            let elapsed = ProcessorTime.measure {
                let hops = table.graph.nextHops(from: PeerTable.ourSlot, .established, ranks: ranks)
                #expect(hops.filter { $0 >= 0 }.count == Int(count - 1))
                _ = table.graph.nextHops(from: PeerTable.ourSlot, .all, ranks: ranks)
                for origin in 1...10 {
                    _ = table.graph.broadcastHops(at: PeerTable.ourSlot, from: origin, .established, ranks: ranks)
                }
            }
            best = min(best, elapsed)
        }
        print("routes of 1,000 peers, \(shape): both tables and the trees of 10 origins in \(best)")
        #if !DEBUG
            #expect(best < .milliseconds(5))
        #endif
    }
}
