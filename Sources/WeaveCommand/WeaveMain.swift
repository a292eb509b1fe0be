import ArgumentParser
import Foundation

@main
enum WeaveMain {
    static func main() async {
        let words = Array(CommandLine.arguments.dropFirst())
        guard !words.isEmpty else {
            Terminal.complain(Weave.helpMessage())
            exit(CommandError.Code.usage.rawValue)
        }
        exit(await status(of: words))
    }

    /// Runs the command that `words` name; returns the exit status.
    static func status(of words: [String]) async -> Int32 {
        do {
            var command = try Weave.parseAsRoot(words)
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
            return 0
        } catch let error as CommandError {
            Terminal.complain("weave: \(error.message)")
            return error.code.rawValue
        } catch {
            let isHelp = Weave.exitCode(for: error) == .success
            let text = Weave.fullMessage(for: error)
            isHelp ? Terminal.write(text + "\n") : Terminal.complain(text)
            return isHelp ? 0 : CommandError.Code.usage.rawValue
        }
    }
}
