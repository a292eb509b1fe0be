import ArgumentParser

struct PrimeCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "prime", abstract: "Wait until the hosts have agreed who hands out which addresses.")

    func run(in here: Surroundings) async throws {
        let request = DaemonRequest.get("/ring").aboutAddresses(waitingFor: "the hosts to agree")
        _ = try await here.client().send(request)
    }
}

struct RemovePeerCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "rmpeer",
        abstract: "Take over the addresses of hosts that are gone for good.",
        discussion: "Do this on one host only, and never for a host that may come back with what it had.")

    @Flag(help: "Do it also for a peer that seems to be alive: addresses may be handed out twice.")
    var force = false

    @Argument(help: ArgumentHelp("name or nickname; see 'weave status ipam'", valueName: "peer"))
    var peers: [String]

    func validate() throws {
        // Either would make a path that means this host.
        if let peer = peers.first(where: { ["", ".", ".."].contains($0) }) {
            throw ValidationError("'\(peer)' is no peer")
        }
    }

    func run(in here: Surroundings) async throws {
        let client = try here.client()
        var failures: [String] = []
        for peer in peers {
            let path = "/peer/\(pathSegment(peer))" + (force ? "?force=true" : "")
            do {
                here.terminal.write(try await client.send(.delete(path).aboutAddresses()))
            } catch {
                if !failures.contains(error.message) { failures.append(error.message) }
            }
        }
        guard failures.isEmpty else { throw CommandError(failures.joined(separator: "\nweave: ")) }
    }
}

struct IPAMCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "ipam", abstract: "Look into the allocation of addresses, and mend it.",
        subcommands: [IPAMExplainCommand.self, IPAMRepairCommand.self])

    func run(in here: Surroundings) async throws {
        throw ValidationError("say 'explain', or 'repair' with the number of a step")
    }
}

struct IPAMExplainCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "explain",
        abstract: "Say who owns which addresses, what waits and for whom, what is wrong, and which steps would mend it."
    )

    func run(in here: Surroundings) async throws {
        here.terminal.write(try await here.client().send(.get("/ipam/explain").aboutAddresses()))
    }
}

struct IPAMRepairCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "repair",
        abstract: "Carry out a step of the plan that 'weave ipam explain' prints. Prints what was done.")

    @Flag(help: "Carry it out also when it takes addresses that containers use.")
    var force = false

    @Argument(help: ArgumentHelp("its number in the plan, from 1", valueName: "step"))
    var step: Int

    func validate() throws {
        if step < 1 { throw ValidationError("steps are numbered from 1") }
    }

    func run(in here: Surroundings) async throws {
        let extra = force ? [(name: "force", value: "true")] : []
        let request = DaemonRequest.post("/ipam/repair", [(name: "step", value: String(step))] + extra)
        here.terminal.write(try await here.client().send(request.aboutAddresses()))
    }
}
