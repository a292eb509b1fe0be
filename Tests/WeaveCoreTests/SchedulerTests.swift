import Testing
import WeaveCore
import WeaveTestKit

@Suite("Scheduler") struct SchedulerTests {
    private func at(_ nanoseconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: nanoseconds) }

    @Test("timers come out in the order in which they are due, and only then")
    func order() {
        var scheduler = Scheduler<String>()
        scheduler.arm("late", at: at(30))
        scheduler.arm("early", at: at(10))
        scheduler.arm("middle", at: at(20))
        #expect(scheduler.nextDeadline == at(10))
        #expect(scheduler.popDue(at(9)) == nil)
        #expect(scheduler.popDue(at(20)) == "early")
        #expect(scheduler.popDue(at(20)) == "middle")
        #expect(scheduler.popDue(at(20)) == nil)
        #expect(scheduler.nextDeadline == at(30))
        #expect(scheduler.count == 1)
    }

    @Test("timers due at the same time come out in the order in which they were armed")
    func ties() {
        var scheduler = Scheduler<Int>()
        for timer in 0..<100 { scheduler.arm(timer, at: at(5)) }
        scheduler.arm(0, at: at(5))
        let order = (0..<100).compactMap { _ in scheduler.popDue(at(5)) }
        #expect(order == Array(1..<100) + [0])
    }

    @Test("arming again moves a timer, both ways")
    func moving() {
        var scheduler = Scheduler<String>()
        scheduler.arm("a", at: at(10))
        scheduler.arm("a", at: at(50))
        #expect(scheduler.nextDeadline == at(50))
        #expect(scheduler.deadline(of: "a") == at(50))
        #expect(scheduler.popDue(at(49)) == nil)
        scheduler.arm("a", at: at(5))
        #expect(scheduler.nextDeadline == at(5))
        scheduler.armIfIdle("a", at: at(1))
        #expect(scheduler.nextDeadline == at(5))
        #expect(scheduler.popDue(at(100)) == "a")
        #expect(scheduler.popDue(at(100)) == nil)
        #expect(scheduler.nextDeadline == nil)
        scheduler.armIfIdle("a", at: at(7))
        #expect(scheduler.isArmed("a"))
    }

    @Test("a timer that was disarmed does not come out")
    func cancelling() {
        var scheduler = Scheduler<Int>()
        for timer in 0..<10 { scheduler.arm(timer, at: at(Int64(timer))) }
        scheduler.cancel(0)
        scheduler.cancel(0)
        #expect(scheduler.nextDeadline == at(1))
        scheduler.cancelAll { $0 % 2 == 1 }
        #expect(scheduler.count == 4)
        #expect(!scheduler.isArmed(3))
        #expect((0..<10).compactMap { _ in scheduler.popDue(at(100)) } == [2, 4, 6, 8])
    }

    @Test("any history gives what a plain list would give", arguments: UInt64(1)...20)
    func model(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var scheduler = Scheduler<Int>()
        var model: [(timer: Int, due: Int64, order: Int)] = []
        for step in 0..<3000 {
            let timer = Int.random(in: 0..<40, using: &generator)
            switch Int.random(in: 0..<10, using: &generator) {
            case 0...4:
                let due = Int64.random(in: 0..<50, using: &generator)
                scheduler.arm(timer, at: at(due))
                model.removeAll { $0.timer == timer }
                model.append((timer, due, step))
            case 5:
                scheduler.cancel(timer)
                model.removeAll { $0.timer == timer }
            case 6 where step % 50 == 0:
                scheduler.cancelAll { $0 % 3 == 0 }
                model.removeAll { $0.timer % 3 == 0 }
            default:
                let now = Int64.random(in: 0..<50, using: &generator)
                let first = model.filter { $0.due <= now }.min { ($0.due, $0.order) < ($1.due, $1.order) }
                #expect(scheduler.popDue(at(now)) == first?.timer, "seed \(seed), step \(step)")
                model.removeAll { $0.timer == first?.timer }
            }
            #expect(scheduler.count == model.count)
            #expect(scheduler.nextDeadline == model.map(\.due).min().map { at($0) }, "seed \(seed), step \(step)")
        }
    }

    @Test("a hundred thousand moves of a thousand timers take no noticeable time")
    func speed() {
        var scheduler = Scheduler<Int>()
        let elapsed = ProcessorTime.measure {
            for move in 0..<100_000 { scheduler.arm(move % 1000, at: at(Int64(move))) }
            while scheduler.popDue(at(1_000_000)) != nil {}
        }
        #expect(scheduler.count == 0)
        #expect(elapsed < .seconds(5))
    }
}
