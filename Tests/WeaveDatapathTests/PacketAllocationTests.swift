import CAllocationWatch
import Foundation
import Glibc
import NetLab
import Synchronization
import Testing
import WeaveNetlink

@testable import WeaveDatapath

/// What packet threads ask of the allocator while packets go through them: nothing that grows with the packets.
/// `WEAVE_PACKETS` sets how many.
@Suite("Packet threads do not allocate", .serialized, .enabled(if: LabShell.canMakeNamespaces))
struct PacketAllocationTests {
    private static let packets =
        ProcessInfo.processInfo.environment["WEAVE_PACKETS"].flatMap { UInt64($0) } ?? 10_000_000

    @Test("Ten million packets of TCP, there and back", arguments: [false, true])
    func tcp(encrypted: Bool) throws {
        // Sealing takes four times as long, and allocates where plain packets do, if at all.
        try watch(Self.packets / (encrypted ? 5 : 1), encrypted: encrypted) { from, to, stop in
            try PacketTransfer.stream(from: from, to: to, address: PacketLab.address(1), until: stop)
        }
    }

    @Test("Small datagrams, one frame each", arguments: [false, true])
    func datagrams(encrypted: Bool) throws {
        try watch(Self.packets / 20, encrypted: encrypted) { from, _, stop in
            try PacketTransfer.flood(from: from, to: PacketLab.address(1), size: 64, until: stop)
        }
    }

    @Test("The watch sees what a thread with the name allocates, and nothing of another")
    func watchSees() {
        final class Thing: Sendable {
            let value = Mutex(1)
        }
        func work(_ name: String) -> weave_watch_counts? {
            // The watch begins when the thread has its name.
            let isWatched = Atomic<Bool>(false)
            let things = Mutex<[Thing]>([])
            let thread = PlainThread(name: name) {
                while !isWatched.load(ordering: .acquiring) { usleep(1000) }
                for _ in 0..<100 { things.withLock { $0.append(Thing()) } }
            }
            usleep(50_000)
            let status = unsafe weave_watch_begin("watched-")
            isWatched.store(true, ordering: .releasing)
            thread?.join()
            return status == 0 ? weave_watch_end() : nil
        }
        guard let seen = work("watched-thread"), let unseen = work("other-thread") else { return }
        #expect(seen.allocations >= 100)
        #expect(unseen.allocations == 0)
    }

    /// Runs `traffic` until the sleeves have sent and received `wanted` datagrams, and judges what their threads did
    /// meanwhile.
    private func watch(
        _ wanted: UInt64, encrypted: Bool,
        traffic: @escaping @Sendable (NetworkNamespace, NetworkNamespace, PacketTransfer.Stop) throws -> Void
    ) throws {
        let lab = try PacketLab()
        try lab.start(key: encrypted ? PacketLab.key : nil)
        func handled() -> UInt64 {
            lab.overlays.reduce(0) { $0 + $1.statistics[.datagramsSent] + $1.statistics[.datagramsReceived] }
        }
        let stop = PacketTransfer.Stop()
        let (from, to) = try (NetworkNamespace(named: lab.names[0]), NetworkNamespace(named: lab.names[1]))
        let sender = PlainThread(name: "test-traffic") { try? traffic(from, to, stop) }
        defer {
            stop.now()
            sender?.join()
        }
        let isWarm = LabShell.poll(seconds: 10, every: 0.02) { handled() > 2000 }
        #expect(isWarm)
        let before = handled()
        guard unsafe weave_watch_begin("sleeve-") == 0 else {
            print("allocations: not counted in a build with a sanitizer")
            return
        }
        let isDone = LabShell.poll(seconds: 300, every: 0.05) { handled() - before >= wanted }
        let counts = weave_watch_end()
        let done = handled() - before
        #expect(isDone, "\(done) of \(wanted) packets")
        print(
            "allocations: \(done) packets, \(counts.allocations) allocations, \(counts.frees) frees")
        // Reports to the control thread (counters, addresses met) come a few times a second, whatever the traffic.
        #expect(counts.allocations < 400 + done / 100_000)
    }
}
