import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveIPAM

/// Costs that peers and containers notice. Bounds hold in builds with optimisation; others only show the numbers.
@Suite("Costs", .serialized) struct PerformanceTests {
    #if DEBUG
        private static let slack = 40.0
    #else
        private static let slack = 1.0
    #endif

    /// The least of several runs, in microseconds: what it costs when nobody else wants the processor.
    private func microseconds(_ runs: Int = 20, _ body: () throws -> Void) rethrows -> Double {
        var best = Duration.seconds(1000)
        for _ in 0..<runs { best = min(best, try ProcessorTime.measure { try body() }) }
        return Double(best.wholeNanoseconds) / 1000
    }

    private func bigRing(_ owner: Int, peers: Int) throws -> Ring {
        var ring = try Ring(universe: cidr("10.0.0.0/8").range, peer: testPeer(owner))
        try ring.divide(among: (1...peers).map(testPeer))
        return ring
    }

    @Test("rings of 1,000 peers merge in a millisecond")
    func merge() throws {
        let ours = try bigRing(1, peers: 1000)
        var theirs = try bigRing(2, peers: 1000)
        for index in theirs.entries.indices where index % 2 == 1 && theirs.entries[index].peer != testPeer(1) {
            theirs.entries[index].raise()
            theirs.entries[index].free /= 2
        }
        for index in stride(from: 900, to: 0, by: -3) where theirs.entries[index].peer != testPeer(1) {
            let entry = theirs.entries[index]
            theirs.insert(
                RingEntry(
                    token: IPv4Address(entry.position + 4096), peer: testPeer(2),
                    free: UInt32(theirs.span(index) - 4096)))
            theirs.entries[index].free = min(entry.free, 4096)
            theirs.entries[index].raise()
        }
        let cost = try microseconds {
            var ring = ours
            let result = try ring.merge(theirs) { _ in true }
            #expect(result.isUpdated && ring.entries.count == theirs.entries.count)
        }
        let again = try microseconds {
            var ring = theirs
            let result = try ring.merge(theirs) { _ in true }
            #expect(!result.isUpdated)
        }
        print("merge of \(theirs.entries.count) entries of 1,000 peers: \(cost) µs, when nothing is new \(again) µs")
        #expect(cost < 1000 * Self.slack)
        let bytes = StateMessage(unixSeconds: 0, nicknames: [:], ring: theirs).encode()
        let encoding = microseconds { _ = StateMessage(unixSeconds: 0, nicknames: [:], ring: theirs).encode() }
        let decoding = try microseconds { _ = try StateMessage.decode(bytes) }
        print("its message: \(bytes.count) bytes, \(encoding) µs to write, \(decoding) µs to read")
    }

    @Test("a free address of a /8 is found in ten microseconds, however it is divided")
    func search() throws {
        var space = Space()
        space.add(cidr("10.0.0.0/8").range)
        for number in 0..<100_000 { try space.claim(IPv4Address(0x0a00_0000 + number * 64 + number % 7)) }
        for number in 0..<60_000 { try? space.claim(IPv4Address(0x0a00_0000 + number)) }
        let whole = cidr("10.0.0.0/8").hostRange
        let free = AddressSet(space.freeRanges)
        let count = 1000
        let cost = microseconds {
            for number in 0..<count {
                let range = AddressRange(whole.start + number * 6000, whole.end)
                #expect(free.first(in: range) != nil)
            }
        }
        print("search in a /8 of \(space.freeRanges.count) free ranges: \(cost / Double(count)) µs")
        #expect(cost / Double(count) < 10 * Self.slack)
        let turn = microseconds(5) {
            var copy = space
            for _ in 0..<100 { _ = copy.allocate(in: whole) }
        }
        print("taking it: \(turn / 100) µs, a copy of the space shared over 100 included")
    }

    @Test("a turn of an allocator in a ring of 1,000 peers costs little")
    func turns() throws {
        let seed = AllocatorConfiguration.Start.seed((1...1000).map(testPeer))
        var peer = try TestPeer(1, "10.0.0.0/8", start: seed)
        var number = 0
        let cost = microseconds(10) {
            for _ in 0..<100 {
                number += 1
                let id = RequestID(UInt64(100_000 + number))
                _ = peer.allocator.onAllocate(
                    id, ident: "c\(number)", subnet: cidr("10.0.0.0/8"), isContainer: true, now: seconds(1))
            }
        }
        print("an allocation in a ring of 1,000 peers: \(cost / 100) µs")
        #expect(cost / 100 < 200 * Self.slack)
    }
}
