/// The seven bytes each side sends first: `weave` and the range of protocol versions it speaks.
struct HandshakeHeader: Equatable {
    static let protocolName = Array("weave".utf8)
    static let byteCount = 7

    var minimumVersion: UInt8
    var maximumVersion: UInt8

    var bytes: [UInt8] { Self.protocolName + [minimumVersion, maximumVersion] }

    init(minimumVersion: UInt8, maximumVersion: UInt8) {
        self.minimumVersion = minimumVersion
        self.maximumVersion = maximumVersion
    }

    /// Reads the header from exactly seven bytes.
    init(_ bytes: ArraySlice<UInt8>) throws(ConnectionFailure) {
        let name = bytes.prefix(Self.protocolName.count)
        guard bytes.count == Self.byteCount, name.elementsEqual(Self.protocolName) else {
            throw ConnectionFailure(.malformed, "remote protocol header not recognised: \(Self.decimals(name))")
        }
        minimumVersion = bytes[bytes.startIndex + 5]
        maximumVersion = bytes[bytes.startIndex + 6]
    }

    /// The highest version both sides speak.
    func commonVersion(with remote: HandshakeHeader) throws(ConnectionFailure) -> UInt8 {
        let chosen = min(maximumVersion, remote.maximumVersion)
        guard chosen >= max(minimumVersion, remote.minimumVersion), chosen >= 1 else {
            throw ConnectionFailure(
                .refused,
                "remote version range [\(remote.minimumVersion),\(remote.maximumVersion)] is incompatible with ours "
                    + "[\(minimumVersion),\(maximumVersion)]")
        }
        return chosen
    }

    /// What is said when the header did not arrive as a whole.
    static func incomplete(_ received: ArraySlice<UInt8>, cause: ConnectionFailure) -> ConnectionFailure {
        guard !received.isEmpty else {
            return ConnectionFailure(cause.code, "failed to receive remote protocol header: \(cause.message)")
        }
        return ConnectionFailure(
            cause.code,
            "received incomplete remote protocol header (\(received.count) octets instead of \(byteCount)): "
                + "\(decimals(received)); error: \(cause.message)")
    }

    private static func decimals(_ bytes: ArraySlice<UInt8>) -> String {
        "[" + bytes.map { String($0) }.joined(separator: " ") + "]"
    }
}

/// How the remote wants to talk, protocol version 2.
enum EncryptionFlag {
    static let clear: UInt8 = 0
    static let sealed: UInt8 = 1
}

extension ConnectionFailure {
    static let passwordOnlyHere = ConnectionFailure(
        .refused, "password specified, but peer requested an unencrypted connection")
    // The misspelling is what operators find when they search for the message.
    static let passwordOnlyThere = ConnectionFailure(
        .refused, "no password specificed, but peer requested an encrypted connection")

    static let end = ConnectionFailure(.ended, "EOF")
    static let unexpectedEnd = ConnectionFailure(.ended, "unexpected EOF")
}
