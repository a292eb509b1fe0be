internal import WeaveCore
internal import WeaveCrypto
internal import WeaveGob

extension ConnectionMachine {
    /// Goes on as far as the bytes at hand allow.
    mutating func advance(
        _ now: MonotonicTime, _ directives: inout [ConnectionDirective]
    ) throws(ConnectionFailure) {
        while true {
            let before = state
            switch state {
            case .header: try readHeader(now, &directives)
            case .flag: try readFlag(&directives)
            case .publicKey: try readPublicKey(&directives)
            case .features: try readFeatures(&directives)
            case .version1Features: try readVersion1Features(&directives)
            case .open: try readMessages(now, &directives)
            case .introduced, .closed: break
            }
            if state == before { return }
        }
    }

    /// What may lie in memory for somebody who is not a peer yet.
    func checkEarlyBytes() throws(ConnectionFailure) {
        let held = version1Decoder?.bufferedBytes ?? buffer.count
        switch state {
        case .open, .closed: return
        case .introduced:
            guard held <= limits.earlyBytes else {
                throw ConnectionFailure(
                    .malformed, "more than \(limits.earlyBytes) bytes before the connection was accepted")
            }
        case .header, .flag, .publicKey, .features, .version1Features:
            guard held <= limits.handshakeBytes + Framing.prefixBytes else {
                throw Framing.tooLong(buffer.frameLength ?? held, limit: limits.handshakeBytes)
            }
        }
    }

    private mutating func readHeader(
        _ now: MonotonicTime, _ directives: inout [ConnectionDirective]
    ) throws(ConnectionFailure) {
        guard let bytes = buffer.take(HandshakeHeader.byteCount) else { return }
        let common = try ourHeader.commonVersion(with: HandshakeHeader(bytes))
        version = min(Int(common), 2)
        readDeadline = now + limits.handshakeTimeout
        if version == 1 { return startVersion1(&directives) }
        let key = configuration.password == nil ? nil : keyPair?.publicKey
        directives.append(.write(key.map { [EncryptionFlag.sealed] + $0 } ?? [EncryptionFlag.clear]))
        state = .flag
    }

    private mutating func readFlag(_ directives: inout [ConnectionDirective]) throws(ConnectionFailure) {
        guard let flag = buffer.takeByte() else { return }
        switch flag {
        case EncryptionFlag.clear:
            guard configuration.password == nil else { throw .passwordOnlyHere }
            try writeFeatures(&directives)
            state = .features
        case EncryptionFlag.sealed:
            guard configuration.password != nil else { throw .passwordOnlyThere }
            state = .publicKey
        default: throw ConnectionFailure(.malformed, "Bad encryption flag \(flag)")
        }
    }

    private mutating func readPublicKey(_ directives: inout [ConnectionDirective]) throws(ConnectionFailure) {
        guard let key = buffer.take(KeyPair.byteCount) else { return }
        try agree(on: Array(key))
        try writeFeatures(&directives)
        state = .features
    }

    private mutating func agree(on remotePublicKey: [UInt8]) throws(ConnectionFailure) {
        guard let password = configuration.password, let keyPair else { throw .passwordOnlyThere }
        do throws(CryptoError) {
            let key = try keyPair.sessionKey(with: remotePublicKey, password: password)
            sessionKey = key
            self.keyPair = nil
            sealer = StreamSealer(key: key, role: role)
            opener = StreamOpener(key: key, role: role)
        } catch {
            throw ConnectionFailure(.refused, error.message)
        }
    }

    private mutating func writeFeatures(_ directives: inout [ConnectionDirective]) throws(ConnectionFailure) {
        var encoder = GobEncoder()
        let body: [UInt8]
        do throws(GobError) {
            body = try encoder.encode(FeatureMap.gobValue(configuration.features), as: FeatureMap.gobType)
        } catch {
            throw ConnectionFailure(.unsendable, error.message)
        }
        directives.append(.write(try encode(body)))
    }

    private mutating func readFeatures(_ directives: inout [ConnectionDirective]) throws(ConnectionFailure) {
        if let length = buffer.frameLength, length > limits.messageBytes {
            throw Framing.tooLong(length, limit: limits.messageBytes)
        }
        // A longer body than a handshake has is refused once more of it has come than a handshake may take: a remote
        // that only announces it costs nothing.
        if let length = buffer.frameLength, length > limits.handshakeBytes { return }
        guard let body = try buffer.takeFrame(limit: limits.handshakeBytes) else { return }
        remoteFeatures = try FeatureMap.decode(opened(body))
        try introduce(&directives)
    }

    private mutating func introduce(_ directives: inout [ConnectionDirective]) throws(ConnectionFailure) {
        var introduction = try RemoteIntroduction(features: remoteFeatures, localConnectionID: connectionIDHalf)
        introduction.protocolVersion = version
        introduction.sessionKey = sessionKey
        state = .introduced
        configuration.features = []
        readDeadline = nil
        directives.append(.introduced(introduction))
    }

    // MARK: Version 1

    private mutating func startVersion1(_ directives: inout [ConnectionDirective]) {
        var decoder = GobDecoder([], limits: .handshake)
        decoder.append(buffer.takeAll())
        version1Decoder = decoder
        var encoder = GobEncoder()
        let key = configuration.password == nil ? nil : keyPair?.publicKey
        let features = FeatureMap.restrictedToVersion1(configuration.features, publicKey: key)
        // Cannot fail: the value is made for its type.
        let bytes = try? encoder.encode(FeatureMap.gobValue(features), as: FeatureMap.gobType)
        version1Encoder = encoder
        directives.append(.write(bytes ?? []))
        state = .version1Features
    }

    private mutating func readVersion1Features(
        _ directives: inout [ConnectionDirective]
    ) throws(ConnectionFailure) {
        guard let value = try nextVersion1Value(as: FeatureMap.gobType) else { return }
        var features = FeatureMap.dictionary(value)
        if let text = features[Feature.publicKey] {
            guard configuration.password != nil else { throw .passwordOnlyThere }
            try agree(on: Self.publicKey(ofHex: text))
        } else if configuration.password != nil {
            throw .passwordOnlyHere
        }
        features = features.filter { Feature.required.contains($0.key) }
        remoteFeatures = features
        version1Decoder?.limits = .message
        try introduce(&directives)
    }

    /// The next value of the stream of version 1; nil while it is incomplete.
    mutating func nextVersion1Value(as type: GobType) throws(ConnectionFailure) -> GobValue? {
        guard var decoder = version1Decoder else { return nil }
        version1Decoder = nil
        let before = decoder.bufferedBytes
        do throws(GobError) {
            let progress = try decoder.decodeNext(as: type)
            let after = decoder.bufferedBytes
            version1Decoder = decoder
            switch progress {
            case .value(let value):
                version1IsWhole = true
                return value
            case .needMore:
                if after != before { version1IsWhole = false }
                return nil
            }
        } catch {
            throw ConnectionFailure(.malformed, error.message)
        }
    }

    /// Hex digits as 2.8.1 takes them for a key: what is missing is zero, what is too much is ignored.
    private static func publicKey(ofHex text: String) throws(ConnectionFailure) -> [UInt8] {
        let isDigit: (Unicode.Scalar) -> Bool = { scalar in
            switch scalar {
            case "0"..."9", "a"..."f", "A"..."F": true
            default: false
            }
        }
        if let bad = text.unicodeScalars.first(where: { !isDigit($0) }) {
            var code = String(bad.value, radix: 16, uppercase: true)
            code = String(repeating: "0", count: max(0, 4 - code.count)) + code
            throw ConnectionFailure(.malformed, "encoding/hex: invalid byte: U+\(code) '\(bad)'")
        }
        guard let bytes = [UInt8](hex: text) else {
            throw ConnectionFailure(.malformed, "encoding/hex: odd length hex string")
        }
        return Array((bytes + [UInt8](repeating: 0, count: KeyPair.byteCount)).prefix(KeyPair.byteCount))
    }
}
