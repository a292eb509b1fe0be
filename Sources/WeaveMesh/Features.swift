public import WeaveCore
internal import WeaveGob

/// One thing a peer says of itself in the handshake.
public struct Feature: Sendable, Hashable {
    public var key: String
    public var value: String

    public init(_ key: String, _ value: String) {
        self.key = key
        self.value = value
    }

    static let flavour = "PeerNameFlavour"
    static let name = "Name"
    static let nickname = "NickName"
    static let uid = "UID"
    static let connectionID = "ConnID"
    static let shortID = "ShortID"
    static let trusted = "Trusted"
    static let publicKey = "PublicKey"

    /// The only flavour of names there is on the wire.
    static let macFlavour = "mac"

    /// What a remote must say, in the order in which it is looked for.
    static let required = [flavour, name, nickname, uid, connectionID]

    /// The features of this peer for one connection.
    ///
    /// - Parameters:
    ///   - connectionID: this side's random half of the connection's UID.
    ///   - trusted: whether the address of the remote lies in one of our trusted subnets.
    ///   - extra: what overlays add.
    public static func introduction(
        name: PeerName, nickname: String, uid: UInt64, connectionID: UInt64, shortID: ShortID?, trusted: Bool,
        extra: [String: String] = [:]
    ) -> [Feature] {
        var features = [
            Feature(Feature.flavour, macFlavour), Feature(Feature.name, name.description),
            Feature(Feature.nickname, nickname), Feature(Feature.uid, String(uid)),
            Feature(Feature.connectionID, String(connectionID)),
        ]
        if let shortID { features.append(Feature(Feature.shortID, shortID.description)) }
        features.append(Feature(Feature.trusted, trusted ? "true" : "false"))
        let known = Set(features.map(\.key))
        features += extra.sorted { $0.key < $1.key }.filter { !known.contains($0.key) }.map {
            Feature($0.key, $0.value)
        }
        return features
    }
}

/// Features as they travel: a gob map of strings.
enum FeatureMap {
    static let gobType = GobType.map(nil, .string, .string)

    static func gobValue(_ features: [Feature]) -> GobValue {
        .map(features.map { GobValue.Pair(key: .text($0.key), value: .text($0.value)) })
    }

    static func dictionary(_ value: GobValue) -> [String: String] {
        guard case .map(let pairs) = value else { return [:] }
        var features: [String: String] = [:]
        for pair in pairs {
            if let key = pair.key.text, let text = pair.value.text { features[key] = text }
        }
        return features
    }

    /// Reads a whole gob stream of one map.
    static func decode(_ body: [UInt8]) throws(ConnectionFailure) -> [String: String] {
        var decoder = GobDecoder(body, limits: .handshake)
        let value: GobValue?
        do throws(GobError) {
            value = try decoder.decode(as: gobType)
        } catch {
            throw ConnectionFailure(.malformed, error.message)
        }
        guard let value else { throw .end }
        return dictionary(value)
    }

    /// What is left of features when the remote speaks protocol version 1.
    static func restrictedToVersion1(_ features: [Feature], publicKey: [UInt8]?) -> [Feature] {
        var kept: [Feature] = []
        for feature in features {
            if feature.key == Feature.publicKey {
                if let publicKey { kept.append(Feature(Feature.publicKey, publicKey.hex)) }
            } else if Feature.required.contains(feature.key) {
                kept.append(feature)
            }
        }
        if let publicKey, !kept.contains(where: { $0.key == Feature.publicKey }) {
            kept.append(Feature(Feature.publicKey, publicKey.hex))
        }
        return kept
    }
}

extension RemoteIntroduction {
    /// Reads what a remote said of itself.
    ///
    /// - Parameter localConnectionID: this side's half of the connection's UID.
    init(features: [String: String], localConnectionID: UInt64) throws(ConnectionFailure) {
        for key in Feature.required where features[key] == nil {
            throw ConnectionFailure(.refused, "field \(key) is missing")
        }
        let flavour = features[Feature.flavour] ?? ""
        guard flavour == Feature.macFlavour else {
            throw ConnectionFailure(
                .refused, "Peer name flavour mismatch (ours: '\(Feature.macFlavour)', theirs: '\(flavour)')")
        }
        let name: PeerName
        do throws(InvalidPeerName) {
            name = try PeerName(parsing: features[Feature.name] ?? "")
        } catch {
            throw ConnectionFailure(.refused, error.description)
        }
        // Others would not take a record of it from us, and the log has it in every line.
        let nickname = features[Feature.nickname] ?? ""
        guard nickname.utf8.count <= TopologyUpdate.maximumNicknameBytes else {
            throw ConnectionFailure(
                .refused,
                "nickname of \(nickname.utf8.count) bytes; at most \(TopologyUpdate.maximumNicknameBytes)")
        }
        var shortID: ShortID?
        if let text = features[Feature.shortID] {
            shortID = ShortID(exactly: try Self.unsigned(text, upTo: UInt64(ShortID.count - 1)))
        }
        var trusted = false
        if let text = features[Feature.trusted] { trusted = try Self.boolean(text) }
        let uid = try Self.unsigned(features[Feature.uid] ?? "", upTo: .max)
        let remoteConnectionID = try Self.unsigned(features[Feature.connectionID] ?? "", upTo: .max)
        self.init(
            name: name, nickname: nickname, uid: uid,
            connectionUID: localConnectionID ^ remoteConnectionID, shortID: shortID, trustedByRemote: trusted,
            features: features)
    }

    /// Plain decimal digits, leading zeros allowed.
    private static func unsigned(_ text: String, upTo limit: UInt64) throws(ConnectionFailure) -> UInt64 {
        func failure(_ why: String) -> ConnectionFailure {
            ConnectionFailure(.refused, "strconv.ParseUint: parsing \"\(text)\": \(why)")
        }
        guard !text.isEmpty, text.utf8.allSatisfy({ (48...57).contains($0) }) else { throw failure("invalid syntax") }
        guard let value = UInt64(text), value <= limit else { throw failure("value out of range") }
        return value
    }

    private static func boolean(_ text: String) throws(ConnectionFailure) -> Bool {
        switch text {
        case "1", "t", "T", "true", "TRUE", "True": true
        case "0", "f", "F", "false", "FALSE", "False": false
        default: throw ConnectionFailure(.refused, "strconv.ParseBool: parsing \"\(text)\": invalid syntax")
        }
    }
}
