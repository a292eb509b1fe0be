import ArgumentParser
import Foundation
import WeaveCore

/// The command that people type.
struct Weave: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "weave",
        abstract: "Joins containers on many hosts to one network.",
        discussion: """
            Environment:
              WEAVE_HTTP_ADDR   control interface of the daemon: host:port or a socket's absolute path \
            (127.0.0.1:6784)
              WEAVE_STATE_DIR   where 'launch' keeps log, process id and state (/var/lib/weave)
              WEAVE_PASSWORD    password that encrypts traffic between hosts, for 'launch'
              WEAVE_PORT        port between hosts, for 'launch' (6783)
              WEAVE_MTU         MTU of bridge and containers, for 'launch'
              IPALLOC_RANGE     addresses that containers get, for 'launch' (10.32.0.0/12)
              IPALLOC_INIT      how the first hosts agree on them, for 'launch'

            Exit status: 0 when it was done, 1 when it was not, 2 when the words make no sense.
            """,
        version: "weave script \(WeaveNetVersion.current)",
        subcommands: [
            LaunchCommand.self, StopCommand.self, ConnectCommand.self, ForgetCommand.self, AttachCommand.self,
            DetachCommand.self, ExposeCommand.self, HideCommand.self, PSCommand.self, PrimeCommand.self,
            RemovePeerCommand.self, IPAMCommand.self, StatusCommand.self, ReportCommand.self, VersionCommand.self,
            ResetCommand.self,
        ])
}

/// A command that does something.
protocol WeaveAction: AsyncParsableCommand {
    func run(in here: Surroundings) async throws
}

extension WeaveAction {
    func run() async throws { try await run(in: Surroundings()) }
}

/// What every command needs to find the daemon, and to speak.
struct Surroundings: Sendable {
    let environment: [String: String]
    let state: StateDirectory
    let terminal: Terminal

    init(
        environment: [String: String] = ProcessInfo.processInfo.environment, terminal: Terminal = .standard
    ) {
        self.environment = environment
        self.terminal = terminal
        state = StateDirectory(environment: environment)
    }

    func client() throws(CommandError) -> DaemonClient {
        DaemonClient(address: try DaemonAddress.find(environment: environment, state: state), terminal: terminal)
    }
}
