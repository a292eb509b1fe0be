import Foundation
import WeaveCore

/// An IPv4 route of this host.
struct HostRoute: Sendable, Equatable, CustomStringConvertible {
    let destination: IPv4CIDR
    let device: String

    var description: String { "\(destination) of \(device)" }

    /// The routes in the main table; none when the system does not tell.
    static func current() -> [HostRoute] {
        (try? String(contentsOfFile: "/proc/net/route", encoding: .utf8)).map(parse) ?? []
    }

    /// Reads the table of `/proc/net/route`: a heading, then device, destination, gateway, flags and so on, the eighth
    /// the mask; addresses are hexadecimal in the byte order of the host. Default routes, routes that lead nowhere and
    /// lines that make no sense are left out.
    static func parse(_ table: String) -> [HostRoute] {
        table.split(separator: "\n").dropFirst().compactMap { line in
            let columns = line.split(whereSeparator: \.isWhitespace)
            guard columns.count >= 8, let flags = UInt32(columns[3], radix: 16), flags & (isUp | isReject) == isUp,
                let destination = address(columns[1]), let mask = address(columns[7]), mask != .any
            else { return nil }
            let length = (~mask.rawValue).leadingZeroBitCount
            guard let network = IPv4CIDR(destination, prefixLength: length), network.mask == mask.rawValue else {
                return nil
            }
            return HostRoute(destination: network.masked, device: String(columns[0]))
        }
    }

    /// RTF_UP and RTF_REJECT of the kernel's `route.h`.
    private static let isUp: UInt32 = 0x1
    private static let isReject: UInt32 = 0x200

    private static func address(_ column: Substring) -> IPv4Address? {
        guard column.utf8.count == 8 else { return nil }
        return UInt32(column, radix: 16).map { IPv4Address(rawValue: UInt32(bigEndian: $0)) }
    }
}
