import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveIPAM

@Suite("Recordings of the first agreement") struct ConsensusVectorTests {
    @Test("participants promise, accept and agree as recorded", arguments: recorded("ipam-ring", "paxos"))
    func run(_ recording: Vectors.Case) throws {
        var nodes: [Consensus] = []
        for json in try field(recording.json, "nodes", as: [[String: Any]].self) {
            var consensus = Consensus(node: try node(json["node"]), quorum: try field(json, "quorum"))
            consensus.countsPeersOnce = false
            nodes.append(consensus)
        }
        for (number, step) in try field(recording.json, "steps", as: [[String: Any]].self).enumerated() {
            let place = "step \(number) of \(recording)"
            let index = try field(step, "at", as: Int.self)
            switch try field(step, "op", as: String.self) {
            case "propose":
                #expect(errorText { try nodes[index].propose() } == step["panic"] as? String, "\(place)")
            case "think": #expect(nodes[index].think() == step["think_changed"] as? Bool, "\(place)")
            case "update":
                let isNews = nodes[index].update(nodes[try field(step, "from", as: Int.self)].known)
                #expect(isNews == step["changed"] as? Bool, "\(place)")
                if isNews { #expect(nodes[index].think() == step["think_changed"] as? Bool, "\(place)") }
            case let other: Issue.record("\(other) is not tested: \(place)")
            }
            #expect(sorted(nodes[index].known) == (try knowledge(step["knows"])), "\(place)")
            let agreement = nodes[index].agreement
            #expect((agreement != nil) == step["consensus"] as? Bool, "\(place)")
            if let agreement {
                #expect(agreement.value.sorted() == (try peerNames(step["consensus_value"])).sorted(), "\(place)")
                #expect(agreement.origin == (try proposal(step["consensus_origin"])), "\(place)")
            }
        }
    }
}
