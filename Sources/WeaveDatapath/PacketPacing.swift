import WeaveCore

/// Decides for how long a packet thread stays awake before it sleeps. The answer to a packet often comes within some
/// tens of microseconds, and a processor that sleeps takes as long to wake up; so a thread asks for a while, and lets
/// others run in between.
///
/// A host with sparse traffic pays for it with a small share of one processor at most, and one with a stream of packets
/// nothing: only a thread that sleeps long enough for its processor to fall asleep as well has something to gain.
struct PollingBudget: Sendable {
    /// How long a thread asks in vain before it sleeps.
    static let longest: Duration = .microseconds(100)
    /// One part in so many of the quiet time may pass in asking.
    static let share = 50
    /// Batches that are so far apart have quiet time between them.
    static let quiet: Duration = .milliseconds(1)
    /// What may be saved up: one share of a second.
    static let most: Duration = .seconds(1) / share

    private var saved = most
    private var last: MonotonicTime?

    /// How long to ask, from now on; zero when too much was spent lately.
    mutating func allowance(at now: MonotonicTime) -> Duration {
        if let last, now - last >= Self.quiet { saved = min(Self.most, saved + (now - last) / Self.share) }
        last = now
        return saved < Self.longest ? .zero : Self.longest
    }

    /// So much time passed in asking.
    mutating func spend(_ time: Duration) { saved -= time }
}

/// Decides when a packet thread rests between two batches, so that small frames gather: waking up for each one costs
/// this thread, the next router and the receiver more than carrying it.
///
/// A rest follows only upon many wake-ups in short order that found next to nothing each, and rests end when the batches
/// do not grow by them: a flow that waits for each answer would only be slowed down. Then they are tried again after
/// twice as long.
struct BatchPacing: Sendable {
    /// How long a rest is: what it adds at most to the way of a frame.
    static let rest: Duration = .microseconds(100)
    /// How many batches are judged together.
    static let window = 16
    /// With less time than this from batch to batch, in the mean of a window, rests begin.
    static let shortInterval: Duration = .microseconds(40)
    /// A batch of so many is large enough: no rest follows it.
    static let largeBatch = 24
    /// Rests go on while a batch has so many in the mean.
    static let worthwhileBatch = 3

    /// Only a stream of small frames gains by rests: one with at most so many bytes in a batch, in the mean, begins them.
    static let smallBatch = 4096
    /// With more than this, in the mean, they end: super-frames are gathered already.
    static let bulkyBatch = 32_768
    /// So many windows, at most, pass before rests are tried again.
    static let longestHoldOff = 256

    /// Whether batches are followed by a rest.
    private(set) var isResting = false
    private var batches = 0
    private var carried = 0
    private var carriedBytes = 0
    private var windowStart = MonotonicTime.zero
    /// How many windows pass before the next try, and how many after it if it fails.
    private var holdOff = 0
    private var nextHoldOff = 1

    /// A batch is done.
    ///
    /// - Parameters:
    ///   - count: how many frames and messages it had.
    ///   - bytes: how long they were together.
    ///   - now: when it began.
    /// - Returns: whether to rest before the next one.
    mutating func note(_ count: Int, bytes: Int, now: MonotonicTime) -> Bool {
        if batches == 0 { windowStart = now }
        batches += 1
        carried += count
        carriedBytes += bytes
        if batches == Self.window { judge(now) }
        return isResting && count < Self.largeBatch
    }

    private mutating func judge(_ now: MonotonicTime) {
        if isResting {
            isResting =
                carried >= Self.worthwhileBatch * Self.window && carriedBytes <= Self.bulkyBatch * Self.window
            if isResting {
                nextHoldOff = 1
            } else {
                holdOff = nextHoldOff
                nextHoldOff = min(nextHoldOff * 2, Self.longestHoldOff)
            }
        } else if holdOff > 0 {
            holdOff -= 1
        } else {
            let isBrief = now - windowStart < Self.shortInterval * (Self.window - 1)
            isResting =
                isBrief && carried < Self.largeBatch * Self.window && carriedBytes <= Self.smallBatch * Self.window
        }
        batches = 0
        carried = 0
        carriedBytes = 0
    }
}
