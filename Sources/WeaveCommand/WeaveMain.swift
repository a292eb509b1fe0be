import ArgumentParser
import Foundation

@main
enum WeaveMain {
    static func main() async {
        let words = Array(CommandLine.arguments.dropFirst())
        guard !words.isEmpty else {
            Terminal.standard.complain(Weave.helpMessage())
            exit(CommandError.Code.usage.rawValue)
        }
        exit(await status(of: words))
    }

    /// Runs the command that `words` name; returns the exit status.
    static func status(of words: [String], in here: Surroundings = Surroundings()) async -> Int32 {
        let terminal = here.terminal
        do {
            var command = try Weave.parseAsRoot(words)
            if let action = command as? any WeaveAction {
                try await action.run(in: here)
            } else {
                try command.run()
            }
            return 0
        } catch let error as CommandError {
            terminal.complain("weave: \(error.message)")
            return error.code.rawValue
        } catch {
            let isHelp = Weave.exitCode(for: error) == .success
            let text = Weave.fullMessage(for: error)
            isHelp ? terminal.write(text + "\n") : terminal.complain(text)
            return isHelp ? 0 : CommandError.Code.usage.rawValue
        }
    }
}
