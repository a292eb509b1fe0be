import Testing
import WeaveCore

@testable import WeaveMesh

@Suite("The table of handshakes")
struct HandshakeTableTests {
    private let address = IPAddress.v4(IPv4Address(rawValue: 0x0a00_0001))
    private let other = IPAddress.v4(IPv4Address(rawValue: 0x0a00_0002))
    private var limits: RouterLimits {
        var limits = RouterLimits()
        limits.handshakes = 6
        limits.handshakesPerAddress = 3
        limits.handshakePatience = .seconds(3)
        return limits
    }

    private func id(_ number: Int) -> ConnectionID { ConnectionID(rawValue: UInt64(number)) }

    @Test("one address may have more for a while, and then gives up those that wait longest")
    func patience() {
        var table = HandshakeTable()
        for number in 1...5 { table.insert(id(number), address, now: moment(Double(number))) }
        #expect(table.victim(after: address, limits: limits, now: moment(3.9)) == nil)
        #expect(table.victim(after: address, limits: limits, now: moment(4)) == id(1))
        #expect(table.victim(after: other, limits: limits, now: moment(9)) == nil)
        table.remove(id(1))
        table.remove(id(2))
        #expect(table.victim(after: address, limits: limits, now: moment(9)) == nil)
        #expect(table.count == 3 && table.count(of: address) == 3)
    }

    @Test("whoever goes on is not the next, and is again when he stops")
    func steps() {
        var table = HandshakeTable()
        for number in 1...4 { table.insert(id(number), address, now: moment(Double(number))) }
        table.noteStep(id(1), now: moment(5))
        #expect(table.victim(after: address, limits: limits, now: moment(9)) == id(2))
        for number in 2...4 { table.noteStep(id(number), now: moment(6)) }
        #expect(table.victim(after: address, limits: limits, now: moment(9)) == id(1))
        table.noteStep(id(77), now: moment(9))
        #expect(table.count == 4)
    }

    @Test("in total the address that has most gives way at once, and of two the one that keeps us waiting")
    func total() {
        var table = HandshakeTable()
        for number in 1...5 { table.insert(id(number), address, now: moment(Double(number))) }
        table.insert(id(6), other, now: moment(0))
        #expect(table.victim(after: other, limits: limits, now: moment(5)) == nil)
        table.insert(id(7), other, now: moment(5))
        #expect(table.victim(after: other, limits: limits, now: moment(5)) == id(1))

        var scattered = HandshakeTable()
        for number in 1...7 {
            let address = IPAddress.v4(IPv4Address(rawValue: UInt32(number)))
            scattered.insert(id(number), address, now: moment(Double(8 - number)))
        }
        #expect(scattered.victim(after: address, limits: limits, now: moment(9)) == id(7))
        scattered.noteStep(id(7), now: moment(9))
        #expect(scattered.victim(after: address, limits: limits, now: moment(9)) == id(6))
    }

    @Test("the addresses of one network of IPv6 are one")
    func networks() {
        var table = HandshakeTable()
        func address(_ high: UInt64, _ low: UInt64) -> IPAddress { .v6(IPv6Address(high: high, low: low)) }
        for number in 1...4 { table.insert(id(number), address(7, UInt64(number)), now: moment(0)) }
        table.insert(id(5), address(8, 1), now: moment(0))
        #expect(table.count(of: address(7, 99)) == 4)
        #expect(table.victim(after: address(7, 4), limits: limits, now: moment(5)) == id(1))
        #expect(table.victim(after: address(8, 1), limits: limits, now: moment(5)) == nil)
    }
}
