import ArgumentParser
import Foundation

struct ResetCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "reset",
        abstract: "Leave the network for good: hand the addresses of this host to another, stop the daemon, and remove "
            + "the bridge, the containers' interfaces and all state.",
        discussion: "A host that just went away is followed up by 'weave rmpeer' on another host.")

    @Flag(help: "Do it without handing the addresses over, also when the daemon does not run.")
    var force = false

    /// How long the hand-over may take on its way to the other hosts.
    static let pause = Duration.milliseconds(500)

    func run(in here: Surroundings) async throws {
        try await Self.depart(here, force: force)
        let said = try await Launcher.runWeaver(
            ["--reset", "--db-prefix=\(here.state.databasePrefix)"], environment: here.environment)
        if !said.isEmpty { here.terminal.complain(said) }
        try here.state.record(address: nil)
    }

    /// Hands the addresses over and stops the daemon.
    ///
    /// - Throws: `CommandError` when state would go that nobody has taken over, or the daemon cannot be stopped.
    static func depart(_ here: Surroundings, force: Bool) async throws(CommandError) {
        let client = try here.client()
        if DaemonProcess(here.state) != nil {
            if !force { await handOver(client) }
            try await StopCommand.stop(here)
        } else if !force, await !client.isReady(), here.state.hasDatabase {
            throw CommandError(
                "weave is not running; unable to remove from cluster.\n"
                    + "Re-launch weave before reset or use --force to override.")
        }
        if await client.isReady() {
            throw CommandError("a daemon answers at \(client.address); stop it where it was started, then reset")
        }
    }

    private static func handOver(_ client: DaemonClient) async {
        do {
            _ = try await client.send(.delete("/peer").aboutAddresses())
            try? await Task.sleep(for: pause)
        } catch {
            // Without allocation there is nothing to hand over.
            guard error.message != AllocationStatus.off else { return }
            client.terminal.complain(
                "weave: the addresses of this host were not handed over (\(error.message)); 'weave rmpeer' on another "
                    + "host takes them over")
        }
    }
}
