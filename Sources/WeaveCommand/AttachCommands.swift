import ArgumentParser
import Foundation

struct AttachCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "attach",
        abstract: "Give a container an interface in the network, with addresses. Prints the addresses.",
        usage: "weave attach [<address> ...] [--no-multicast-route] <container>",
        discussion: """
            A container is a network namespace: by name (as 'ip netns' knows it), by path (/proc/1234/ns/net), or by \
            the id of a process in it. Its interface is called ethwe. Attaching twice is attaching once; further \
            addresses \
            are added.

            \(AddressHelp.words) Without any, the container gets one of net:default. Where none is free, or the hosts \
            have not agreed yet, this waits.
            """)

    @Flag(help: "Leave the route for multicast as it is.")
    var noMulticastRoute = false

    @Flag(help: .hidden) var withoutDns = false
    @Flag(help: .hidden) var rewriteHosts = false
    @Option(help: .hidden) var addHost: [String] = []

    @Argument(help: ArgumentHelp("addresses, and the container", valueName: "word"))
    var words: [String]

    func run(in here: Surroundings) async throws {
        if rewriteHosts || !addHost.isEmpty {
            here.terminal.complain(
                "weave: --rewrite-hosts and --add-host have no effect: files of containers are left alone")
        }
        let order = try ContainerWords(words, directory: FileManager.default.currentDirectoryPath)
        let extra = noMulticastRoute ? [(name: "multicast-route", value: "false")] : []
        let request = DaemonRequest.post("/attach", order.fields + extra).aboutAddresses(waitingFor: order.wish)
        here.terminal.write(try await here.client().send(request))
    }
}

struct DetachCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "detach",
        abstract: "Take addresses from a container; with its last address goes its interface. Prints the addresses.",
        usage: "weave detach [<address> ...] <container>",
        discussion: "Without addresses, all of them go. \(AddressHelp.words)")

    @Argument(help: ArgumentHelp("addresses, and the container", valueName: "word"))
    var words: [String]

    func run(in here: Surroundings) async throws {
        let order = try ContainerWords(words, directory: FileManager.default.currentDirectoryPath)
        let request = DaemonRequest.post("/detach", order.fields).aboutAddresses()
        here.terminal.write(try await here.client().send(request))
    }
}

struct ExposeCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "expose",
        abstract: "Give this host addresses in the network, so that it reaches containers. Prints the addresses.",
        usage: "weave expose [<address> ...] [--without-masquerade]",
        discussion: "\(AddressHelp.words) Without any, the host gets one of net:default.",
        // 2.8.1 takes a name after -h.
        helpNames: .long)

    @Flag(help: "Let packets between containers and the world outside keep their addresses.")
    var withoutMasquerade = false

    @Option(name: .customShort("h"), help: .hidden) var name: String?

    @Argument(help: ArgumentHelp("net:default, net:<subnet> or <address>/<prefix length>", valueName: "address"))
    var addresses: [String] = []

    func run(in here: Surroundings) async throws {
        try AddressWord.check(all: addresses)
        if let name { here.terminal.complain("weave: -h \(name) has no effect: this release has no DNS") }
        let extra = withoutMasquerade ? [(name: "without-masquerade", value: "true")] : []
        let wish = (addresses.isEmpty ? AddressWord.standard : addresses.joined(separator: ", ")) + " for this host"
        let request = DaemonRequest.post("/expose", AddressWord.fields(addresses) + extra)
        here.terminal.write(try await here.client().send(request.aboutAddresses(waitingFor: wish)))
    }
}

struct HideCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "hide",
        abstract: "Take addresses in the network from this host. Prints the addresses.",
        discussion: "Without addresses, all of them go. \(AddressHelp.words)")

    @Argument(help: ArgumentHelp("as given to expose", valueName: "address"))
    var addresses: [String] = []

    func run(in here: Surroundings) async throws {
        try AddressWord.check(all: addresses)
        let request = DaemonRequest.post("/hide", AddressWord.fields(addresses)).aboutAddresses()
        here.terminal.write(try await here.client().send(request))
    }
}

enum AddressHelp {
    static let words = """
        An address is net:default (one of the default subnet), net:10.32.2.0/24 (one of that subnet), or a certain one \
        with its prefix length: 10.32.0.1/12, also written ip:10.32.0.1/12.
        """
}
