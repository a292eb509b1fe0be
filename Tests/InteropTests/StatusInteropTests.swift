import Foundation
import NetLab
import Testing

extension InteropTests {
    /// The same two hosts twice: once the first runs our router, once 2.8.1. What it shows must be the same.
    @Suite("Status pages against those of 2.8.1", .serialized, .enabled(if: InteropTests.isPossible))
    struct StatusPages {
        @Test("status, connections, peers, targets and the report are alike for the same state", arguments: Pairing.all)
        func alike(_ pairing: Pairing) throws {
            let mine = try Self.pages(of: .weaver, pairing)
            let other = try Self.pages(of: .reference, pairing)
            for page in other.texts.keys.sorted() { #expect(mine.texts[page] == other.texts[page], "\(page)") }
            #expect(mine.report.symmetricDifference(other.report) == [])
        }

        @Test("without a peer they are alike too, and a dialled host that is not there reads the same")
        func alone() throws {
            let pages = try [LabRouterKind.weaver, .reference].map { kind in
                let cluster = try LabCluster()
                defer { cluster.takeDown() }
                let host = try cluster.addHost(kind)
                try cluster.link(host, try cluster.addHost(kind))
                try host.launch(peers: ["10.99.1.2"])
                #expect(
                    try LabShell.poll(seconds: 10) { try host.connections().contains { $0.contains("refused") } },
                    "\(host.shown)")
                return try Self.texts(of: host)
            }
            #expect(pages[0] == pages[1])
        }

        static func pages(
            of kind: LabRouterKind, _ pairing: Pairing
        ) throws -> (texts: [String: [String]], report: Set<String>) {
            let cluster = try LabCluster()
            defer { cluster.takeDown() }
            let host = try cluster.addHost(kind)
            let neighbour = try cluster.addHost(.reference)
            try cluster.link(host, neighbour)
            let (dialler, listener) = pairing.oursDials ? (host, neighbour) : (neighbour, host)
            try listener.launch(password: pairing.password)
            try dialler.launch(peers: [listener.addresses[0]], password: pairing.password)
            #expect(try host.measures(pairing.password == nil ? 1438 : 1414), "\(host.shown)")
            #expect(try LabShell.poll(seconds: 10) { try host.topology().allSatisfy { $0.hasSuffix(" established") } })
            return (try texts(of: host), shape(try host.report(), "Router"))
        }

        /// The lines of each text page without what differs between two runs, sorted where 2.8.1 has no order.
        static func texts(of host: LabHost) throws -> [String: [String]] {
            var texts: [String: [String]] = [:]
            for page in ["", "connections", "peers", "targets"] {
                let lines = try host.status(page).split(separator: "\n", omittingEmptySubsequences: false)
                    .map { normalised(String($0)) }
                // Only the summary has a stable order in 2.8.1.
                texts[page] = page.isEmpty ? lines : lines.sorted()
            }
            return texts
        }

        /// Replaces the version, ephemeral ports and the time of the next attempt, which 2.8.1 prints with its
        /// monotonic clock, and separates attributes.
        static func normalised(_ line: String) -> String {
            if line.hasPrefix("        Version: ") { return "        Version:" }
            return line.replacing(/:[3-6]\d{4}\b/, with: ":PORT").replacing(/truemtu=/, with: "true mtu=")
                .replacing(/retry: \d[^m]+m=\+[\d.]+/, with: "retry: TIME")
                .replacing(/retry: \d[-\d]+T[:\d]+Z/, with: "retry: TIME")
        }

        /// Every path of a report and what kind of value is there. Left out is what each router says of its own
        /// capturing, and the hops of broadcast routes: 2.8.1 shows those of origins that it has met so far.
        static func shape(_ value: Any, _ path: String) -> Set<String> {
            if path.hasPrefix("Router.CaptureStats.") || path.hasPrefix("Router.MACs")
                || path.hasPrefix("Router.BroadcastRoutes[].Via")
            {
                return []
            }
            switch value {
            case let members as [String: Any]:
                return members.reduce(into: ["\(path) object"]) { $0.formUnion(shape($1.value, path + "." + $1.key)) }
            case let elements as [Any]:
                return elements.reduce(into: [path + (elements.isEmpty ? " empty list" : " list")]) {
                    $0.formUnion(shape($1, path + "[]"))
                }
            case is NSNull: return ["\(path) null"]
            case is String: return ["\(path) text"]
            case is Bool: return ["\(path) number or boolean"]
            case is NSNumber: return ["\(path) number or boolean"]
            default: return ["\(path) \(type(of: value))"]
            }
        }
    }
}
