import CLinux
public import WeaveCore
import WeaveNetlink

/// Tells everybody on the link where an IPv4 address is now.
public enum GratuitousARP {
    /// The announcement as an Ethernet frame of 42 bytes: a broadcast request for the sender's own address.
    public static func frame(_ address: IPv4Address, mac: MACAddress) -> [UInt8] {
        MACAddress.broadcast.bytes + mac.bytes + [0x08, 0x06]
            + [0, 1, 0x08, 0, 6, 4, 0, 1] + mac.bytes + address.bytes + MACAddress.broadcast.bytes + address.bytes
    }

    /// Sends the announcements of the IPv4 addresses among `prefixes` out of device `index` of the calling thread's
    /// namespace. A lost one costs others a few seconds of looking for us, so failures are not worth an error.
    static func announce(_ prefixes: [IPPrefix], mac: MACAddress, index: Int) {
        for prefix in prefixes {
            guard let address = prefix.address.v4 else { continue }
            let bytes = frame(address, mac: mac)
            _ = unsafe weave_send_frame(Int32(index), bytes, bytes.count)
        }
    }
}
