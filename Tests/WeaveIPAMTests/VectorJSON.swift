import Testing
import WeaveCore
import WeaveTestKit

@testable import WeaveIPAM

/// Recorded cases of one kind; a test checks that there are as many as were recorded.
func recorded(_ file: String, _ kind: String) -> [Vectors.Case] { (try? Vectors.load(file, kind: kind)) ?? [] }

/// A field of a recording, of the type that is expected there.
func field<Value>(_ json: [String: Any], _ key: String, as type: Value.Type = Value.self) throws -> Value {
    try #require(json[key] as? Value, "no \(key) of type \(type)")
}

func address(_ text: Any?) throws -> IPv4Address {
    let text = try #require(text as? String)
    return try #require(IPv4Address(text))
}

func peerName(_ text: Any?) throws -> PeerName { try PeerName(parsing: try #require(text as? String)) }

func peerNames(_ list: Any?) throws -> [PeerName] { try (list as? [Any] ?? []).map(peerName) }

func range(_ pair: Any?) throws -> AddressRange {
    let bounds = try #require(pair as? [Any])
    return try #require(AddressRange(try address(bounds[0]), try address(bounds[1])))
}

func ranges(_ list: Any?) throws -> [AddressRange] { try (list as? [Any] ?? []).map(range) }

func entries(_ list: Any?) throws -> [RingEntry] {
    try (list as? [[Any]] ?? []).map { entry in
        RingEntry(
            token: try address(entry[0]), peer: try peerName(entry[1]),
            version: UInt32(try #require(entry[2] as? Int)), free: UInt32(try #require(entry[3] as? Int)))
    }
}

func ring(_ json: Any?) throws -> Ring {
    let json = try #require(json as? [String: Any])
    return Ring(
        universe: try #require(AddressRange(try address(json["start"]), try address(json["end"]))),
        peer: try peerName(json["peer"]), entries: try entries(json["entries"]), seeds: try peerNames(json["seeds"]))
}

func node(_ pair: Any?) throws -> NodeID {
    let pair = try #require(pair as? [String])
    return NodeID(peer: try peerName(pair[0]), uid: try #require(UInt64(pair[1])))
}

func proposal(_ json: Any?) throws -> ProposalID {
    guard let json = json as? [String: Any] else { return .none }
    return ProposalID(round: UInt64(try field(json, "round", as: Int.self)), proposer: try node(json["proposer"]))
}

/// Claims as recorded. The names of a value are a set: they come sorted.
func knowledge(_ list: Any?) throws -> [NodeID: NodeClaims] {
    var known: [NodeID: NodeClaims] = [:]
    for json in list as? [[String: Any]] ?? [] {
        known[try node(json["node"])] = NodeClaims(
            promise: try proposal(json["promise"]), accepted: try proposal(json["accepted"]),
            value: try peerNames(json["accepted_value"]).sorted(), origin: try proposal(json["accepted_origin"]))
    }
    return known
}

func sorted(_ known: [NodeID: NodeClaims]) -> [NodeID: NodeClaims] {
    known.mapValues { claims in
        var claims = claims
        claims.value.sort()
        return claims
    }
}

/// A state message as recorded.
func stateMessage(_ json: Any?) throws -> StateMessage {
    let json = try #require(json as? [String: Any])
    var nicknames: [PeerName: String] = [:]
    for pair in json["nicknames"] as? [[String]] ?? [] { nicknames[try peerName(pair[0])] = pair[1] }
    return StateMessage(
        unixSeconds: try #require(Int64(try field(json, "now", as: String.self))), nicknames: nicknames,
        consensus: json["paxos"] is [Any] ? try knowledge(json["paxos"]) : nil,
        ring: json["ring"] is [String: Any] ? try ring(json["ring"]) : nil)
}

func sorted(_ message: StateMessage) -> StateMessage {
    var message = message
    message.consensus = message.consensus.map(sorted)
    return message
}

/// A message for one peer as recorded.
func peerMessage(_ json: Any?) throws -> PeerMessage {
    let json = try #require(json as? [String: Any])
    switch try field(json, "type", as: String.self) {
    case "space-request": return .spaceRequest(try range(json["range"]))
    case "ring-update": return .ringUpdate(try stateMessage(json["state"]))
    case "space-request-denied": return .denied(try range(json["range"]))
    default: throw IPAMError(.malformed, "a message of an unknown type is recorded")
    }
}

func hexBytes(_ text: Any?) throws -> [UInt8] {
    let text = try #require(text as? String)
    return try #require([UInt8](hex: text))
}

/// The text of the error that `body` throws; nil when it throws none.
func errorText(_ body: () throws -> Void) -> String? {
    do { try body() } catch { return "\(error)" }
    return nil
}
