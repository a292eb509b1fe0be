import Foundation
import Testing
import WeaveCore
import WeaveMesh

@testable import WeaveNetDaemon

struct ReportTests {
    private let report = StatusReport(status: Sample.status()).value

    @Test("the router's keys come in the order of 2.8.1")
    func keys() throws {
        guard case .object(let members) = try #require(report["Router"]) else {
            Issue.record("Router is no object")
            return
        }
        #expect(
            members.map(\.key) == [
                "Protocol", "ProtocolMinVersion", "ProtocolMaxVersion", "Encryption", "PeerDiscovery", "Name",
                "NickName",
                "Port", "Peers", "UnicastRoutes", "BroadcastRoutes", "Connections", "TerminationCount", "Targets",
                "OverlayDiagnostics", "TrustedSubnets", "Interface", "CaptureStats", "MACs",
            ])
    }

    @Test("routes and connections read as in 2.8.1")
    func excerpts() throws {
        let router = try #require(report["Router"])
        #expect(
            router["UnicastRoutes"]?.compact == #"[{"Dest":"00:00:00:00:00:01","Via":"00:00:00:00:00:01"},"#
                + #"{"Dest":"00:00:00:00:00:02","Via":"00:00:00:00:00:00"},{"Dest":"00:00:00:00:00:03","Via":"00:00:00:00:00:03"}]"#
        )
        #expect(
            router["BroadcastRoutes"]?.compact
                == #"[{"Source":"00:00:00:00:00:01","Via":["00:00:00:00:00:03"]},{"Source":"00:00:00:00:00:03","Via":null}]"#
        )
        let mesh = Sample.mesh(
            connections: [
                Sample.live(
                    "192.168.48.13:43495", outbound: false, peer: Sample.three, "host3", mtu: 1414, encrypted: true),
                .init(address: "1.2.3.4:6783", outbound: true, state: .connecting),
            ], encryption: true)
        let text = StatusReport(status: Sample.status(mesh)).value["Router"]?["Connections"]?.compact
        #expect(
            text == #"[{"Address":"192.168.48.13:43495","Outbound":false,"State":"established","#
                + #""Info":"encrypted   sleeve 00:00:00:00:00:03(host3)","Attrs":{"encrypted":true,"mtu":1414,"name":"sleeve"}},"#
                + #"{"Address":"1.2.3.4:6783","Outbound":true,"State":"connecting","Info":"","Attrs":null}]"#)
    }

    @Test("empty lists are null, but trusted subnets are an empty list")
    func emptiness() {
        var mesh = Sample.mesh(connections: [], peers: [])
        mesh.targets = []
        mesh.unicastRoutes = []
        mesh.broadcastRoutes = []
        var status = Sample.status(mesh)
        status.macs = []
        let router = StatusReport(status: status).value["Router"]
        for key in ["Peers", "UnicastRoutes", "BroadcastRoutes", "Connections", "Targets", "MACs"] {
            #expect(router?[key] == .null, "\(key)")
        }
        #expect(router?["TrustedSubnets"] == .list([]))
        #expect(router?["OverlayDiagnostics"]?.compact == #"{"sleeve":null}"#)
    }

    @Test("the JSON is indented by four, keeps 64-bit numbers and is read back by a JSON parser")
    func json() throws {
        let text = report.indented
        #expect(text.hasPrefix("{\n    \"Ready\": true,\n    \"Version\": "))
        #expect(text.contains("\"UID\": 18446744073709551615,"))
        #expect(text.contains("\"TrustedSubnets\": [],"))
        let parsed = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
        let router = try #require(parsed?["Router"] as? [String: Any])
        #expect((router["Peers"] as? [Any])?.count == 3)
    }

    @Test("strings are escaped as Go escapes them")
    func escapes() {
        #expect(ReportValue.text("a\"b\\c\n<\u{1}>").compact == #""a\"b\\c\n\u003c\u0001\u003e""#)
    }

    @Test("templates show fields, JSON and lengths")
    func templates() throws {
        #expect(try ReportTemplate("{{ .Version }}").render(report) == WeaveNetVersion.current)
        #expect(try ReportTemplate("a{{.Router.NickName}}b{{len .Router.Peers}}").render(report) == "ahost2b3")
        #expect(
            try ReportTemplate("{{json .Router.Targets}}").render(report) == #"["192.168.48.11","192.168.48.99"]"#)
        for bad in ["{{.Router", "{{range .Router.Peers}}", "{{Router}}", String(repeating: "x", count: 5000)] {
            #expect(throws: DaemonError.self) { try ReportTemplate(bad) }
        }
        #expect(throws: DaemonError.self) { try ReportTemplate("{{.Router.Nothing}}").render(report) }
    }

    @Test("metrics have the series of 2.8.1 and ours")
    func metrics() {
        let usage = ProcessUsage(residentBytes: 4096, cpuSeconds: 1.5, openDescriptors: 9)
        let mesh = Sample.mesh(
            connections: Sample.connections + [
                Sample.live("1.2.3.4:5", outbound: true, peer: Sample.one, "h", encrypted: true)
            ])
        let lines = MetricsText(status: Sample.status(mesh), process: usage).body.split(separator: "\n")
        for line in [
            #"weave_connections{encryption="",state="established",type="sleeve"} 2"#,
            #"weave_connections{encryption="yes",state="established",type="sleeve"} 1"#,
            #"weave_connections{encryption="",state="retrying",type="unknown"} 1"#,
            #"weave_connections{encryption="yes",state="retrying",type="unknown"} 0"#,
            "# TYPE weave_connections gauge", "weave_connection_terminations_total 0", "weave_peers 3",
            "weave_datapath_frames_captured_total 7", "process_resident_memory_bytes 4096",
            "process_cpu_seconds_total 1.5",
        ] {
            #expect(lines.contains { $0 == line }, "\(line)")
        }
        for line in [
            #"weave_mesh_messages_total{direction="received",kind="gossip"} 0"#,
            #"weave_mesh_closes_total{reason="timeout"} 2"#, "# TYPE weave_mesh_closes_total counter",
            "weave_mesh_route_calculations_total 5",
        ] {
            #expect(lines.contains { $0 == line }, "\(line)")
        }
        // The format wants each family once.
        let types = lines.filter { $0.hasPrefix("# TYPE ") }
        #expect(Set(types).count == types.count)
        let empty = MetricsText(status: Sample.status(Sample.mesh(connections: [])), process: usage).body
        #expect(!empty.contains("weave_connections{"))
        #expect(ProcessUsage.current().residentBytes > 1_000_000)
    }
}
