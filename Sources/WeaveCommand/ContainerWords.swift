import WeaveCore

/// The words after `weave attach` and `weave detach`: addresses, and one container.
struct ContainerWords: Sendable, Equatable {
    var addresses: [String] = []
    var container: String

    /// - Parameter directory: What a relative path is relative to.
    /// - Throws: `CommandError`: usage for words that are neither, failure for `net:` addresses.
    init(_ words: [String], directory: String) throws(CommandError) {
        var containers: [String] = []
        for word in words {
            let plain = word.hasPrefix("ip:") ? String(word.dropFirst(3)) : word
            if word.hasPrefix("net:") {
                throw CommandError(
                    "IP address allocation must be enabled to use 'net:', and this release has none: give the address, "
                        + "such as 10.32.0.1/12")
            }
            if plain.contains("/"), plain.first?.isNumber == true {
                guard IPv4CIDR(plain) != nil else {
                    throw CommandError(
                        "'\(word)' is no address with prefix length, such as 10.32.0.1/12", code: .usage)
                }
                addresses.append(plain)
            } else {
                containers.append(word)
            }
        }
        guard containers.count == 1 else {
            throw CommandError(
                "give exactly one container: a network namespace by name, by path, or by the id of a process in it"
                    + (containers.count > 1 ? " (given were \(containers.joined(separator: ", ")))" : ""), code: .usage)
        }
        let container = containers[0]
        // The daemon has another working directory.
        self.container = container.contains("/") && !container.hasPrefix("/") ? directory + "/" + container : container
    }

    var fields: [(name: String, value: String)] {
        [("container", container)] + addresses.map { ("address", $0) }
    }
}
