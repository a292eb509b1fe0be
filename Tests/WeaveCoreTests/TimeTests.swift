import Testing
import WeaveCore

@Suite("Time and chance") struct TimeTests {
    @Test("times move by durations and differ by durations")
    func arithmetic() {
        let start = MonotonicTime(nanoseconds: 1_000)
        #expect(start + .milliseconds(2) == MonotonicTime(nanoseconds: 2_001_000))
        #expect((start + .seconds(3)) - start == .seconds(3))
        #expect(start - (start + .seconds(3)) == .seconds(-3))
        #expect(MonotonicTime.zero < start)
        #expect(MonotonicTime(nanoseconds: 1_500_000_000).description == "1.5 s")
    }

    @Test("what does not fit is clamped")
    func clamping() {
        let start = MonotonicTime(nanoseconds: 1_000)
        #expect(start + .nanoseconds(Int64.max) == .distantFuture)
        #expect(MonotonicTime.distantFuture + .seconds(1) == .distantFuture)
        #expect(MonotonicTime(nanoseconds: .min) + .seconds(-1) == MonotonicTime(nanoseconds: .min))
        #expect(Duration.seconds(Int64.max).wholeNanoseconds == .max)
        #expect(Duration.seconds(Int64.min).wholeNanoseconds == .min)
        #expect((Duration.seconds(9_223_372_036) + .milliseconds(900)).wholeNanoseconds == .max)
        #expect((Duration.seconds(-9_223_372_036) - .milliseconds(900)).wholeNanoseconds == .min)
        #expect(Duration.nanoseconds(-7).wholeNanoseconds == -7)
        let extremes = MonotonicTime.distantFuture - MonotonicTime(nanoseconds: .min)
        #expect(extremes > .seconds(Int64(1) << 33))
    }

    @Test("a seed gives the same numbers each time, and other seeds give others")
    func seeds() {
        var first = SeededGenerator(seed: 7)
        var second = SeededGenerator(seed: 7)
        var other = SeededGenerator(seed: 8)
        let numbers = (0..<100).map { _ in first.next() }
        #expect(numbers == (0..<100).map { _ in second.next() })
        #expect(numbers != (0..<100).map { _ in other.next() })
        #expect(Set(numbers).count == 100)
    }

    @Test("the generator is as even as it should be")
    func evenness() {
        var generator = SeededGenerator(seed: 1)
        var counts = [Int](repeating: 0, count: 16)
        for _ in 0..<16_000 { counts[Int.random(in: 0..<16, using: &generator)] += 1 }
        #expect(counts.allSatisfy { (850...1150).contains($0) })
    }
}
