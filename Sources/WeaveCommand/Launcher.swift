import Foundation
import Subprocess

/// Starts the daemon and leaves it running.
struct Launcher: Sendable {
    let plan: LaunchPlan
    let weaver: String
    let state: StateDirectory
    let terminal: Terminal

    /// Setting up takes a fraction of a second; a loaded machine may need more.
    static let patience: Duration = .seconds(30)

    /// Starts the daemon and ends this program with status 0 as soon as it answers.
    ///
    /// - Throws: `CommandError` with the end of its log when it ends or stays silent.
    func launch() async throws(CommandError) -> Never {
        try state.prepare()
        try state.record(address: plan.isOwnAddress ? plan.address.description : nil)
        let offset = state.logSize
        var options = PlatformOptions()
        // A session of its own: the daemon outlives the terminal.
        options.createSession = true
        var environment = Environment.inherit.updating(["WEAVE_LOG": state.log])
        for (name, value) in plan.environment {
            environment = environment.updating([Environment.Key(stringLiteral: name): value])
        }
        let failure: CommandError
        do {
            // The shell opens the log, says what stops the daemon from starting in it, and becomes the daemon.
            let result = try await run(
                .name("sh"),
                arguments: Arguments(
                    ["-c", #"exec "$0" "$@" >>"$WEAVE_LOG" 2>&1 </dev/null"#, weaver] + plan.arguments),
                environment: environment, platformOptions: options, input: .none, output: .discarded, error: .discarded
            ) { execution in
                await wait(for: DaemonProcess(id: execution.processIdentifier.value), since: offset)
            }
            // What weaver calls wrong words are wrong words here too.
            let isUsage = result.terminationStatus == .exited(CommandError.Code.usage.rawValue)
            failure = CommandError(result.closureResult.message, code: isUsage ? .usage : .failed)
        } catch {
            throw CommandError("cannot start \(weaver): \(error)")
        }
        throw failure
    }

    /// Ends this program when the daemon answers; returns what is wrong when it does not.
    private func wait(for process: DaemonProcess, since offset: UInt64) async -> CommandError {
        let clock = ContinuousClock()
        let deadline = clock.now + Self.patience
        let client = DaemonClient(address: plan.address)
        while process.isRunning {
            if await client.isReady() {
                terminal.write("weaver runs (process \(process.id)); its log is \(state.log)\n")
                // Returning would wait for the daemon to end.
                exit(0)
            }
            guard clock.now < deadline else {
                try? await process.stop(terminal)
                return CommandError(
                    "weaver did not answer at \(plan.address) within \(Self.patience) and was stopped. "
                        + "The end of \(state.log):\n\(state.logTail(after: offset))")
            }
            try? await Task.sleep(for: .milliseconds(50))
        }
        return CommandError("weaver did not start. The end of \(state.log):\n\(state.logTail(after: offset))")
    }

    /// The `weaver` beside this program, else the first on the path.
    ///
    /// - Throws: `CommandError` that says where it was looked for.
    static func findWeaver(environment: [String: String]) throws(CommandError) -> String {
        let files = FileManager.default
        let own = (try? files.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
        let beside = URL(fileURLWithPath: own).deletingLastPathComponent().path
        let directories = [beside] + (environment["PATH"] ?? "").split(separator: ":").map(String.init)
        for directory in directories where files.isExecutableFile(atPath: directory + "/weaver") {
            return directory + "/weaver"
        }
        throw CommandError("there is no weaver in \(beside) nor on the path; install it beside weave")
    }

    /// Runs the daemon program for a task that ends by itself.
    ///
    /// - Throws: `CommandError` with what it said when its status is not 0.
    static func runWeaver(_ arguments: [String], environment: [String: String]) async throws(CommandError) -> String {
        let weaver = try findWeaver(environment: environment)
        let said: String
        let isGood: Bool
        do {
            let result = try await run(
                .name("sh"), arguments: Arguments(["-c", #"exec "$0" "$@" 2>&1 </dev/null"#, weaver] + arguments),
                output: .string(limit: 64 * 1024), error: .discarded)
            said = result.standardOutput
            isGood = result.terminationStatus.isSuccess
        } catch {
            throw CommandError("cannot run \(weaver): \(error)")
        }
        guard isGood else { throw CommandError(said.trimmingCharacters(in: .whitespacesAndNewlines)) }
        return said
    }
}
