import Testing
import WeaveCore

@testable import WeaveDatapath

@Suite("Staying awake for an answer")
struct PollingBudgetTests {
    /// The time spent by a thread that wakes up `each` and always asks in vain.
    private func spent(_ budget: inout PollingBudget, wakeUps: Int, each interval: Duration, from start: MonotonicTime)
        -> Duration
    {
        var now = start
        var spent = Duration.zero
        for _ in 0..<wakeUps {
            now = now + interval
            let time = min(budget.allowance(at: now), interval)
            budget.spend(time)
            spent += time
        }
        return spent
    }

    @Test("sparse packets find a thread that asks for the whole of its time")
    func sparse() {
        var budget = PollingBudget()
        let time = spent(&budget, wakeUps: 1000, each: .milliseconds(10), from: .zero)
        #expect(time == PollingBudget.longest * 1000)
    }

    @Test("however often a thread wakes up, it asks for one share of the time", arguments: [1000, 1500, 4000])
    func bounded(_ microseconds: Int) {
        var budget = PollingBudget()
        let interval = Duration.microseconds(microseconds)
        let time = spent(&budget, wakeUps: 100_000, each: interval, from: .zero)
        let whole = interval * 100_000
        #expect(time <= PollingBudget.most + whole / PollingBudget.share)
        // And it does not lie fallow.
        #expect(time * PollingBudget.share * 2 >= whole)
    }

    @Test("a stream of packets uses up what is saved, and gets no more", arguments: [1, 100, 999])
    func stream(_ microseconds: Int) {
        var budget = PollingBudget()
        let time = spent(&budget, wakeUps: 100_000, each: .microseconds(microseconds), from: .zero)
        #expect(time <= PollingBudget.most)
        #expect(time > PollingBudget.most - PollingBudget.longest)
    }

    @Test("what is saved in a quiet time is limited, and a long turn of others is paid off")
    func limits() {
        var budget = PollingBudget()
        _ = budget.allowance(at: .zero)
        let later = MonotonicTime.zero + .seconds(3600)
        var turns = 0
        while turns < 10_000, budget.allowance(at: later) > .zero {
            budget.spend(PollingBudget.longest)
            turns += 1
        }
        #expect(PollingBudget.longest * turns == PollingBudget.most)

        budget = PollingBudget()
        budget.spend(PollingBudget.most * 3)
        #expect(budget.allowance(at: .zero) == .zero)
        #expect(budget.allowance(at: .zero + .seconds(2)) == .zero)
        #expect(budget.allowance(at: .zero + .seconds(3)) == PollingBudget.longest)
        // A clock that stands still gives nothing.
        budget.spend(PollingBudget.most * 2)
        #expect(budget.allowance(at: .zero + .seconds(3)) == .zero)
    }
}
