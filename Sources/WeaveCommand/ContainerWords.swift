/// The words after `weave attach` and `weave detach`: addresses, and one container.
struct ContainerWords: Sendable, Equatable {
    /// As typed; none means whatever the daemon takes for granted.
    var addresses: [String] = []
    var container: String

    /// - Parameter directory: What a relative path is relative to.
    /// - Throws: `CommandError` (usage) for words that are neither.
    init(_ words: [String], directory: String) throws(CommandError) {
        var containers: [String] = []
        for word in words {
            if AddressWord.isMeant(word) {
                try AddressWord.check(word)
                addresses.append(word)
            } else {
                containers.append(word)
            }
        }
        guard containers.count == 1, !containers[0].isEmpty else {
            throw CommandError(
                "give exactly one container: a network namespace by name, by path, or by the id of a process in it"
                    + (containers.count > 1 ? " (given were \(containers.joined(separator: ", ")))" : ""), code: .usage)
        }
        container = Self.absolute(containers[0], directory: directory)
    }

    /// The daemon has another working directory.
    static func absolute(_ container: String, directory: String) -> String {
        container.contains("/") && !container.hasPrefix("/") ? directory + "/" + container : container
    }

    var fields: [(name: String, value: String)] { [("container", container)] + AddressWord.fields(addresses) }

    /// What an attachment may wait for.
    var wish: String {
        (addresses.isEmpty ? AddressWord.standard : addresses.joined(separator: ", ")) + " for \(container)"
    }
}
