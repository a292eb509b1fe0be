import Testing
import WeaveCore

@testable import WeaveDatapath

@Suite("Rests between batches")
struct BatchPacingTests {
    /// Feeds batches of `count` frames, each `interval` after the one before; returns after how many a rest followed.
    private func rests(
        _ pacing: inout BatchPacing, batches: Int, of count: Int, length: Int = 106, every interval: Duration,
        from start: inout MonotonicTime
    ) -> Int {
        var rests = 0
        for _ in 0..<batches {
            start = start + interval
            if pacing.note(count, bytes: count * length, now: start) { rests += 1 }
        }
        return rests
    }

    @Test("a thread that wakes up rarely, or for large batches, never rests", arguments: [(1, 45), (24, 5), (64, 1)])
    func unhurried(_ count: Int, _ microseconds: Int) {
        var pacing = BatchPacing()
        var time = MonotonicTime.zero
        let found = rests(&pacing, batches: 1000, of: count, every: .microseconds(microseconds), from: &time)
        #expect(found == 0)
    }

    @Test("many wake-ups for single frames begin rests, which go on while frames gather and end when they do not")
    func begins() {
        var pacing = BatchPacing()
        var time = MonotonicTime.zero
        let first = rests(&pacing, batches: BatchPacing.window - 1, of: 1, every: .microseconds(10), from: &time)
        #expect(first == 0)
        let gathering = rests(&pacing, batches: 200, of: 6, every: .microseconds(110), from: &time)
        #expect(gathering == 200)
        // A large batch has more waiting behind it.
        let large = rests(&pacing, batches: 1, of: BatchPacing.largeBatch, every: .microseconds(110), from: &time)
        #expect(large == 0 && pacing.isResting)
        let single = rests(&pacing, batches: 3 * BatchPacing.window, of: 1, every: .microseconds(110), from: &time)
        #expect(single < 2 * BatchPacing.window)
        #expect(!pacing.isResting)
    }

    @Test("a flow that waits for each answer is slowed down ever more rarely")
    func pingPong() {
        var pacing = BatchPacing()
        var time = MonotonicTime.zero
        var rested = 0
        let batches = 100_000
        for _ in 0..<batches {
            // As long as there are no rests an answer comes soon; with one it comes after it.
            time = time + (pacing.isResting ? BatchPacing.rest : .zero) + .microseconds(20)
            if pacing.note(1, bytes: 106, now: time) { rested += 1 }
        }
        #expect(rested > 0)
        #expect(rested * 50 < batches)
        // As soon as it is a stream of frames, rests pay again, after the longest hold-off at the latest.
        _ = rests(
            &pacing, batches: (BatchPacing.longestHoldOff + 2) * BatchPacing.window, of: 4, every: .microseconds(20),
            from: &time)
        #expect(pacing.isResting)
    }

    @Test("super-frames are not made to wait, and end the rests of small frames")
    func bulk() {
        var pacing = BatchPacing()
        var time = MonotonicTime.zero
        let none = rests(&pacing, batches: 1000, of: 1, length: 60_000, every: .microseconds(20), from: &time)
        #expect(none == 0)
        // Half of the batches are acknowledgements.
        for index in 0..<1000 {
            time = time + .microseconds(20)
            let isResting = pacing.note(1, bytes: index % 2 == 0 ? 66 : 60_000, now: time)
            #expect(!isResting)
        }
        let window = BatchPacing.window
        while time.nanoseconds / 20_000 % Int64(window) != 0 {
            time = time + .microseconds(20)
            _ = pacing.note(1, bytes: 60_000, now: time)
        }
        _ = rests(&pacing, batches: 10 * window, of: 10, length: 1300, every: .microseconds(20), from: &time)
        #expect(!pacing.isResting, "13,000 bytes a batch have gathered already")
        _ = rests(&pacing, batches: window, of: 2, length: 1300, every: .microseconds(20), from: &time)
        #expect(pacing.isResting)
        _ = rests(&pacing, batches: window, of: 3, length: 60_000, every: .microseconds(110), from: &time)
        #expect(!pacing.isResting)
    }
}
