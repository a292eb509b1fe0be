import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveIPAM

@Suite("Recordings of address arithmetic and of the space") struct SpaceVectorTests {
    @Test("there is a recording for each kind")
    func complete() throws {
        let known = Set(["operations", "range", "cidr"])
        let all = try Vectors.load("ipam-space")
        #expect(all.count >= 65)
        #expect(all.allSatisfy { known.contains($0.kind) })
    }

    @Test("a space does what is recorded, step by step", arguments: recorded("ipam-space", "operations"))
    func operations(_ recording: Vectors.Case) throws {
        var space = Space()
        let steps = try field(recording.json, "steps", as: [[String: Any]].self)
        #expect(!steps.isEmpty)
        for (number, step) in steps.enumerated() {
            let place = "step \(number) of \(recording)"
            try run(step, &space, place)
            #expect(space.takenRanges == (try ranges(step["owned"])), "\(place)")
            #expect(space.freeRanges == (try ranges(step["free"])), "\(place)")
            #expect(space.takenCount == step["num_owned"] as? Int, "\(place)")
            #expect(space.freeCount == step["num_free"] as? Int, "\(place)")
        }
    }

    private func run(_ step: [String: Any], _ space: inout Space, _ place: String) throws {
        switch try field(step, "op", as: String.self) {
        case "add":
            let start = Int(try address(step["start"]).rawValue)
            space.add(try #require(AddressRange(start: start, end: start + (try field(step, "size")))))
        case "allocate":
            let given = space.allocate(in: try range(step["range"]))
            #expect(given?.description == step["address"] as? String, "\(place)")
            #expect((given != nil) == (step["ok"] as? Bool), "\(place)")
        case "claim":
            let wanted = try address(step["address"])
            #expect(errorText { try space.claim(wanted) } == step["error"] as? String, "\(place)")
        case "free":
            let old = try address(step["address"])
            #expect(errorText { try space.release(old) } == step["error"] as? String, "\(place)")
        case "donate":
            let given = space.donate(in: try range(step["range"]))
            #expect(given == (try step["donated"].map { try range($0) }), "\(place)")
        case "num-free-in-range":
            #expect(space.freeCount(in: try range(step["range"])) == step["count"] as? Int, "\(place)")
        case "owned-ranges": #expect(space.ownedRanges == (try ranges(step["ranges"])), "\(place)")
        case "update-ranges": space.update(try ranges(step["ranges"]))
        case "clear": space.removeAll()
        case "text": if space.ownedRanges.isEmpty { #expect(space.description == step["text"] as? String, "\(place)") }
        case let other: Issue.record("\(other) is not tested: \(place)")
        }
    }

    /// A range as recorded. Bounds the wrong way round, which Go lets pass, make no range here: nothing lies in it.
    private func range(_ pair: Any?) throws -> AddressRange {
        let bounds = try #require(pair as? [Any])
        let (start, end) = (try address(bounds[0]), try address(bounds[1]))
        guard let range = AddressRange(start, end) else {
            #expect(start > end)
            return AddressRange(Int(start.rawValue), 0)
        }
        return range
    }

    @Test("ranges divide into CIDRs as recorded", arguments: recorded("ipam-space", "range"))
    func divide(_ recording: Vectors.Case) throws {
        let range = try range(recording["range"])
        #expect(range.count == recording["size"] as? Int)
        #expect(range.cidrs.map(\.description) == recording["cidrs"] as? [String])
        #expect(range.biggestCIDR == (try WeaveIPAMTests.range(recording["biggest_cidr_range"])))
        #expect(range.description == recording["text"] as? String)
        #expect(range.shortDescription == recording["as_cidr_text"] as? String)
        #expect(AddressRange.joined(range.cidrs.map(\.range)) == [range])
    }

    @Test("CIDRs have the ranges that are recorded", arguments: recorded("ipam-space", "cidr"))
    func cidrs(_ recording: Vectors.Case) throws {
        let cidr = try IPv4CIDR.parse(try field(recording.json, "cidr"))
        #expect(cidr.range == (try range(recording["range"])))
        #expect(cidr.hostRange == (try range(recording["host_range"])))
        #expect(cidr.size == recording["size"] as? Int)
        #expect(cidr.isSubnet == recording["is_subnet"] as? Bool)
        #expect(cidr.description == recording["cidr"] as? String)
    }
}
