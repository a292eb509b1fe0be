import CLinux

/// Work a device may leave to whoever is behind it.
public struct Offload: Hashable, Sendable, CustomStringConvertible {
    public let description: String
    let get: UInt32
    let set: UInt32

    /// Packets may leave the stack without a checksum.
    public static let txChecksum = Offload(
        description: "tx-checksum", get: UInt32(weave_ethtool_get_tx_checksum),
        set: UInt32(weave_ethtool_set_tx_checksum))
    /// Checksums of arriving packets may have been verified already.
    public static let rxChecksum = Offload(
        description: "rx-checksum", get: UInt32(weave_ethtool_get_rx_checksum),
        set: UInt32(weave_ethtool_set_rx_checksum))
    /// TCP may hand over super-frames.
    public static let tso = Offload(
        description: "tso", get: UInt32(weave_ethtool_get_tso), set: UInt32(weave_ethtool_set_tso))
    /// Segmentation is put off to the last moment.
    public static let gso = Offload(
        description: "gso", get: UInt32(weave_ethtool_get_gso), set: UInt32(weave_ethtool_set_gso))
    /// Arriving packets of one flow are joined.
    public static let gro = Offload(
        description: "gro", get: UInt32(weave_ethtool_get_gro), set: UInt32(weave_ethtool_set_gro))

    /// Whether `device`, of the calling thread's namespace, has the offload on.
    public func isOn(_ device: String) throws(NetlinkError) -> Bool {
        try checkDeviceName(device)
        var value: UInt32 = 0
        let result = unsafe weave_ethtool_get(device, get, &value)
        guard result == 0 else { throw NetlinkError(system: result, "ask \"\(device)\" for offload \(self)") }
        return value != 0
    }

    /// Switches the offload of `device`, of the calling thread's namespace, on or off.
    public func set(_ device: String, on: Bool) throws(NetlinkError) {
        try checkDeviceName(device)
        let result = unsafe weave_ethtool_set(device, set, on ? 1 : 0)
        guard result == 0 else {
            throw NetlinkError(system: result, "switch offload \(self) of \"\(device)\" \(on ? "on" : "off")")
        }
    }
}
