import ArgumentParser

struct ConnectCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "connect", abstract: "Connect to more peers, now and after restarts.")

    @Flag(help: "Forget all other targets; connections that are up stay up.")
    var replace = false

    @Argument(help: ArgumentHelp("host, host:port or [IPv6 address]:port", valueName: "peer"))
    var peers: [String] = []

    func validate() throws {
        if peers.isEmpty, !replace { throw ValidationError("give at least one peer") }
    }

    func run(in here: Surroundings) async throws {
        let fields = peers.map { (name: "peer", value: $0) } + (replace ? [(name: "replace", value: "true")] : [])
        _ = try await here.client().post("/connect", fields)
    }
}

struct ForgetCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "forget",
        abstract: "Do not connect to peers any more. Connections that are up stay up.")

    @Argument(help: ArgumentHelp("as given to launch or connect; see 'weave status targets'", valueName: "peer"))
    var peers: [String]

    func run(in here: Surroundings) async throws {
        _ = try await here.client().post("/forget", peers.map { (name: "peer", value: $0) })
    }
}

struct StatusCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show how the daemon is, or its connections, peers, targets or the ring.")

    @Argument(help: ArgumentHelp("connections, peers, targets or ipam", valueName: "page"))
    var page: String?

    func validate() throws {
        if let page, !["connections", "peers", "targets", "ipam"].contains(page) {
            throw ValidationError("there is no status of '\(page)'; there are connections, peers, targets and ipam")
        }
    }

    func run(in here: Surroundings) async throws {
        var request = DaemonRequest.get("/status" + (page.map { "/" + $0 } ?? ""))
        request.isAboutAddresses = page == "ipam"
        let text = try await here.client().send(request)
        // 2.8.1 sets the summary off by blank lines.
        here.terminal.write(page == nil ? "\n\(text)\n" : text)
    }
}

struct ReportCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "report", abstract: "Print all the daemon knows as JSON.")

    @Option(
        name: [.customShort("f"), .long],
        help: "Print a template instead: text with {{.A.B}}, {{json .A}} and {{len .A}}, such as {{.Router.Name}}.")
    var format: String?

    func run(in here: Surroundings) async throws {
        let client = try here.client()
        if let format {
            here.terminal.write(try await client.get("/report?format=\(formEncoded(format))"))
        } else {
            here.terminal.write(try await client.get("/report", accept: "application/json") + "\n")
        }
    }
}
