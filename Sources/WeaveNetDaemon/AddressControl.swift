import WeaveCore
import WeaveIPAM

/// What the control interface can ask of the address allocator.
protocol AddressControl: Sendable {
    /// Where addresses come from when nobody says.
    var defaultSubnet: IPv4CIDR { get }

    /// Waits until there is a ring.
    func prime() async

    /// All names and what they have.
    func owned() async -> [String: [IPv4CIDR]]

    /// The addresses of a name within a range.
    func lookup(_ ident: String, in range: AddressRange) async -> [IPv4CIDR]

    /// An address of a subnet, the same one when the name has one. Waits while there is none.
    func allocate(_ ident: String, subnet: IPv4CIDR, isContainer: Bool) async throws -> IPv4CIDR

    /// A certain address.
    func claim(_ ident: String, _ cidr: IPv4CIDR, isContainer: Bool, acceptsUnknown: Bool) async throws

    /// Takes one address from a name, or with nil all.
    func free(_ ident: String, _ address: IPv4Address?) async throws

    /// Gives all ranges of this peer to another, for good.
    func leave() async

    /// Takes over the ranges of a dead peer.
    ///
    /// - Returns: How many addresses that were.
    func takeOver(_ peer: String, isForced: Bool) async throws -> Int

    /// What is going on and why.
    func explain() async -> Explanation

    /// Carries out a step of the plan in an explanation.
    ///
    /// - Parameter step: Its number, from 1.
    /// - Returns: What was done.
    func repair(step: Int, isForced: Bool) async throws -> String
}

/// Asks an allocator, and says in the words of 2.8.1 what went wrong.
struct AllocatorControl: AddressControl {
    let allocator: AddressAllocator
    let defaultSubnet: IPv4CIDR

    func prime() async { await allocator.prime() }

    func owned() async -> [String: [IPv4CIDR]] { await allocator.owned().mapValues(\.cidrs) }

    func lookup(_ ident: String, in range: AddressRange) async -> [IPv4CIDR] {
        await allocator.lookup(ident, in: range)
    }

    func allocate(_ ident: String, subnet: IPv4CIDR, isContainer: Bool) async throws -> IPv4CIDR {
        try await Self.explained { () async throws(IPAMError) in
            try await allocator.allocate(ident, subnet: subnet, isContainer: isContainer)
        }
    }

    func claim(_ ident: String, _ cidr: IPv4CIDR, isContainer: Bool, acceptsUnknown: Bool) async throws {
        try await Self.explained("Unable to claim: ") { () async throws(IPAMError) in
            try await allocator.claim(ident, cidr, isContainer: isContainer, acceptsUnknown: acceptsUnknown)
        }
    }

    func free(_ ident: String, _ address: IPv4Address?) async throws {
        try await Self.explained(address == nil ? "" : "Unable to free: ") { () async throws(IPAMError) in
            if let address {
                try await allocator.free(ident, address)
            } else {
                try await allocator.delete(ident)
            }
        }
    }

    func leave() async { await allocator.shutdown() }

    func takeOver(_ peer: String, isForced: Bool) async throws -> Int {
        try await Self.explained { () async throws(IPAMError) in
            try await allocator.takeOver(peer, isForced: isForced)
        }
    }

    func explain() async -> Explanation { await allocator.explain() }

    func repair(step: Int, isForced: Bool) async throws -> String {
        let steps = await allocator.explain().steps
        guard steps.indices.contains(step - 1) else {
            throw DaemonError(
                .badRequest,
                steps.isEmpty
                    ? "nothing is to be repaired: no peer contradicts this one"
                    : "there is no step \(step); 'weave ipam explain' shows steps 1 to \(steps.count)")
        }
        let chosen = steps[step - 1]
        try await Self.explained { () async throws(IPAMError) in
            try await allocator.repair(chosen, isForced: isForced)
        }
        return "\(chosen)"
    }

    /// Turns the allocator's errors into those of the control interface.
    private static func explained<Value>(
        _ prefix: String = "", _ work: () async throws(IPAMError) -> Value
    ) async throws(DaemonError) -> Value {
        do {
            return try await work()
        } catch {
            let code: DaemonError.Code =
                switch error.code {
                case .cancelled: .cancelled
                case .refused, .conflict: .conflict
                case .store: .system
                default: .badRequest
                }
            throw DaemonError(code, prefix + error.message)
        }
    }
}
