import Testing
import WeaveCore
import WeaveCrypto
import WeaveTestKit

@Suite("Session keys")
struct SessionKeyTests {
    private static let refused = ["remote public key all zero", "remote public key one"]

    @Test("Recorded pairs give the recorded keys", arguments: try Vectors.load("mesh-handshake", kind: "session-key"))
    func recorded(_ vector: Vectors.Case) throws {
        let pair = try #require(KeyPair(privateKey: bytes(vector["private_key"])))
        let remote = try bytes(vector["remote_public_key"])
        let password = try bytes(vector["password"])
        if Self.refused.contains(vector.name) {
            // 2.8.1 goes on with a key that anybody can compute; here it is refused on purpose.
            let error = try #require(throws: CryptoError.self) { try pair.sharedKey(with: remote) }
            #expect(error.code == .weakPublicKey)
            return
        }
        #expect(try pair.sharedKey(with: remote).copy.hex == vector["shared_key"] as? String)
        let session = try unsafe password.withUnsafeBytes { input throws(CryptoError) in
            try unsafe pair.sessionKey(with: remote, passwordBytes: input)
        }
        #expect(session.hex == vector["session_key"] as? String)
        if let password = Password(password) {
            #expect(try pair.sessionKey(with: remote, password: password) == session)
        }
    }

    @Test("The recording has all its cases, two of them refused")
    func nothingMissing() throws {
        let cases = try Vectors.load("mesh-handshake", kind: "session-key")
        #expect(cases.count == 24)
        #expect(cases.filter { Self.refused.contains($0.name) }.count == 2)
    }

    @Test("The public half of each recorded private key is what the other side was told")
    func publicKeys() throws {
        let cases = try Vectors.load("mesh-handshake", kind: "session-key")
        let byName = Dictionary(uniqueKeysWithValues: cases.map { ($0.name, $0) })
        var checked = 0
        for first in cases where first.name.hasSuffix(", first side") {
            let second = byName[first.name.replacing(", first side", with: ", second side")]
            guard let second else { continue }
            for (own, other) in [(first, second), (second, first)] {
                let pair = try #require(KeyPair(privateKey: bytes(own["private_key"])))
                #expect(pair.publicKey.hex == other["remote_public_key"] as? String)
            }
            checked += 1
        }
        #expect(checked >= 4)
    }

    @Test(
        "Worked examples: the keys of both ends, from their private keys and the password",
        arguments: [
            Worked(
                privateB: (0x21...0x40).map { $0 }, password: "wEaVe",
                publicB: "5869aff450549732cbaaed5e5df9b30a6da31cb0e5742bad5ad4a1a768f1a67b",
                shared: "ec88f6e13b22bf9f04d480e0d8525c08ac7e2f48e212742bcbcafa104a74b08d",
                session: "a43b121a68c32f75fa71dadf2dde8b8e288a1086abd972a35bd5613a5fde7430"),
            Worked(
                privateB: (0xa0...0xbf).map { $0 }, password: "wfvAwt7sj",
                publicB: "605a725d2a4adfeeb1a29e17edd621c1b7593ee8cdbc44ac6c4ab6e2f805d23c",
                shared: "be2a85ab99cae8251db5dd19afeee3a14e1cdb0e871a06d4d65f0596e7b30906",
                session: "61727be1d97e7f754d730332f48fe8f8e6c319e942e8fb62b63563561de120e3"),
        ])
    func worked(_ example: Worked) throws {
        let a = try #require(KeyPair(privateKey: Array(0x01...0x20)))
        let b = try #require(KeyPair(privateKey: example.privateB))
        let password = try #require(Password(example.password))
        #expect(a.publicKey.hex == "07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c")
        #expect(b.publicKey.hex == example.publicB)
        #expect(try a.sharedKey(with: b.publicKey).copy.hex == example.shared)
        #expect(try a.sessionKey(with: b.publicKey, password: password).hex == example.session)
        #expect(try b.sessionKey(with: a.publicKey, password: password).hex == example.session)
    }

    struct Worked: Sendable {
        let privateB: [UInt8]
        let password: String
        let publicB: String
        let shared: String
        let session: String
    }

    @Test(
        "Every public key of low order is refused, also with the unused top bit set",
        arguments: [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ])
    func lowOrder(_ hex: String) throws {
        let password = try #require(Password("secret"))
        var remote = try bytes(hex)
        for _ in 0..<2 {
            let error = try #require(throws: CryptoError.self) {
                try KeyPair().sessionKey(with: remote, password: password)
            }
            #expect(error.code == .weakPublicKey)
            #expect(error.message.contains("low order"))
            remote[31] ^= 0x80
        }
    }

    @Test("A public key of another length is refused", arguments: [0, 1, 31, 33, 64])
    func malformed(_ count: Int) throws {
        let password = try #require(Password("secret"))
        let error = try #require(throws: CryptoError.self) {
            try KeyPair().sessionKey(with: [UInt8](repeating: 9, count: count), password: password)
        }
        #expect(error.code == .malformedKey)
        #expect(error.message.contains("\(count)"))
    }

    @Test("Fresh pairs differ and agree; another password gives another key")
    func fresh() throws {
        let a = KeyPair()
        let b = KeyPair()
        let password = try #require(Password("secret"))
        let other = try #require(Password("Secret"))
        #expect(a.publicKey != b.publicKey)
        let key = try a.sessionKey(with: b.publicKey, password: password)
        #expect(try b.sessionKey(with: a.publicKey, password: password) == key)
        #expect(try b.sessionKey(with: a.publicKey, password: other) != key)
    }

    @Test("Keys have 32 bytes and passwords at least one")
    func lengths() {
        for count in [0, 31, 33] {
            #expect(SessionKey(bytes: [UInt8](repeating: 1, count: count)) == nil)
            #expect(KeyPair(privateKey: [UInt8](repeating: 1, count: count)) == nil)
        }
        #expect(Password("") == nil)
        #expect(Password([UInt8]()) == nil)
        #expect(Password([0]) != nil)
    }

    @Test("A password longer than a slot of locked memory works as any other", arguments: [63, 64, 65, 5_000])
    func longPassword(_ count: Int) throws {
        let a = KeyPair()
        let b = KeyPair()
        let password = try #require(Password([UInt8](repeating: 0x5a, count: count)))
        let shorter = try #require(Password([UInt8](repeating: 0x5a, count: count - 1)))
        let key = try a.sessionKey(with: b.publicKey, password: password)
        #expect(try b.sessionKey(with: a.publicKey, password: password) == key)
        #expect(try b.sessionKey(with: a.publicKey, password: shorter) != key)
    }

    @Test("Neither password nor key shows up in a description")
    func descriptions() throws {
        let password = try #require(Password("hunter2"))
        let pair = try #require(KeyPair(privateKey: Array(1...32)))
        let session = try key(countingKey)
        #expect(!"\(password) \(String(reflecting: password))".contains("hunter2"))
        #expect("\(session)" == "SessionKey")
        #expect("\(pair)" == "KeyPair(32-byte public key)")
    }
}
