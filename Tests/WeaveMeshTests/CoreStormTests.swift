import Testing
import WeaveCore

@testable import WeaveMesh

@Suite("Many connections together")
struct CoreStormTests {
    private func digest(_ message: MeshMessage) throws -> TopologyDigest.Message? {
        guard try message.envelope().channel == TopologyDigest.channel else { return nil }
        let data = try message.data()
        return try TopologyDigest.decode(data, from: 0, to: data.count)
    }

    /// A core to which so many neighbours have just connected.
    private func core(neighbours: Int, digests: Bool = true) -> (core: MeshCore, ids: [ConnectionID]) {
        var core = MeshCore.sample(limit: 0, discovery: false)
        let ids = (0..<neighbours).map { index in
            core.addInbound(
                introduction(0x100 + UInt64(index), digests: digests), from: "10.0.1.\(index):40000"
            ).id
        }
        return (core, ids)
    }

    @Test("are told at once while they are few, and some are compared with afterwards")
    func newcomers() throws {
        var (core, ids) = core(neighbours: 40)
        var told = 0
        for id in ids {
            let digests = try core.drain(id).compactMap { try digest($0) }
            told += digests.count
            if case .announcement(let entries)? = digests.first {
                // The neighbours have told nothing about themselves that could be passed on.
                #expect(entries.map(\.name) == [core.configuration.name])
            }
        }
        #expect(told == Newcomers.atOnce)
        _ = core.advance(to: moment(2.9))
        for id in ids { _ = core.drain(id) }
        _ = core.advance(to: moment(3.1))
        var summaries = 0
        for id in ids {
            summaries += try core.drain(id).compactMap { try digest($0) }.count { $0 == .summary(core.table.summary) }
        }
        // Twice the logarithm of 41.
        #expect(summaries == 10)
        // Whoever comes later is told at once again.
        let (late, _) = core.addInbound(introduction(0x200, digests: true), from: "10.0.2.1:40000", at: moment(4))
        #expect(try core.drain(late).compactMap { try digest($0) }.count == 1)
    }

    @Test("are all told at once when they take no digests, as 2.8.1")
    func plain() throws {
        var (core, ids) = core(neighbours: 40, digests: false)
        for id in ids {
            let messages = core.drain(id)
            #expect(try messages.map { try $0.envelope().channel } == ["topology"])
        }
    }

    @Test("forget who went before being compared with")
    func departed() {
        var (core, ids) = core(neighbours: 10)
        for id in ids { _ = core.onConnectionClosed(id, reason: "EOF", now: moment(1)) }
        #expect(core.newcomers.count == 0)
    }

    /// When ourself is announced, if a connection comes at each of the times.
    private func announcements(_ times: [Double], plain: Bool = false) -> [Double] {
        var core = MeshCore.sample(limit: 0, discovery: false)
        var last = core.lastUpdate
        var announced: [Double] = []
        func advance(to end: Double) {
            while let due = core.nextDeadline, due <= moment(end) {
                _ = core.onTimer(now: due)
                if core.lastUpdate != last { announced.append(Double(core.lastUpdate.nanoseconds) / 1e9) }
                last = core.lastUpdate
            }
        }
        for (index, time) in times.enumerated() {
            advance(to: time)
            core.addInbound(
                introduction(0x100 + UInt64(index), digests: !plain || index > 0), from: "10.0.1.\(index):40000",
                at: moment(time))
        }
        advance(to: 20)
        return announced
    }

    @Test("are told of when they have come, a second after the first of them at the latest, and once a second")
    func updates() {
        #expect(announcements([5]) == [5.2])
        #expect(announcements([5, 5.1, 5.2]) == [5.4])
        #expect(announcements(stride(from: 5, to: 6.05, by: 0.1).map { $0 }).first == 6)
        #expect(announcements([5, 5.5]) == [5.2, 6.2])
    }

    @Test("are told of a second after the first of them where somebody takes no digests, as 2.8.1 does")
    func plainUpdates() {
        #expect(announcements([5], plain: true) == [6])
        #expect(announcements([5, 5.5], plain: true) == [6])
        #expect(announcements([5, 6.5], plain: true) == [6, 7.5])
    }
}
