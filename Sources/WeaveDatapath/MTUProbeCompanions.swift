/// Smaller probes sent along with a candidate that stays unanswered, so that a path which silently drops large packets
/// is measured in about a second where one candidate at a time takes 2.8.1 twenty. Any peer answers any probe.
///
/// Companions go out behind the candidate in every round from the third on. The answers come back in order over
/// one TCP connection: when a companion has been answered several times and the candidate never, the candidate is lost
/// and not late.
struct MTUProbeCompanions: Sendable, Equatable {
    /// The candidate has been sent this often when companions join it: a healthy path whose answers take less
    /// than 30 ms never sees any.
    static let firstRound = 3
    /// No verdict before the candidate has been sent this often.
    static let verdictRound = 6
    /// So many answers to one companion show that those that are missing are lost.
    static let sufficientAnswers = 3
    /// How many companions at most: a burst of these must fit any socket buffer.
    static let maximumCount = 16
    /// Tried below the floor as well: a path that takes nothing of this size takes nothing.
    static let lowFloor = 128

    /// What common networks leave for an IP packet: Ethernet, jumbo frames, tunnels over either, dial-up, the
    /// smallest that IPv6 and IPv4 allow.
    static let commonPathMTUs = [
        576, 1280, 1340, 1380, 1400, 1420, 1440, 1450, 1460, 1476, 1480, 1492, 1500, 4000, 8896, 8950, 9000, 9001,
    ]

    /// What the companions showed: the largest that arrived, and the smallest above it that did not.
    struct Verdict: Equatable {
        var good: Int
        var bad: Int
    }

    private var answers: [Int: Int] = [:]
    /// The values sent with this candidate, in ascending order.
    private(set) var values: [Int] = []

    /// Chooses companions of `candidate`. `proven`: the largest value ever answered on this path, 0 for none.
    mutating func choose(candidate: Int, good: Int, proven: Int, overhead: Int) {
        var chosen: Set<Int> = proven > 0 ? [proven] : [Self.lowFloor]
        if good < candidate { chosen.insert(good) }
        let between = Self.commonPathMTUs.map { $0 - overhead }.filter { $0 > good && $0 < candidate }
        chosen.formUnion(between.suffix(Self.maximumCount - 2))
        if between.count < 4 {
            let parts = 8
            for part in 1..<parts { chosen.insert(good + (candidate - good) * part / parts) }
        }
        let smallest = MTUSearch.smallestCandidate
        values = chosen.filter { $0 >= smallest && $0 < candidate && $0 != MTUSearch.ambiguousCandidate }.sorted()
        answers = [:]
    }

    /// No companions: a new candidate begins.
    mutating func clear() {
        values = []
        answers = [:]
    }

    mutating func onVerified(_ value: Int) {
        if values.contains(value) { answers[value, default: 0] += 1 }
    }

    /// What is known once enough answers came; nil before. `candidate` is bad when nothing smaller is.
    func verdict(candidate: Int) -> Verdict? {
        guard let good = answers.keys.max(), answers.values.contains(where: { $0 >= Self.sufficientAnswers }) else {
            return nil
        }
        return Verdict(good: good, bad: values.first { $0 > good } ?? candidate)
    }
}
