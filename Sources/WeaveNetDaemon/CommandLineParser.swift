import ArgumentParser

/// What a command line asks for.
enum CommandLineRequest {
    case run(WeaverOptions, notes: [String])
    /// Say something and end with a status; 0 says it on standard output.
    case finish(status: Int32, text: String)

    init(_ arguments: [String]) {
        do {
            let flags = try GoFlags(arguments)
            self = .run(try WeaverOptions.parse(flags.words), notes: flags.notes)
        } catch let error as DaemonError {
            self = .finish(status: 2, text: "weaver: \(error.message)\n\(Self.usage)")
        } catch {
            let isHelp = WeaverOptions.exitCode(for: error) == .success
            self = .finish(status: isHelp ? 0 : 2, text: WeaverOptions.fullMessage(for: error))
        }
    }

    static let usage = "Usage: weaver [flags] [peer ...]\nSee 'weaver --help' for the flags."
}
