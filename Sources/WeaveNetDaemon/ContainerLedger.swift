/// Which container each name of the address allocator stands for, so that addresses go when their container does.
///
/// Pure: somebody else looks at the kernel and at the clock.
struct ContainerLedger: Sendable, Equatable {
    /// A container that was attached.
    struct Entry: Sendable, Equatable {
        /// As it was given: a network namespace by name, path, or process id.
        var container: String
        /// What tells this namespace from others while it lives.
        var namespace: String
        /// The host's end of its interface; nil until it has one.
        var device: String?
    }

    /// What a look at the containers has shown.
    struct Verdict: Sendable, Equatable {
        /// Gone since the last look.
        var died: [String] = []
        /// Thought gone, and here.
        var returned: [String] = []
    }

    private(set) var entries: [String: Entry]
    private var dead: Set<String> = []

    init(_ entries: [String: Entry] = [:]) { self.entries = entries }

    /// The name a namespace's addresses are filed under; nil when it has none.
    func ident(of namespace: String) -> String? {
        entries.lazy.filter { $0.value.namespace == namespace }.map(\.key).min()
    }

    /// Files a container, under the name it has already or a new one like `wish`.
    ///
    /// - Parameter isTaken: whether addresses are filed under a name by somebody else.
    mutating func file(_ entry: Entry, wish: String, isTaken: (String) -> Bool) -> String {
        if let known = ident(of: entry.namespace) {
            entries[known]?.container = entry.container
            dead.remove(known)
            return known
        }
        var name = wish
        var attempt = 0
        // Another container may be called the same, and have addresses.
        while entries[name] != nil || isTaken(name) {
            name = attempt == 0 ? "\(wish)@\(entry.namespace)" : "\(wish)@\(entry.namespace).\(attempt)"
            attempt += 1
        }
        entries[name] = entry
        return name
    }

    mutating func setDevice(_ device: String, of ident: String) { entries[ident]?.device = device }

    mutating func remove(_ ident: String) {
        entries[ident] = nil
        dead.remove(ident)
    }

    /// Takes in which containers are there.
    mutating func onLook(alive: Set<String>) -> Verdict {
        var verdict = Verdict()
        for ident in entries.keys.sorted() {
            if alive.contains(ident) {
                if dead.remove(ident) != nil { verdict.returned.append(ident) }
            } else if dead.insert(ident).inserted {
                verdict.died.append(ident)
            }
        }
        return verdict
    }

    /// Containers that are gone and may be forgotten once their addresses are free.
    var departed: [String] { dead.sorted() }
}
