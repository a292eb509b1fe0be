public import WeaveCore
import WeaveCrypto

/// The name a peer derives from the identity of its machine, so that it stays the same over restarts and reinstallation
/// of the software.
public enum SystemPeerName {
    /// What is hashed before the identity, so that the name tells nobody the machine's other identifiers.
    private static let salt = Array("9oBJ0Jmip-".utf8)

    /// The name for an identity: the first six bytes of the salted SHA-256, made a locally administered unicast address.
    public static func name(systemID: [UInt8]) -> PeerName {
        var bytes = Array(SHA256Digest.hash(salt + systemID).prefix(PeerName.byteCount))
        bytes[0] = bytes[0] & 0xfe | 0x02
        return PeerName(truncating: bytes.reduce(0) { $0 << 8 | UInt64($1) })
    }

    /// The name of a machine.
    ///
    /// - Parameters:
    ///   - machineID: the raw content of `/etc/machine-id` or `/var/lib/dbus/machine-id`, with its newline; empty when
    ///     there is neither.
    ///   - productID: the raw content of `/sys/class/dmi/id/product_uuid` or `/sys/hypervisor/uuid`; empty when there is
    ///     neither.
    ///   - persisted: the name this host had before, if any. One made from the product alone, as early releases did,
    ///     is kept.
    /// - Returns: nil when the machine has no identity at all.
    public static func name(machineID: [UInt8], productID: [UInt8], persisted: PeerName? = nil) -> PeerName? {
        if let persisted, !productID.isEmpty, persisted == name(systemID: productID) { return persisted }
        let identity = machineID + productID
        return identity.isEmpty ? nil : name(systemID: identity)
    }

    /// The name of the machine whose file system is at `root`; nil when it has no identity.
    ///
    /// - Throws: `SystemPeerNameError` when a file is there and cannot be read: another name than before would be worse
    ///   than none.
    public static func ofMachine(root: String = "", persisted: PeerName? = nil) throws(SystemPeerNameError) -> PeerName?
    {
        let machineID = try firstFile([root + "/etc/machine-id", root + "/var/lib/dbus/machine-id"])
        let productID = try firstFile(["/sys/class/dmi/id/product_uuid", "/sys/hypervisor/uuid"])
        return name(machineID: machineID, productID: productID, persisted: persisted)
    }

    private static func firstFile(_ paths: [String]) throws(SystemPeerNameError) -> [UInt8] {
        for path in paths {
            switch SmallFile.read(path) {
            case .success(let bytes): return bytes
            case .failure(let failure):
                guard failure.isMissing else {
                    throw SystemPeerNameError(description: "cannot read \(path) for the peer name: \(failure)")
                }
            }
        }
        return []
    }
}

/// A file with the machine's identity that could not be read.
public struct SystemPeerNameError: Error, Hashable, CustomStringConvertible {
    public let description: String
}
