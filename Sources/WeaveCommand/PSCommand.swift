import ArgumentParser
import Foundation

struct PSCommand: WeaveAction {
    static let configuration = CommandConfiguration(
        commandName: "ps",
        abstract: "List what is attached on this host: id, hardware address and addresses.",
        discussion: """
            weave:expose is this host itself. A hardware address that is not known shows as '-'. Containers that are \
            not attached are left out.
            """)

    @Argument(help: ArgumentHelp("as given to attach", valueName: "container"))
    var containers: [String] = []

    func run(in here: Surroundings) async throws {
        let json = try await here.client().send(.get("/ip").aboutAddresses())
        let list = try OwnedAddresses(json: json)
        let mac = try? String(contentsOfFile: "/sys/class/net/weave/address", encoding: .utf8)
        let directory = FileManager.default.currentDirectoryPath
        let wanted = containers.flatMap { [$0, ContainerWords.absolute($0, directory: directory)] }
        let bridge = mac?.trimmingCharacters(in: .whitespacesAndNewlines)
        here.terminal.write(list.text(of: wanted, bridge: bridge))
    }
}

/// Who has which addresses on this host, as the daemon tells.
struct OwnedAddresses: Sendable, Equatable {
    struct Owner: Sendable, Equatable, Decodable {
        var containerid: String
        var addrs: [String]?
        var mac: String?
    }

    /// The name under which this host has its own.
    static let host = "weave:expose"

    var owners: [Owner]

    /// - Throws: `CommandError` for what is not `{"owned":[{"containerid":"c1","addrs":["10.32.0.1/24"]}]}`.
    init(json: String) throws(CommandError) {
        struct Answer: Decodable { var owned: [Owner]? }
        do {
            owners = try JSONDecoder().decode(Answer.self, from: Data(json.utf8)).owned ?? []
        } catch {
            throw CommandError(
                "the daemon's list of addresses cannot be read; do 'weave' and the daemon differ in age?")
        }
    }

    /// A line for each: id, hardware address, addresses. This host comes first, also without addresses when it has a
    /// bridge.
    ///
    /// - Parameters:
    ///   - wanted: Ids to list; none lists all. The beginning of a long hexadecimal id will do.
    ///   - bridge: The bridge's hardware address; nil when there is none.
    func text(of wanted: [String], bridge: String?) -> String {
        var rows = owners.filter { $0.containerid != Self.host }.sorted { $0.containerid < $1.containerid }
        let own = owners.first { $0.containerid == Self.host }
        if own != nil || bridge != nil {
            rows.insert(Owner(containerid: Self.host, addrs: own?.addrs, mac: own?.mac ?? bridge), at: 0)
        }
        return rows.filter { row in
            wanted.isEmpty
                || wanted.contains { word in
                    row.containerid == word
                        || (Self.isHexadecimal(row.containerid) && !word.isEmpty && row.containerid.hasPrefix(word))
                }
        }.map { row in
            let id = Self.isHexadecimal(row.containerid) ? String(row.containerid.prefix(12)) : row.containerid
            return ([id, row.mac ?? "-"] + (row.addrs ?? [])).joined(separator: " ") + "\n"
        }.joined()
    }

    /// Whether it is the id that a container engine makes.
    private static func isHexadecimal(_ id: String) -> Bool {
        id.utf8.count == 64 && id.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
    }
}
