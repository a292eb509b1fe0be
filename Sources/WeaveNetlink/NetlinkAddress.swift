import CNetlink
import Glibc
import WeaveCore

/// An address as libnl wants it, for the time of `body`; `prefixLength` nil is a host address.
func withLibraryAddress<Result>(
    _ address: IPAddress, prefixLength: Int?, _ body: (OpaquePointer) -> Result
) throws(NetlinkError) -> Result {
    let (family, bytes): (Int32, [UInt8]) =
        switch address {
        case .v4(let v4): (AF_INET, v4.bytes)
        case .v6(let v6): (AF_INET6, v6.bytes)
        }
    return try unsafe withLibraryAddress(family: family, bytes, prefixLength: prefixLength, body)
}

/// A hardware address as libnl wants it, for the time of `body`.
func withLibraryAddress<Result>(_ address: MACAddress, _ body: (OpaquePointer) -> Result) throws(NetlinkError)
    -> Result
{
    try unsafe withLibraryAddress(family: AF_LLC, address.bytes, prefixLength: nil, body)
}

private func withLibraryAddress<Result>(
    family: Int32, _ bytes: [UInt8], prefixLength: Int?, _ body: (OpaquePointer) -> Result
) throws(NetlinkError) -> Result {
    let made = unsafe bytes.withUnsafeBytes { unsafe nl_addr_build(family, $0.baseAddress, $0.count) }
    guard let made = unsafe made else { throw NetlinkError(.failed, "cannot encode an address: no memory") }
    defer { unsafe nl_addr_put(made) }
    if let prefixLength { unsafe nl_addr_set_prefixlen(made, Int32(prefixLength)) }
    return unsafe body(made)
}

/// The bytes of a libnl address; empty when there is none.
func bytes(of address: OpaquePointer?) -> [UInt8] {
    guard let address = unsafe address else { return [] }
    let length = Int(unsafe nl_addr_get_len(address))
    guard length > 0, let start = unsafe nl_addr_get_binary_addr(address) else { return [] }
    return unsafe Array(UnsafeRawBufferPointer(start: start, count: length))
}

/// The IP address of a libnl address; nil when it is none or of another kind.
func ipAddress(of address: OpaquePointer?) -> IPAddress? {
    let bytes = unsafe bytes(of: address)
    if bytes.count == 4 { return .v4(IPv4Address(rawValue: bytes.reduce(0) { $0 << 8 | UInt32($1) })) }
    return IPv6Address(bytes: bytes).map { .v6($0) }
}

/// The IP address and prefix length of a libnl address.
func ipPrefix(of address: OpaquePointer?) -> IPPrefix? {
    guard let ip = unsafe ipAddress(of: address) else { return nil }
    return IPPrefix(ip, length: Int(unsafe nl_addr_get_prefixlen(address)))
}
