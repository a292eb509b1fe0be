import WeaveCore

/// The set of the ranges whose containers run on this host, which the firewall looks destinations up in.
enum LocalRangeSet {
    private static let name = ExposureRules.setName
    /// A host has a few dozen ranges after years; a set has room for 65,536.
    static let limit = 4096
    private static let outputLimit = 1 << 20

    /// What turns a set with the entries `present` (nil: no set) into one with those of `ranges`; what is added comes
    /// before what is taken away, so no address that stays is ever missing. Empty when there is nothing to do.
    static func script(from present: [IPv4CIDR]?, to ranges: [IPv4CIDR]) -> String {
        let wanted = IPv4CIDR.merged(ranges)
        var lines = present == nil ? ["create \(name) hash:net"] : []
        lines += wanted.filter { !(present ?? []).contains($0) }.map { "add \(name) \($0) -exist" }
        lines += (present ?? []).filter { !wanted.contains($0) }.map { "del \(name) \($0) -exist" }
        return lines.map { $0 + "\n" }.joined()
    }

    /// The entries that `ipset save` shows.
    static func entries(_ text: String) -> [IPv4CIDR] {
        text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            guard words.count >= 3, words[0] == "add", words[1] == name else { return nil }
            // A single address has no length.
            return IPv4CIDR(words[2]) ?? IPv4CIDR("\(words[2])/32")
        }
    }

    /// The entries of the set in the calling thread's namespace; nil when there is no set.
    static func current() -> [IPv4CIDR]? {
        guard case .success(let outcome) = Tool.execute("ipset", ["save", name], outputLimit: outputLimit),
            outcome.status == 0
        else { return nil }
        return entries(outcome.output)
    }

    /// Makes the set hold the ranges.
    ///
    /// - Returns: whether anything changed, or why the host cannot have the set.
    static func apply(_ ranges: [IPv4CIDR]) -> Result<Bool, Tool.Failure> {
        let script = script(from: current(), to: ranges)
        if script.isEmpty { return .success(false) }
        return Tool.execute("ipset", ["restore"], input: script).flatMap { outcome in
            outcome.status == 0
                ? .success(true) : .failure(Tool.Failure(isMissing: false, description: outcome.description))
        }
    }

    /// Removes the set, if there is one and no rule uses it.
    static func remove() { _ = Tool.run("ipset", ["destroy", name]) }
}
