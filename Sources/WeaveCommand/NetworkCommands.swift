import ArgumentParser
import Foundation

struct ConnectCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "connect", abstract: "Connect to more peers, now and after restarts.")

    @Flag(help: "Forget all other targets; connections that are up stay up.")
    var replace = false

    @Argument(help: ArgumentHelp("host, host:port or [IPv6 address]:port", valueName: "peer"))
    var peers: [String] = []

    func validate() throws {
        if peers.isEmpty, !replace { throw ValidationError("give at least one peer") }
    }

    func run() async throws {
        let fields = peers.map { (name: "peer", value: $0) } + (replace ? [(name: "replace", value: "true")] : [])
        _ = try await Surroundings().client().post("/connect", fields)
    }
}

struct ForgetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "forget",
        abstract: "Do not connect to peers any more. Connections that are up stay up.")

    @Argument(help: ArgumentHelp("as given to launch or connect; see 'weave status targets'", valueName: "peer"))
    var peers: [String]

    func run() async throws {
        _ = try await Surroundings().client().post("/forget", peers.map { (name: "peer", value: $0) })
    }
}

struct AttachCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "attach",
        abstract: "Give a container an interface in the network, with addresses. Prints the addresses.",
        usage: "weave attach <address/prefix> ... [--no-multicast-route] <container>",
        discussion: """
            A container is a network namespace: by name (as 'ip netns' knows it), by path (/proc/1234/ns/net), or by \
            the id of a process in it. Its interface is called ethwe. Attaching twice is attaching once; further \
            addresses \
            are added.
            """)

    @Flag(help: "Leave the route for multicast as it is.")
    var noMulticastRoute = false

    @Flag(help: .hidden) var withoutDns = false
    @Flag(help: .hidden) var rewriteHosts = false
    @Option(help: .hidden) var addHost: [String] = []

    @Argument(help: ArgumentHelp("addresses with prefix length, and the container", valueName: "word"))
    var words: [String]

    func run() async throws {
        if rewriteHosts || !addHost.isEmpty {
            Terminal.complain(
                "weave: --rewrite-hosts and --add-host have no effect: files of containers are left alone")
        }
        let order = try ContainerWords(words, directory: FileManager.default.currentDirectoryPath)
        let extra = noMulticastRoute ? [(name: "multicast-route", value: "false")] : []
        Terminal.write(try await Surroundings().client().post("/attach", order.fields + extra))
    }
}

struct DetachCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "detach",
        abstract: "Take addresses from a container; with its last address goes its interface. Prints the addresses.",
        usage: "weave detach [<address/prefix> ...] <container>",
        discussion: "Without addresses, all of them go.")

    @Argument(help: ArgumentHelp("addresses with prefix length, and the container", valueName: "word"))
    var words: [String]

    func run() async throws {
        let order = try ContainerWords(words, directory: FileManager.default.currentDirectoryPath)
        Terminal.write(try await Surroundings().client().post("/detach", order.fields))
    }
}

struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show how the daemon is, or its connections, peers or targets.")

    @Argument(help: ArgumentHelp("connections, peers or targets", valueName: "page"))
    var page: String?

    func validate() throws {
        if let page, !["connections", "peers", "targets"].contains(page) {
            throw ValidationError("there is no status of '\(page)'; there are connections, peers and targets")
        }
    }

    func run() async throws {
        let text = try await Surroundings().client().get("/status" + (page.map { "/" + $0 } ?? ""))
        // 2.8.1 sets the summary off by blank lines.
        Terminal.write(page == nil ? "\n\(text)\n" : text)
    }
}

struct ReportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report", abstract: "Print all the daemon knows as JSON.")

    @Option(
        name: [.customShort("f"), .long],
        help: "Print a template instead: text with {{.A.B}}, {{json .A}} and {{len .A}}, such as {{.Router.Name}}.")
    var format: String?

    func run() async throws {
        let client = try Surroundings().client()
        if let format {
            Terminal.write(try await client.get("/report?format=\(formEncoded(format))"))
        } else {
            Terminal.write(try await client.get("/report", accept: "application/json") + "\n")
        }
    }
}
