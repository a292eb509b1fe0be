import Foundation
import WeaveCore
import WeaveCrypto
import WeaveGob
import WeaveTestKit

@testable import WeaveMesh

/// One side of a recorded handshake.
struct RecordedSide: @unchecked Sendable {
    let json: [String: Any]

    init?(_ value: Any?) {
        guard let json = value as? [String: Any] else { return nil }
        self.json = json
    }

    var password: [UInt8]? { (json["password"] as? String).flatMap { [UInt8](hex: $0) } }
    var bytes: [UInt8] { (json["bytes"] as? String).flatMap { [UInt8](hex: $0) } ?? [] }
    var writes: [[UInt8]] { (json["writes"] as? [String] ?? []).compactMap { [UInt8](hex: $0) } }
    var features: [String: String] { json["features"] as? [String: String] ?? [:] }
    var error: String? { json["error"] as? String }
    var keyPair: KeyPair? {
        (json["private_key"] as? String).flatMap { [UInt8](hex: $0) }.flatMap { KeyPair(privateKey: $0) }
    }
    var minimumVersion: UInt8 { (json["min_version"] as? NSNumber)?.uint8Value ?? 1 }
    var maximumVersion: UInt8 { (json["max_version"] as? NSNumber)?.uint8Value ?? 2 }
    var connectionIDHalf: UInt64 { features["ConnID"].flatMap { UInt64($0) } ?? 0 }
    var messages: [RecordedMessage] {
        (json["messages"] as? [[String: Any]] ?? []).map { RecordedMessage(json: $0) }
    }

    /// A machine that introduces itself as this side did, with the features in the given order.
    func machine(
        outbound: Bool, order: [String]? = nil, limits: ConnectionLimits = ConnectionLimits()
    ) -> ConnectionMachine {
        var features = features
        if let order, order.contains("PublicKey") { features["PublicKey"] = "" }
        let keys = (order ?? features.keys.sorted()).filter { features[$0] != nil }
        let ordered = keys.map { Feature($0, features[$0] ?? "") }
        return ConnectionMachine(
            configuration: ConnectionConfiguration(
                minimumVersion: minimumVersion, maximumVersion: maximumVersion,
                password: password.flatMap { Password($0) }, features: ordered, limits: limits),
            outbound: outbound, path: "10.0.0.1:1000->10.0.0.2:6783", connectionIDHalf: connectionIDHalf,
            keyPair: keyPair ?? KeyPair(), now: .zero)
    }
}

struct RecordedMessage: @unchecked Sendable {
    let json: [String: Any]
    var plaintext: [UInt8] { (json["plaintext"] as? String).flatMap { [UInt8](hex: $0) } ?? [] }
    var frame: [UInt8] { (json["frame"] as? String).flatMap { [UInt8](hex: $0) } ?? [] }
}

/// What directives amount to.
struct Outcome {
    var written: [UInt8] = []
    var introduction: RemoteIntroduction?
    var messages: [[UInt8]] = []
    var logs: [String] = []
    var failure: ConnectionFailure?

    mutating func take(_ directives: [ConnectionDirective]) {
        for directive in directives {
            switch directive {
            case .write(let bytes): written += bytes
            case .introduced(let introduction): self.introduction = introduction
            case .message(let tag, let payload): messages.append([tag.rawValue] + payload)
            case .log(let text): logs.append(text)
            case .close(let failure): self.failure = failure
            }
        }
    }
}

/// Features of a peer that is beyond reproach.
func goodFeatures(
    name: String = "0a:0b:0c:0d:0e:0f", uid: String = "77", connectionID: String = "5", without: String? = nil,
    replacing: [String: String] = [:]
) -> [Feature] {
    var features = [
        "PeerNameFlavour": "mac", "Name": name, "NickName": "remote", "UID": uid, "ConnID": connectionID,
        "ShortID": "12", "Trusted": "false",
    ]
    if let without { features[without] = nil }
    features.merge(replacing) { $1 }
    return features.sorted { $0.key < $1.key }.map { Feature($0.key, $0.value) }
}

/// The bytes a peer of protocol version 2 without a password begins with.
func plainOpening(_ features: [Feature] = goodFeatures()) throws -> [UInt8] {
    var encoder = GobEncoder()
    let body = try encoder.encode(FeatureMap.gobValue(features), as: FeatureMap.gobType)
    return Array("weave".utf8) + [1, 2, 0] + (try Framing.frame(body, limit: 1 << 20))
}

func plainMachine(
    outbound: Bool = true, limits: ConnectionLimits = ConnectionLimits(), now: MonotonicTime = .zero
) -> ConnectionMachine {
    ConnectionMachine(
        configuration: ConnectionConfiguration(features: goodFeatures(name: "02:00:00:00:00:01"), limits: limits),
        outbound: outbound, path: "10.0.0.1:1000->10.0.0.2:6783", connectionIDHalf: 5, keyPair: nil, now: now)
}

/// A machine without a password whose remote has introduced itself and was accepted.
func openMachine(limits: ConnectionLimits = ConnectionLimits(), now: MonotonicTime = .zero) throws -> ConnectionMachine
{
    var machine = plainMachine(limits: limits, now: now)
    _ = machine.onBytes(try plainOpening(), now: now)
    _ = machine.onAccepted(now: now)
    return machine
}

func moment(_ value: Double) -> MonotonicTime { .zero + .milliseconds(Int64(value * 1000)) }
