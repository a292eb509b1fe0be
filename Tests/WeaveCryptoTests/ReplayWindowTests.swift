import Testing
import WeaveCore
import WeaveCrypto

@Suite("Replay window")
struct ReplayWindowTests {
    private static let window: UInt64 = 1 << 20

    /// The table of overlay-sleeve.md 1.5, word by word, with sets for bitmaps.
    private struct Model {
        private var current: Int64 = 0
        private var used: Set<UInt64> = []
        private var previous: Set<UInt64> = []

        mutating func accept(_ sequence: UInt64) -> Bool {
            let offset = sequence & (ReplayWindowTests.window - 1)
            let window = Int64(sequence >> 20)
            switch window - current {
            case ..<(-1): return false
            case -1: return previous.insert(offset).inserted
            case 0: return used.insert(offset).inserted
            case 1:
                previous = used
                used = [offset]
                current = window
                return true
            default:
                previous = []
                used = [offset]
                current = window
                return true
            }
        }
    }

    @Test("Worked sequence of the specification")
    func worked() {
        let w = Self.window
        let steps: [(UInt64, Bool)] = [
            (0, true), (0, false), (5, true), (1, true), (w, true), (2, true), (2, false), (w - 1, true), (2 * w, true),
            (3, false), (w + 1, true), (w, false), (2 * w + 7, true), (10 * w, true), (9 * w, true), (8 * w + 3, false),
            (10 * w + 1, true),
        ]
        var replay = ReplayWindow()
        for (index, (sequence, accepted)) in steps.enumerated() {
            let result = replay.accept(sequence)
            #expect(result == accepted, "step \(index): \(sequence)")
        }
    }

    @Test("Agrees with a simple model, whatever the order", arguments: (1...40).map { UInt64($0) })
    func model(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var replay = ReplayWindow()
        var model = Model()
        var recent: UInt64 = 0
        for step in 0..<4_000 {
            let sequence: UInt64
            switch UInt64.random(in: 0..<100, using: &generator) {
            case 0: sequence = recent &+ UInt64.random(in: 1...5, using: &generator) * Self.window
            case 1: sequence = recent &+ Self.window
            case 2..<30: sequence = recent &- min(recent, UInt64.random(in: 0...(3 * Self.window), using: &generator))
            case 30..<50: sequence = recent &- min(recent, UInt64.random(in: 0...20, using: &generator))
            case 50..<55:
                // Next to the edge of a window, where an error of one would show.
                let edge = recent & ~(Self.window - 1)
                sequence = edge &+ UInt64.random(in: 0...3, using: &generator) &- min(edge, 2)
            case 55..<60: sequence = recent &+ UInt64.random(in: 0...Self.window, using: &generator)
            default: sequence = recent &+ UInt64.random(in: 0...4, using: &generator)
            }
            let number = sequence & (.max >> 1)
            let accepted = replay.accept(number)
            let expected = model.accept(number)
            #expect(accepted == expected, "seed \(seed), step \(step): \(number)")
            if accepted != expected { return }
            recent = max(recent, number)
        }
    }

    @Test("The highest numbers there are")
    func highest() {
        let last = UInt64.max >> 1
        var replay = ReplayWindow()
        let results = [last, last, last - 1, last - Self.window, last - 2 * Self.window, 0].map { replay.accept($0) }
        #expect(results == [true, false, true, true, false, false])
    }

    @Test("A page left from an old window of the same parity counts for nothing")
    func oldPages() {
        var replay = ReplayWindow()
        for window: UInt64 in [0, 1, 2, 3, 7, 8, 100, 102] {
            let results = [5, 5, 6].map { replay.accept(window * Self.window + $0) }
            #expect(results == [true, false, true], "window \(window)")
        }
        // 101 was skipped, so all of it is new; 100 is too old.
        let results = [101, 101, 100].map { replay.accept($0 * Self.window + 5) }
        #expect(results == [true, false, false])
    }

    @Test("Costs nothing unused, little when idle, and a fixed amount at most")
    func memory() {
        var replay = ReplayWindow()
        #expect(replay.byteCount == 0)
        for sequence in 0..<UInt64(1_000) { _ = replay.accept(sequence) }
        #expect(replay.byteCount <= 4 * 1_024)
        for window in 0..<UInt64(6) {
            for offset in stride(from: 0, to: Self.window, by: 1_024) {
                let accepted = replay.accept(window * Self.window + offset)
                #expect(accepted == !(window == 0 && offset < 1_000))
            }
        }
        // Two windows of 128 KiB, their tags and the table.
        #expect(replay.byteCount == 2 * 128 * 1_024 + 128 * 8 + 128 * 8)
    }

    @Test("Every number of two whole windows is accepted once, backwards as well as forwards")
    func everyNumber() {
        for backwards in [false, true] {
            var replay = ReplayWindow()
            let top = 2 * Self.window - 1
            _ = replay.accept(top)
            var accepted = 0
            for step in 0..<top {
                let sequence = backwards ? top - 1 - step : step
                if replay.accept(sequence) { accepted += 1 }
                if replay.accept(sequence) { Issue.record("\(sequence) accepted twice") }
            }
            #expect(accepted == Int(top))
        }
    }
}
