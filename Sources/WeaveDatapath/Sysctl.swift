/// A kernel setting and the value it should have, such as `net/ipv6/conf/weave/accept_ra` = `0`.
public struct SysctlSetting: Hashable, Sendable {
    /// Below `/proc/sys`.
    public let path: String
    public let value: String

    public init(_ path: String, _ value: String) {
        self.path = path
        self.value = value
    }
}

/// Applies settings to the network namespace of the calling thread: reads each before touching it, leaves it alone when it
/// is right already, and passes over those the kernel does not have (a kernel started with `ipv6.disable=1` has none of
/// `net/ipv6`).
public struct Sysctl: Sendable {
    /// Where the settings are, `/proc/sys` unless the host's is mounted elsewhere.
    public let root: String

    public init(root: String = "/proc/sys") { self.root = root }

    /// What became of a setting.
    public enum Outcome: Hashable, Sendable {
        /// It had the value already.
        case unchanged
        case changed
        /// The kernel has no such setting.
        case absent
        /// It could not be read or written; the text says why.
        case refused(String)
    }

    /// The value of a setting without its newline; nil when it is absent or cannot be read.
    public func read(_ path: String) -> String? {
        guard case .success(let bytes) = SmallFile.read(root + "/" + path) else { return nil }
        return String(decoding: bytes, as: UTF8.self).trimmedEnd
    }

    /// Makes sure of one setting.
    public func apply(_ setting: SysctlSetting) -> Outcome {
        let path = root + "/" + setting.path
        switch SmallFile.read(path) {
        case .failure(let failure):
            return failure.isMissing ? .absent : .refused("cannot read \(path): \(failure)")
        case .success(let bytes):
            if String(decoding: bytes, as: UTF8.self).trimmedEnd == setting.value { return .unchanged }
        }
        if let failure = SmallFile.write(path, setting.value) {
            return .refused("cannot write \(setting.value) to \(path): \(failure)")
        }
        return .changed
    }

    /// Makes sure of all settings; returns the texts of those that were refused.
    public func apply(_ settings: [SysctlSetting]) -> [String] {
        settings.compactMap { setting in
            if case .refused(let text) = apply(setting) { text } else { nil }
        }
    }
}

extension SysctlSetting {
    /// Neighbours that went away are noticed within seconds, because containers move between hosts.
    static func neighbourTuning(_ device: String) -> [SysctlSetting] {
        let directory = "net/ipv4/neigh/\(device)/"
        return [
            SysctlSetting(directory + "base_reachable_time", "5"),
            SysctlSetting(directory + "delay_first_probe_time", "2"),
            SysctlSetting(directory + "ucast_solicit", "1"),
        ]
    }

    /// Nobody on the link may make himself our router or redirect us (CVE-2020-11091).
    static func ignoreRouterAdvertisements(_ device: String) -> [SysctlSetting] {
        let directory = "net/ipv6/conf/\(device)/"
        return [SysctlSetting(directory + "accept_ra", "0"), SysctlSetting(directory + "accept_redirects", "0")]
    }

    /// The device only passes frames on, and says nothing of its own into the overlay.
    static func noAddresses(_ device: String) -> [SysctlSetting] {
        ignoreRouterAdvertisements(device) + [SysctlSetting("net/ipv6/conf/\(device)/disable_ipv6", "1")]
    }
}

extension String {
    fileprivate var trimmedEnd: String {
        var text = self[...]
        while let last = text.last, last == "\n" || last == " " || last == "\r\n" { text.removeLast() }
        return String(text)
    }
}
