import ArgumentParser
import Foundation
import WeaveCore

struct LaunchCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "launch",
        abstract: "Start the daemon in the background, wait until it answers, and say where its log is.",
        usage: "weave launch [<weaver flags>] [<peer> ...]",
        discussion: """
            Peers are hosts to connect to: host, host:port, [IPv6 address]:port. Any peer that runs will do; discovery \
            finds the others. Flags are those of 'weaver --help', such as --password-file, --trusted-subnets, --name, \
            --nickname, --no-discovery. A password reaches the daemon through its environment.

            Containers get addresses of --ipalloc-range (10.32.0.0/12), which must be the same on all hosts and nothing \
            that the hosts reach otherwise; of its part --ipalloc-default-subnet, when nothing else is asked for. An \
            empty range switches allocation off. --ipalloc-init tells how the first hosts agree: consensus=<number of \
            hosts>, seed=<peer name>,<peer name>... or observer.
            """)

    @Argument(parsing: .captureForPassthrough, help: ArgumentHelp("Flags and peers for weaver.", valueName: "words"))
    var words: [String] = []

    func run(in here: Surroundings) async throws {
        if words.contains(where: { ["--help", "-h", "-help"].contains($0) }) {
            throw CleanExit.helpRequest(Self.self)
        }
        let plan = try LaunchPlan(words, environment: here.environment, state: here.state)
        for warning in plan.warnings { here.terminal.complain("weave: \(warning)") }
        let client = DaemonClient(address: plan.address)
        if await client.isReady() {
            throw CommandError("weave is already running; you can stop it with 'weave stop'.")
        }
        if let process = DaemonProcess(here.state) {
            throw CommandError(
                "weaver runs (process \(process.id)), but does not answer at \(plan.address); stop it with 'weave stop'"
            )
        }
        if let warning = try plan.range.check(HostRoute.current()) { here.terminal.complain("weave: \(warning)") }
        let weaver = try Launcher.findWeaver(environment: here.environment)
        try await Launcher(plan: plan, weaver: weaver, state: here.state, terminal: here.terminal).launch()
    }
}

struct StopCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "stop",
        abstract: "Stop the daemon. Containers on this host keep their links among themselves.")

    func run(in here: Surroundings) async throws { try await Self.stop(here) }

    static func stop(_ here: Surroundings) async throws(CommandError) {
        if let process = DaemonProcess(here.state) { return try await process.stop(here.terminal) }
        let client = try here.client()
        if await client.isReady() {
            throw CommandError(
                "a daemon answers at \(client.address), but was not started by 'weave launch' with the state directory "
                    + "\(here.state.path); stop it where it was started")
        }
        here.terminal.complain("weave is not running.")
    }
}

struct VersionCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "version", abstract: "Print the versions of this command and of the daemon.")

    func run(in here: Surroundings) async throws {
        here.terminal.write("weave script \(WeaveNetVersion.current)\n")
        if let running = try? await here.client().get("/report?format=\(formEncoded("{{ .Version }}"))") {
            here.terminal.write("weave \(running)\n")
        } else {
            here.terminal.write(try await Launcher.runWeaver(["--version"], environment: here.environment))
        }
    }
}
