import Testing

@testable import WeaveMesh

@Suite("Queues of jobs")
struct JobQueueTests {
    private final class Load: Sendable {}

    @Test("a queue that is never empty holds only what waits, in order")
    func release() async {
        let queue = JobQueue(isSteady: false)
        let taken = Locked<[Int]>([])
        var loads: [() -> Load?] = []
        func append(_ number: Int) {
            let load = Load()
            loads.append { [weak load] in load }
            queue.append {
                withExtendedLifetime(load) {}
                taken.change { $0.append(number) }
            }
        }
        for number in 0..<10 { append(number) }
        for number in 10..<1000 {
            await queue.next()?()
            append(number)
            #expect(queue.count == 10)
            let held = loads.count { $0() != nil }
            guard held == 10 else {
                Issue.record("\(held) held when \(number) came")
                return
            }
        }
        while let job = queue.next() { await job() }
        #expect(taken.value == Array(0..<1000))
        #expect(queue.count == 0)
        #expect(loads.allSatisfy { $0() == nil })
    }
}
