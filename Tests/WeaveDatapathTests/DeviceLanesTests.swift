import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveDatapath

@Suite("Lanes of the local device")
struct DeviceLanesTests {
    private static func frame(
        _ source: UInt32, _ destination: UInt32, proto: UInt8, ports: (UInt16, UInt16), fragment: UInt16 = 0,
        options: Int = 0
    ) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 12) + [0x08, 0x00, UInt8(0x45 + options), 0, 0, 100, 0, 1]
        bytes += [UInt8(fragment >> 8), UInt8(fragment & 0xff), 64, proto, 0, 0]
        bytes.appendInteger(UInt64(source), byteCount: 4)
        bytes.appendInteger(UInt64(destination), byteCount: 4)
        bytes += [UInt8](repeating: 7, count: options * 4)
        bytes.appendInteger(UInt64(ports.0), byteCount: 2)
        bytes.appendInteger(UInt64(ports.1), byteCount: 2)
        return bytes + [UInt8](repeating: 0, count: 40)
    }

    private static func lane(_ frame: [UInt8], among count: Int = DeviceLanes.count) -> Int {
        unsafe frame.withUnsafeBytes { unsafe DeviceLanes.lane(of: $0, among: count) }
    }

    @Test("Both directions of a flow use one lane, fragments that of each other, and flows spread over all")
    func symmetric() {
        var generator = SeededGenerator(seed: 5)
        var met: [Int: Int] = [:]
        for _ in 0..<4000 {
            let (a, b) = (UInt32(truncatingIfNeeded: generator.next()), UInt32(truncatingIfNeeded: generator.next()))
            let ports = (
                UInt16.random(in: 1...65535, using: &generator), UInt16.random(in: 1...65535, using: &generator)
            )
            let proto: UInt8 = generator.next() & 1 == 0 ? 6 : 17
            let options = Int(generator.next() % 3)
            let there = Self.lane(Self.frame(a, b, proto: proto, ports: ports, options: options))
            #expect(there == Self.lane(Self.frame(b, a, proto: proto, ports: (ports.1, ports.0), options: options)))
            met[there, default: 0] += 1
            let first = Self.lane(Self.frame(a, b, proto: proto, ports: ports, fragment: 0x2000))
            #expect(first == Self.lane(Self.frame(a, b, proto: proto, ports: (0, 0), fragment: 0x00b9)))
        }
        #expect(met.count == DeviceLanes.count && met.values.allSatisfy { $0 > 300 }, "\(met)")
    }

    @Test("An echo and TCP between the same two addresses are told apart for most ports")
    func echo() {
        let echo = Self.lane(Self.frame(0x0a28_0001, 0x0a28_0002, proto: 1, ports: (0x0800, 0)))
        let apart = (40_000..<41_000).filter {
            Self.lane(Self.frame(0x0a28_0001, 0x0a28_0002, proto: 6, ports: (UInt16($0), 5201))) != echo
        }
        #expect(apart.count > 700)
    }

    @Test("Whatever a frame holds, it has a lane; one lane takes all")
    func bounds() {
        var generator = SeededGenerator(seed: 6)
        for length in 0..<400 {
            var noise = (0..<length % 80).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
            if noise.count > 14 {
                let type: UInt16 = [0x0800, 0x86dd, 0x0806][length % 3]
                (noise[12], noise[13]) = (UInt8(type >> 8), UInt8(type & 0xff))
            }
            for count in [1, 2, 7, 8] { #expect((0..<count).contains(Self.lane(noise, among: count))) }
            #expect(Self.lane(noise, among: 1) == 0)
        }
    }

    @Test("Threads share the queues of a device, and write to another's where there are too few")
    func shares() {
        let queues = (10..<26).map { Int32($0) }
        #expect(DeviceLanes(of: queues, index: 0, threads: 2).descriptors == Array(queues[..<8]))
        #expect(DeviceLanes(of: queues, index: 1, threads: 2).descriptors == Array(queues[8...]))
        #expect(DeviceLanes(of: [4], index: 0, threads: 1).descriptors == [4])
        #expect(DeviceLanes(of: [4], index: 2, threads: 3).descriptors == [4])
    }
}
