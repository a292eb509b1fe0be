import CSodium
import Testing
import WeaveCore
import WeaveCrypto
import WeaveTestKit

@Suite("Recorded packets")
struct PacketVectorTests {
    @Test(
        "Sealing gives the bytes and opening gives the records",
        arguments: try Vectors.load("sleeve", kind: "packet-sealed"))
    func sealed(_ vector: Vectors.Case) throws {
        let packets = try vector.list("packets")
        let df = try #require(vector["df"] as? Bool)
        let sender = try PeerName(parsing: vector["sender"] as? String ?? "")
        let sealer = try PacketSealer(
            key: key(vector), role: vector.role, firstSequence: number(packets.first?["sequence"]))
        let opener = try PacketOpener(key: key(vector), role: vector.role.opposite)
        #expect(!packets.isEmpty)
        for packet in packets {
            let plaintext = try bytes(packet["plaintext"])
            let recorded = try bytes(packet["bytes"])
            #expect(try sealer.seal(name: sender, records: plaintext, dontFragment: df) == recorded)
            #expect(try opener.open(recorded) == plaintext)
            #expect(try opener.open(recorded) == nil)
            let first: UInt8 = try vector.role == .dialler ? 0x80 : 0
            let nonce = [first] + [UInt8](repeating: 0, count: 15) + recorded[6..<14]
            #expect(try nonce == bytes(packet["nonce"]))
        }
    }

    @Test(
        "Packets in any order, repeated and damaged: accepted, dropped or refused as recorded",
        arguments: try Vectors.load("sleeve", kind: "replay"))
    func replay(_ vector: Vectors.Case) throws {
        let session = try key(vector)
        let opener = try PacketOpener(key: session, role: vector.role)
        let packets = try vector.list("packets")
        #expect(!packets.isEmpty)
        for packet in packets {
            let remainder = try bytes(packet["bytes"])
            var whole = [UInt8](repeating: 0, count: 6) + remainder
            let before = whole
            let opening = unsafe whole.withUnsafeMutableBytes { unsafe opener.open($0) }
            switch try #require(packet["result"] as? String) {
            case "accept":
                #expect(opening == .accepted)
                let df = try #require(packet["df"] as? Bool)
                let sealer = try PacketSealer(
                    key: session, role: vector.role.opposite, firstSequence: number(packet["sequence"]))
                let again = try sealer.seal(
                    name: .unknown, records: Array(whole[SealedPacketLayout.recordsOffset...]), dontFragment: df)
                #expect(again == before)
            case "drop":
                #expect(opening == .replay)
                #expect(opening.errorText == nil)
                #expect(whole == before)
            case let result:
                #expect(result == "error")
                #expect(opening.errorText.map { "Failed to decode packet: " + $0 } == packet["error"] as? String)
                #expect(whole == before)
            }
        }
    }

    @Test("The recording has all its cases")
    func nothingMissing() throws {
        #expect(try Vectors.load("sleeve", kind: "packet-sealed").count == 16)
        #expect(try Vectors.load("sleeve", kind: "replay").count == 16)
    }

    // MARK: Worked examples V5 to V12 of overlay-sleeve.md 8.5

    private static let nameA = PeerName(truncating: 0x7a00_0000_0001)
    private static let nameB = PeerName(truncating: 0x7a00_0000_0002)
    private static let aToB = "7a00000000017a0000000002"
    private static let arp =
        "ffffffffffff020000000011080600010800060400010200000000110a2000010000000000000a200002"
    private static let icmp =
        "02000000002202000000001108004500001c123440004001146b0a2000010a2000020800f7fd00010001"
    private static let heartbeat = "001600000000000000000000000000000123456789abcdef"

    struct Worked: Sendable, CustomTestStringConvertible {
        let name: String
        var key = countingKey
        var role = TrafficRole.dialler
        let dontFragment: Bool
        var sequence: UInt64 = 0
        let records: String
        /// The whole packet, or its start when there is a digest.
        let packet: String
        var count: Int?
        var digest: String?
        var testDescription: String { name }
    }

    static let worked: [Worked] = [
        Worked(
            name: "V5", dontFragment: false, records: aToB + "002a" + arp,
            packet:
                "7a0000000001000000000000000084c79d475cf9463cf8e6cd368aad7d4eed629476ad4a34141dc4dafe9e08cb4d69de0433"
                + "dd0a71dbf1ff81f211c754205dfd77ea7892d40d0d4dbdbaccb2410b68a07e10590a00d9"),
        Worked(
            name: "V6", dontFragment: true, records: aToB + heartbeat,
            packet:
                "7a000000000180000000000000001c122157e91980d1fdb9ebbc15dee8df65f248f80a9b2673e11fe01e2e887170cc510660"
                + "9f1b0ab72099ced448840065157beb89"),
        Worked(
            name: "V6 under the key of a password",
            key: "61727be1d97e7f754d730332f48fe8f8e6c319e942e8fb62b63563561de120e3",
            dontFragment: true, records: aToB + heartbeat,
            packet:
                "7a00000000018000000000000000c557096512589c1481c59e96703b8697213776920952ca59f9aed147b79428819e1d50fe"
                + "b899214a2b9353b41f3de9769e701537"),
        Worked(
            name: "V7", dontFragment: true, sequence: 1,
            records: aToB + "002a" + arp + "7a00000000037a0000000002" + "002a" + icmp,
            packet:
                "7a0000000001800000000000000100e4c141192030fc1863c326c124298a919f0eb6a83f761fdcda103f2d29d6e16404d1ed"
                + "aaa23ab35bfe70bcff499447bbc2abd741d3bddfe2ce34d2f49a1d619a6cfc410084ba9e5bc2ad1cee16a4f0559e382081c2a38e"
                + "48c4794a7e2c8ef87e70557e00bcd7eb7585508c8095fe98f411207308203eeff23c4ce43e5b7643"),
        Worked(
            name: "V8", role: .acceptor, dontFragment: true, records: "7a00000000027a0000000001" + heartbeat,
            packet:
                "7a00000000028000000000000000c6536d967bff93ab82e753ebcad86b0f9001c23ecdfdaa4550c794b7d7ab333d6f065e23"
                + "1c4216af4ad7d664539592bd87317c18"),
        Worked(
            name: "V9", dontFragment: false, records: "",
            packet: "7a000000000100000000000000004c00eed95ce128853626d52eebddbef3"),
        Worked(
            name: "V10", dontFragment: true,
            records: aToB + "0594" + (0..<1428).map { UInt8(truncatingIfNeeded: $0) }.hex,
            packet: "7a0000000001800000000000000038a6ce2fbec31d5f0ac59846fccdcb64", count: 1_472,
            digest: "8bea0f1b1ec8b2c7ec35c994d78154b9df45eaf437b0e10f24219dda02b81591"),
        Worked(
            name: "V11", dontFragment: false,
            records: aToB + "ea61" + String(repeating: "00", count: 60_001),
            packet: "7a00000000010000000000000000c8bf3880dbf7d03b936369f77554710e", count: 60_045,
            digest: "fa55b10c94ddcaf1d63245469335364105ea8b4b92308d137363a181d94dcaac"),
        Worked(
            name: "V12", dontFragment: true, sequence: 2,
            records: aToB + "0594" + String(repeating: "00", count: 1_428),
            packet: "7a000000000180000000000000028855fe9be20d7039b5915e97f3d7b61d", count: 1_472,
            digest: "ca593889aa8349c5b02b124435e8154a820dc9c6d547a906c413045c7e0c0ab8"),
    ]

    @Test("Worked examples, sealed and opened", arguments: worked)
    func example(_ example: Worked) throws {
        let session = try key(example.key)
        let sealer = PacketSealer(key: session, role: example.role, firstSequence: example.sequence)
        let records = try bytes(example.records)
        let packet = try sealer.seal(
            name: example.role == .dialler ? Self.nameA : Self.nameB, records: records,
            dontFragment: example.dontFragment)
        #expect(packet.count == example.count ?? example.packet.count / 2)
        if let digest = example.digest {
            #expect(packet.hex.hasPrefix(example.packet))
            #expect(sha256(packet) == digest)
        } else {
            #expect(packet.hex == example.packet)
        }
        #expect(try PacketOpener(key: session, role: example.role.opposite).open(packet) == records)
    }

    @Test("The Salsa20 keys of both directions are those of the specification")
    func subkeys() throws {
        let session = try key(countingKey)
        #expect(
            PacketCipher(key: session, sender: .dialler).subkey.copy.hex
                == "9dbfc18a675a58db61398b185d459da2102a06fb7ecd201b4ae7150b18f6a4eb")
        #expect(
            PacketCipher(key: session, sender: .acceptor).subkey.copy.hex
                == "50088706d3e1cee8a5c0f12504d968443211cf12af4a4b49e5c874b3ef4f85e7")
    }

    @Test("What must not open: V5 again, V9 after V5, V5 at the wrong end, remainders of 7 and 8 bytes")
    func refused() throws {
        let session = try key(countingKey)
        let v5 = try bytes(Self.worked[0].packet)
        let v9 = try bytes(Self.worked[5].packet)
        let opener = PacketOpener(key: session, role: .acceptor)
        #expect(try opener.open(v5) != nil)
        #expect(try opener.open(v5) == nil)
        #expect(try opener.open(v9) == nil)
        let wrongEnd = PacketOpener(key: session, role: .dialler)
        #expect(throws: CryptoError(.authenticationFailed, "UDP packet decryption failed")) { try wrongEnd.open(v5) }
        #expect(throws: CryptoError(.tooShort, "encrypted UDP packet too short; expected length >= 8, got 7")) {
            try opener.open(Array(v5.prefix(13)))
        }
        #expect(throws: CryptoError(.authenticationFailed, "UDP packet decryption failed")) {
            try opener.open(Array(v5.prefix(14)))
        }
    }

    private func sha256(_ bytes: [UInt8]) -> String {
        var digest = [UInt8](repeating: 0, count: 32)
        _ = unsafe crypto_hash_sha256(&digest, bytes, UInt64(bytes.count))
        return digest.hex
    }
}
