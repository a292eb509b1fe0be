import Foundation
import Logging
import WeaveCore
import WeaveCrypto
import WeaveDatapath

/// Everything the daemon is told at its start, checked.
struct DaemonConfiguration: Sendable {
    /// nil binds to all addresses.
    var host: IPv4Address?
    var port: UInt16
    var minimumProtocolVersion: Int
    var resume: Bool
    var name: PeerName?
    var nickname: String
    var password: Password?
    var trustedSubnets: [IPv4CIDR]
    var connectionLimit: Int
    var discovery: Bool
    var control: ListenAddress?
    var status: ListenAddress?
    var metrics: ListenAddress?
    /// Whom HTTP clients may call.
    var hostNames: HostNames
    var logLevel: Logger.Level
    /// nil keeps what the bridge has, and gives a new one the most there is.
    var mtu: Int?
    var bridge: String
    var threads: Int
    /// nil when addresses are not allocated here.
    var addresses: AddressConfiguration?
    /// Whether traffic to containers of this host keeps its source.
    var exemptsLocalRanges: Bool
    /// Whether a network policy controller decides what containers receive.
    var expectsPolicy: Bool
    var databasePrefix: String
    var hostRoot: String
    var pidFile: String?
    var peers: [String]
    /// Lines for the log that the flags call for.
    var warnings: [String]

    /// The kernel's limit for interface names.
    static let maximumDeviceName = 15
    /// A password is a line.
    static let maximumPassword = 64 * 1024
    /// What a string of gob on the wire is taken for by 2.8.1 peers without trouble.
    static let maximumNickname = 255
    /// - Throws: `DaemonError` (usage) for a value that makes no sense, (system) for a password file that cannot be
    ///   read.
    init(_ options: WeaverOptions, environment: [String: String], hostname: String) throws(DaemonError) {
        warnings = []
        host = try Self.host(options.host)
        guard let port = UInt16(exactly: options.port), port > 0 else {
            throw DaemonError(.usage, "--port must be in range [1,65535]")
        }
        self.port = port
        guard (1...2).contains(options.minProtocolVersion) else {
            throw DaemonError(.usage, "--min-protocol-version must be in range [1,2]")
        }
        minimumProtocolVersion = options.minProtocolVersion
        resume = options.resume
        name = try Self.name(options.name)
        nickname = options.nickname ?? hostname
        guard nickname.utf8.count <= Self.maximumNickname else {
            throw DaemonError(.usage, "--nickname has at most \(Self.maximumNickname) bytes")
        }
        trustedSubnets = try Self.subnets(options.trustedSubnets)
        guard (0...65535).contains(options.connLimit) else {
            throw DaemonError(.usage, "--conn-limit must be in range [0,65535]")
        }
        connectionLimit = options.connLimit
        discovery = !options.noDiscovery
        control = try ListenAddress(flag: "--http-addr", options.httpAddr)
        status = try ListenAddress(flag: "--status-addr", options.statusAddr)
        metrics = try ListenAddress(flag: "--metrics-addr", options.metricsAddr)
        hostNames = HostNames([hostname] + options.httpHost + [control, status].compactMap { $0?.host })
        if let name = options.httpHost.first(where: { !HostNames.isName($0) }) {
            throw DaemonError(.usage, "--http-host: '\(printable(name))' is no host name; give it without a port")
        }
        guard let level = DaemonLog.level(options.logLevel) else {
            throw DaemonError(
                .usage, "--log-level: unknown level '\(options.logLevel)'; use debug, info, warning or error")
        }
        logLevel = level
        // IPv4 asks every link for 68 bytes, IPv6 for 1280: less than that is no use to containers.
        guard options.mtu == 0 || (1280...65535).contains(options.mtu) else {
            throw DaemonError(.usage, "--mtu must be 0 or in range [1280,65535]")
        }
        mtu = options.mtu == 0 ? nil : options.mtu
        bridge = options.weaveBridge
        guard !bridge.isEmpty, bridge.utf8.count <= Self.maximumDeviceName,
            bridge.utf8.allSatisfy({ (33...126).contains($0) && $0 != UInt8(ascii: "/") }), bridge != ".",
            bridge != ".."
        else { throw DaemonError(.usage, "--weave-bridge: '\(printable(bridge))' cannot name a device") }
        guard (1...SleeveConfiguration.maximumThreads).contains(options.threads) else {
            throw DaemonError(.usage, "--threads must be in range [1,\(SleeveConfiguration.maximumThreads)]")
        }
        threads = options.threads
        exemptsLocalRanges = options.noMasqLocal
        expectsPolicy = options.expectNpc
        addresses = try AddressConfiguration.make(
            range: options.ipallocRange, defaultSubnet: options.ipallocDefaultSubnet, start: options.ipallocInit)
        if exemptsLocalRanges, addresses == nil {
            throw DaemonError(.usage, "--no-masq-local needs address allocation (--ipalloc-range)")
        }
        databasePrefix = options.dbPrefix ?? (environment["WEAVE_STATE_DIR"] ?? "/var/lib/weave") + "/weave"
        hostRoot = options.hostRoot
        pidFile = options.pidFile
        peers = options.peers
        password = nil
        if resume, !peers.isEmpty {
            throw DaemonError(.usage, "You must not specify an initial peer list in conjunction with --resume")
        }
        if let complaint = peers.lazy.compactMap(PeerTargetSyntax.complaint).first {
            throw DaemonError(.usage, complaint)
        }
        try setPassword(options, environment)
    }

    private mutating func setPassword(
        _ options: WeaverOptions, _ environment: [String: String]
    ) throws(DaemonError) {
        if options.password != nil, options.passwordFile != nil {
            throw DaemonError(.usage, "give either --password or --password-file")
        }
        if let file = options.passwordFile {
            password = try Self.password(file: file, warnings: &warnings)
        } else if let text = options.password {
            password = Password(text)
            warnings.append(
                "--password shows in the list of processes, where every user of this host can read it; "
                    + "use --password-file or WEAVE_PASSWORD")
        } else if let text = environment["WEAVE_PASSWORD"] {
            password = Password(text)
        }
    }

    private static func password(file: String, warnings: inout [String]) throws(DaemonError) -> Password {
        guard let handle = FileHandle(forReadingAtPath: file) else {
            throw DaemonError(.system, "--password-file: cannot open \(file): \(systemReason())")
        }
        let data: Data
        do {
            data = try handle.read(upToCount: maximumPassword + 1) ?? Data()
        } catch {
            throw DaemonError(.system, "--password-file: cannot read \(file)")
        }
        guard data.count <= maximumPassword else {
            throw DaemonError(.system, "--password-file: \(file) is longer than \(maximumPassword) bytes")
        }
        let line = data.prefix { $0 != UInt8(ascii: "\n") && $0 != UInt8(ascii: "\r") }
        guard let password = Password([UInt8](line)) else {
            throw DaemonError(.system, "--password-file: the first line of \(file) is empty, which is no password")
        }
        let mode = (try? FileManager.default.attributesOfItem(atPath: file))?[.posixPermissions] as? NSNumber
        if let mode, mode.intValue & 0o077 != 0 {
            warnings.append("\(file) can be read by others than its owner; 'chmod 600' it")
        }
        return password
    }

    private static func host(_ text: String) throws(DaemonError) -> IPv4Address? {
        if text.isEmpty { return nil }
        guard let address = IPv4Address(text) else {
            throw DaemonError(.usage, "--host: '\(printable(text))' is no IPv4 address")
        }
        return address
    }

    private static func name(_ text: String?) throws(DaemonError) -> PeerName? {
        guard let text else { return nil }
        guard let name = try? PeerName(parsing: text), name != .unknown else {
            throw DaemonError(.usage, "invalid peer name format: \"\(printable(text))\"")
        }
        return name
    }

    private static func subnets(_ text: String) throws(DaemonError) -> [IPv4CIDR] {
        var subnets: [IPv4CIDR] = []
        for part in text.split(separator: ",") {
            let trimmed = part.filter { $0 != " " }
            guard let subnet = IPv4CIDR(trimmed) else {
                throw DaemonError(
                    .usage, "Unable to parse trusted subnets: invalid CIDR address: \(printable(String(trimmed)))")
            }
            subnets.append(subnet.masked)
        }
        return subnets
    }
}
