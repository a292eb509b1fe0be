import CLinux
import Glibc
public import WeaveNetlink

/// The device `vethwe-tap`: the bridge port through which frames go to the overlay and come from it.
public enum TAPPort {
    /// The kernel bounds a TAP device so that a packet with its Ethernet header stays within 65535 bytes, which is also
    /// the largest frame a 2.8.1 peer takes.
    public static let maximumMTU = 65521

    /// Makes the device in the calling thread's namespace, with offload headers and as many queues as packet threads will
    /// ask for. It stays when nobody has it open, so that the bridge does not change when the router restarts; an
    /// existing one is left as it is.
    ///
    /// - Throws: `NetlinkError`; `unsupported` when the kernel has no TAP devices.
    public static func create(_ name: String) throws(NetlinkError) {
        try checkDeviceName(name)
        let header = UInt32(WEAVE_TAP_VNET_HEADER.rawValue)
        let queues = UInt32(WEAVE_TAP_MULTI_QUEUE.rawValue)
        var actual = [CChar](repeating: 0, count: 16)
        var descriptor: Int32 = -EINVAL
        for options in [header | queues, header, queues, 0] where descriptor == -EINVAL {
            descriptor = unsafe weave_tap_attach(name, options, &actual)
        }
        guard descriptor >= 0 else { throw failure(-descriptor, name) }
        defer { close(descriptor) }
        let kept = weave_tap_persist(descriptor, 1)
        guard kept == 0 else { throw failure(-kept, name) }
    }

    private static func failure(_ number: Int32, _ name: String) -> NetlinkError {
        let (code, advice): (NetlinkError.Code, String) =
            switch number {
            case EPERM, EACCES: (.notPermitted, "; run as root, or with the capability NET_ADMIN")
            case ENOENT, ENODEV, ENXIO:
                (
                    .unsupported,
                    "; /dev/net/tun is missing: load the module \"tun\" (CONFIG_TUN), or give the container"
                        + " of the router that device"
                )
            case EBUSY: (.busy, "; another process holds it")
            default: (.failed, "")
            }
        return NetlinkError(code, "cannot create TAP device \"\(name)\": \(errorText(number))\(advice)")
    }
}
