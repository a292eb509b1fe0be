import NetLab

extension LabHost {
    /// What the host shows of its connections and topology, for the text of a failed expectation.
    var shown: String {
        let lines = (try? connections()) ?? ["no answer"]
        let topology = (try? topology()) ?? ["no answer"]
        return "\(kind) \(nickname): \(lines.joined(separator: " / ")); topology \(topology.joined(separator: ", "))"
    }
}

extension [LabHost] {
    /// What each host shows.
    var shown: String { map(\.shown).joined(separator: "\n") }
}
