import Testing
import WeaveCore
import WeaveCrypto
import WeaveTestKit

/// The bytes of a field of a case in hex.
func bytes(_ value: Any?) throws -> [UInt8] {
    let text = try #require(value as? String)
    return try #require([UInt8](hex: text))
}

func key(_ hex: String) throws -> SessionKey {
    try #require(SessionKey(bytes: bytes(hex)))
}

func key(_ vector: Vectors.Case) throws -> SessionKey {
    try #require(SessionKey(bytes: bytes(vector["session_key"])))
}

extension Vectors.Case {
    /// The role of the side that the case is about.
    var role: TrafficRole {
        get throws { try #require(self["outbound"] as? Bool) ? .dialler : .acceptor }
    }

    func list(_ name: String) throws -> [[String: Any]] { try #require(self[name] as? [[String: Any]]) }
}

func number(_ value: Any?) throws -> UInt64 {
    let text = try #require(value as? String)
    return try #require(UInt64(text))
}

extension SessionKey {
    var hex: String { unsafe withUnsafeBytes { unsafe Array($0).hex } }
}

extension SecretBytes {
    /// A copy, to look at.
    var copy: [UInt8] { unsafe Array(bytes) }

    /// Where the bytes are.
    var place: UInt { unsafe UInt(bitPattern: bytes.baseAddress) }
}

/// The key 00 01 ... 1f of the worked examples.
let countingKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
