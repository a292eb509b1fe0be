import Testing
import WeaveCore

@testable import WeaveNetDaemon

struct ControlRoutesTests {
    private let control = FakeControl()

    private func ask(
        _ method: String, _ path: String, query: String = "", form: String = "", accept: String? = nil,
        host: String? = nil, origin: String? = nil, scope: ControlScope = .control, hostNames: HostNames? = nil
    ) async throws -> ControlResponse {
        let request = ControlRequest(
            method: method, path: path, query: try FormFields(query), form: try FormFields(form), accept: accept,
            host: host, origin: origin)
        return await ControlRoutes(control: control, scope: scope, hostNames: hostNames).respond(to: request)
    }

    @Test("status pages and report answer 200")
    func pages() async throws {
        let text = StatusText(status: Sample.status())
        #expect(try await ask("GET", "/status") == .text(text.summary))
        #expect(try await ask("GET", "/status/connections") == .text(text.connections))
        #expect(try await ask("GET", "/status/peers") == .text(text.peers))
        #expect(try await ask("GET", "/status/targets") == .text(text.targets))
        let report = try await ask("GET", "/report", accept: "application/json")
        #expect(report.contentType == "application/json")
        #expect(report.body == StatusReport(status: Sample.status()).value.indented)
        #expect(try await ask("GET", "/report", accept: "text/html, application/json").status == 200)
        #expect(try await ask("GET", "/report", query: "format=%7B%7B.Router.NickName%7D%7D").body == "host2")
        #expect(try await ask("GET", "/report", query: "format=a&format=b").status == 400)
        #expect(try await ask("GET", "/metrics").contentType == "text/plain; version=0.0.4; charset=utf-8")
    }

    @Test("unknown paths are 404, wrong methods 405")
    func unknown() async throws {
        for path in ["/", "/nothing", "/status/", "/status/dns", "/ip/x", "//status", "/debug/pprof/cmdline"] {
            #expect(try await ask("GET", path) == .failure(404, "404 page not found"), "\(path)")
        }
        #expect(try await ask("POST", "/status").status == 405)
        #expect(
            try await ask("GET", "/connect") == .init(status: 405, contentType: ControlResponse.plainText, body: ""))
        #expect(await control.calls.isEmpty)
    }

    @Test("connect takes many peers, with and without replacing; bad peers are told one a line")
    func connect() async throws {
        #expect(try await ask("POST", "/connect", form: "peer=a&peer=b%3A1") == .done)
        #expect(try await ask("POST", "/connect", query: "peer=c", form: "replace=true") == .done)
        #expect(try await ask("POST", "/connect", form: "replace=true") == .done)
        #expect(await control.calls == [#"connect ["a", "b:1"] false"#, #"connect ["c"] true"#, "connect [] true"])
        #expect(try await ask("POST", "/connect").status == 400)
        await control.set(complaints: ["one", "two\u{1b}"])
        #expect(try await ask("POST", "/connect", form: "peer=a") == .failure(400, "one\ntwo?"))
        let many = Array(repeating: "peer=a", count: ControlRoutes.maximumPeers + 1).joined(separator: "&")
        #expect(try await ask("POST", "/connect", form: many).status == 400)
    }

    @Test("forget ignores what it does not know")
    func forget() async throws {
        #expect(try await ask("POST", "/forget", form: "peer=a") == .done)
        #expect(await control.calls == [#"forget ["a"]"#])
    }

    @Test("attach and detach answer with the addresses alone")
    func attach() async throws {
        let attached = try await ask(
            "POST", "/attach", form: "container=web&address=10.32.0.1/12&address=10.40.0.1%2F24")
        #expect(attached == .text("10.32.0.1 10.40.0.1\n"))
        #expect(
            try await ask("POST", "/attach", form: "container=c&address=1.2.3.4/8&multicast-route=false").status == 200)
        #expect(try await ask("POST", "/detach", form: "container=web&address=10.32.0.1/12") == .text("10.32.0.1\n"))
        #expect(try await ask("POST", "/detach", form: "container=web") == .text(""))
        #expect(
            await control.calls == [
                #"attach web ["10.32.0.1/12", "10.40.0.1/24"] true"#, #"attach c ["1.2.3.4/8"] false"#,
                #"detach web ["10.32.0.1/12"]"#, "detach web []",
            ])
    }

    @Test(
        "bad orders are 400 and say why",
        arguments: [
            ("address=10.0.0.1/8", "exactly one container"),
            ("container=a&container=b&address=10.0.0.1/8", "exactly one"),
            ("container=a&address=net:10.0.0.1/24", "bits after network prefix"),
            ("container=a&address=net:", "invalid CIDR"), ("container=a&address=10.0.0.1", "prefix length"),
            ("container=a&address=10.0.0.1/33", "prefix length"),
            ("container=a/../b&address=10.0.0.1/8", "cannot name"),
            ("container=a%0Ab&address=10.0.0.1/8", "cannot name"), ("container=&address=10.0.0.1/8", "exactly one"),
        ])
    func badOrders(_ form: String, _ reason: String) async throws {
        let answer = try await ask("POST", "/attach", form: form)
        #expect(answer.status == 400 && answer.body.contains(reason), "\(answer)")
        #expect(await control.calls.isEmpty)
    }

    @Test("a failing system is 500 with its reason, a refused request 400")
    func failures() async throws {
        await control.set(failure: DaemonError(.system, "no bridge"))
        #expect(try await ask("POST", "/attach", form: "container=a&address=10.0.0.1/8") == .failure(500, "no bridge"))
        await control.set(failure: DaemonError(.badRequest, "no such container"))
        #expect(
            try await ask("POST", "/attach", form: "container=a&address=10.0.0.1/8")
                == .failure(400, "no such container"))
    }

    @Test("web pages are refused")
    func origin() async throws {
        #expect(try await ask("POST", "/forget", form: "peer=a", origin: "http://evil.example").status == 403)
        #expect(try await ask("GET", "/report", origin: "null").status == 403)
        #expect(await control.calls.isEmpty)
    }

    @Test("names that a foreign name server gave this host are refused, on every path")
    func rebinding() async throws {
        let names = HostNames(["box"])
        for (method, path) in [("GET", "/status"), ("GET", "/report"), ("POST", "/connect"), ("GET", "/nothing")] {
            for scope in [ControlScope.control, .status] {
                let answer = try await ask(
                    method, path, form: "peer=a", host: "evil.example:6784", scope: scope, hostNames: names)
                #expect(answer.status == 403 && answer.body.contains("'evil.example'"), "\(path)")
            }
        }
        #expect(await control.calls.isEmpty)
        #expect(try await ask("GET", "/status", host: "box:6784", hostNames: names).status == 200)
        #expect(try await ask("GET", "/status", host: nil, hostNames: names).status == 200)
        #expect(try await ask("GET", "/status", host: "evil.example", hostNames: nil).status == 200)
    }

    @Test("the status and metrics listeners serve only what they are for")
    func scopes() async throws {
        #expect(try await ask("GET", "/status", scope: .status).status == 200)
        #expect(try await ask("GET", "/metrics", scope: .status).status == 200)
        #expect(try await ask("POST", "/connect", form: "peer=a", scope: .status).status == 404)
        #expect(try await ask("GET", "/metrics", scope: .metrics).status == 200)
        #expect(try await ask("GET", "/status", scope: .metrics).status == 404)
        #expect(await control.calls.isEmpty)
    }

    @Test("forms are decoded leniently and bounded")
    func forms() throws {
        #expect(try FormFields("a=1+2&b=%41%&c&d=%zz&&e==").all("a") == ["1 2"])
        let fields = try FormFields("a=1&b=%41%&c&d=%zz&&e==").fields.map { "\($0.name)=\($0.value)" }
        #expect(fields == ["a=1", "b=A%", "c=", "d=%zz", "e=="])
        let limit = FormFields.maximumFields
        #expect(try FormFields(Array(repeating: "a", count: limit).joined(separator: "&")).fields.count == limit)
        #expect(throws: DaemonError.self) {
            try FormFields(Array(repeating: "a", count: limit + 1).joined(separator: "&"))
        }
    }
}
