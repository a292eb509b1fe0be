import ArgumentParser
import WeaveCore

/// The flags of `weaver` as typed.
struct WeaverOptions: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "weaver",
        abstract: "Joins this host's containers to those of other hosts in one Ethernet segment.",
        discussion: """
            Runs in the foreground and logs to standard error; 'weave launch' runs it in the background. Needs root.

            Flags may be written with one dash or two, with their value after a blank or after '='; flags that are on \
            or off also take =true and =false. The password is read from --password-file or from the environment \
            variable \
            WEAVE_PASSWORD; without one, peers talk in clear.

            Flags of Weave Net 2.8.1 for features that this release does not have are accepted, and a line in the log \
            says that they have no effect.

            Exit status: 0 after SIGTERM or SIGINT, 1 when the system refuses something, 2 when the flags are wrong.
            """,
        version: "weave \(WeaveNetVersion.current)")

    @Option(help: ArgumentHelp("Local address for TCP and UDP; all addresses unless given.", valueName: "address"))
    var host = ""

    @Option(help: "Port for TCP and UDP between peers, and of peers given without one.")
    var port: Int = 6783

    @Option(help: ArgumentHelp("Lowest protocol version accepted from peers, 1 or 2.", valueName: "version"))
    var minProtocolVersion: Int = 1

    @Flag(help: "Connect to the peers of the last run, as 'weave connect' and 'weave forget' left them.")
    var resume = false

    @Option(help: "Peer name, like 7a:00:00:00:00:01; derived from the bridge or the machine id unless given.")
    var name: String?

    @Option(help: "Name for people to read; the host name unless given.")
    var nickname: String?

    @Option(help: "Password; shows in the list of processes, so prefer --password-file.")
    var password: String?

    @Option(help: ArgumentHelp("File whose first line is the password.", valueName: "path"))
    var passwordFile: String?

    @Option(help: ArgumentHelp("Comma-separated subnets between which frames need no encryption.", valueName: "cidrs"))
    var trustedSubnets = ""

    @Option(help: ArgumentHelp("Connections at most; 0 for no limit.", valueName: "count"))
    var connLimit: Int = 200

    @Flag(help: "Connect only to the peers given, not to those that they know.")
    var noDiscovery = false

    @Option(
        help: ArgumentHelp(
            "Control interface: host:port or a socket's absolute path; empty for none.", valueName: "address"))
    var httpAddr = "127.0.0.1:6784"

    @Option(
        help: ArgumentHelp(
            "Name under which HTTP clients may call this host, beside its own, localhost and addresses; can be repeated.",
            valueName: "name"))
    var httpHost: [String] = []

    @Option(help: ArgumentHelp("Read-only status, report and metrics; like --http-addr.", valueName: "address"))
    var statusAddr = ""

    @Option(help: ArgumentHelp("Metrics only; like --http-addr.", valueName: "address"))
    var metricsAddr = ""

    @Option(help: ArgumentHelp("debug, info, warning or error.", valueName: "level"))
    var logLevel = "info"

    @Option(
        help: ArgumentHelp(
            "MTU of the bridge and of containers; 0 for what the bridge has, 65535 if it is new.", valueName: "bytes"))
    var mtu: Int = 0

    @Option(help: ArgumentHelp("Name of the bridge.", valueName: "device"))
    var weaveBridge = "weave"

    @Option(help: ArgumentHelp("Packet threads.", valueName: "count"))
    var threads: Int = 1

    @Option(
        help: ArgumentHelp(
            "Range that all hosts give addresses from, the same for all; empty for no allocation.", valueName: "cidr"))
    var ipallocRange = ""

    @Option(
        help: ArgumentHelp(
            "Subnet of addresses that are asked for without one; the whole range unless given.", valueName: "cidr"))
    var ipallocDefaultSubnet = ""

    @Option(
        help: ArgumentHelp(
            "How the first division of the range comes about: consensus, consensus=<number of hosts>, "
                + "seed=<peer name>,<peer name>... or observer.", valueName: "mode"))
    var ipallocInit = ""

    @Flag(help: "Leave the source of traffic to containers on this host as it is, also in exposed subnets.")
    var noMasqLocal = false

    @Flag(help: "Let a network policy controller decide what containers receive; until it does, nothing new.")
    var expectNpc = false

    @Option(
        help: ArgumentHelp(
            "Where state is kept: this text with 'data.sqlite' after it; /var/lib/weave/weave unless given.",
            valueName: "path"))
    var dbPrefix: String?

    @Option(help: ArgumentHelp("Prefix of the files that hold the machine id.", valueName: "path"))
    var hostRoot = ""

    @Option(help: ArgumentHelp("File to write the process id to; removed at the end.", valueName: "path"))
    var pidFile: String?

    @Flag(help: "Print the peer name and exit.")
    var printPeerName = false

    @Flag(help: "Remove the bridge, the interfaces of containers and the state, and exit.")
    var reset = false

    @Argument(help: ArgumentHelp("Peers to connect to: host, host:port or [IPv6 address]:port.", valueName: "peer"))
    var peers: [String] = []
}
