import Testing
import WeaveCore
import WeaveIPAM

@testable import WeaveNetDaemon

/// The endpoints of address allocation in front of a real allocator that is alone in its mesh.
struct AddressRoutesTests {
    private let allocator: AddressAllocator
    private let control: FakeControl

    init() async throws {
        let universe = try #require(IPv4CIDR("10.32.0.0/29"))
        let peer = PeerName(truncating: 0x7a00_0000_0001)
        let mesh = LocalGossip()
        allocator = try AddressAllocator(
            AllocatorConfiguration(peer: peer, uid: 1, nickname: "host1", universe: universe),
            store: InMemoryRingStore(),
            seed: 1)
        let channel = await mesh.join(peer, allocator)
        try await allocator.start(on: channel)
        control = FakeControl(addresses: AllocatorControl(allocator: allocator, defaultSubnet: universe))
    }

    private func ask(_ method: String, _ path: String, query: String = "", scope: ControlScope = .control) async throws
        -> ControlResponse
    {
        await ControlRoutes(control: control, scope: scope).respond(
            to: ControlRequest(method: method, path: path, query: try FormFields(query)))
    }

    @Test("the subnet and the empty list")
    func empty() async throws {
        #expect(try await ask("GET", "/ipinfo/defaultsubnet") == .text("10.32.0.0/29"))
        #expect(try await ask("GET", "/ipinfo/tracker") == .text("\n"))
        let list = try await ask("GET", "/ip")
        #expect(list.body == "{\"owned\":null}\n" && list.contentType == "application/json")
        #expect(try await ask("GET", "/ip/c1") == .text(""))
    }

    @Test("allocate, look up, free, delete")
    func cycle() async throws {
        #expect(try await ask("POST", "/ip/c1") == .text("10.32.0.1/29"))
        #expect(try await ask("POST", "/ip/c1", query: "check-alive=true") == .text("10.32.0.1/29"))
        #expect(try await ask("POST", "/ip/c2/10.32.0.0/30") == .text("10.32.0.2/30"))
        #expect(try await ask("GET", "/ip/c2") == .text("10.32.0.2/30"))
        #expect(try await ask("GET", "/ip/c2/10.32.0.4/30") == .text(""))
        #expect(
            try await ask("GET", "/ip").body
                == #"{"owned":[{"containerid":"c1","addrs":["10.32.0.1/29"]},{"containerid":"c2","addrs":["10.32.0.2/30"]}]}"#
                + "\n")
        #expect(try await ask("DELETE", "/ip/c2/10.32.0.2").status == 204)
        #expect(
            try await ask("DELETE", "/ip/c2/10.32.0.9")
                == .failure(400, "Unable to free: Free: address 10.32.0.9 not found for c2"))
        #expect(try await ask("DELETE", "/ip/c1").status == 204)
        #expect(try await ask("DELETE", "/ip/c1") == .failure(400, "Delete: no addresses for c1"))
        #expect(try await ask("DELETE", "/ip/c1/bogus") == .failure(400, "invalid IP Address: bogus"))
    }

    @Test("claims: done, done twice, in use, outside the range")
    func claims() async throws {
        #expect(try await ask("GET", "/ring") == .done)
        #expect(try await ask("PUT", "/ip/c1/10.32.0.3/29").status == 204)
        #expect(try await ask("PUT", "/ip/c1/10.32.0.3/29").status == 204)
        let taken = try await ask("PUT", "/ip/c2/10.32.0.3/29")
        #expect(taken == .failure(400, "Unable to claim: address 10.32.0.3/29 is already owned by c1"))
        #expect(try await ask("PUT", "/ip/c2/192.0.2.1/24").status == 204)
        #expect(try await ask("PUT", "/ip/c2/192.0.2.1/99").status == 400)
    }

    @Test("subnets that are none, or elsewhere, are 400 with the reason")
    func subnets() async throws {
        #expect(try await ask("POST", "/ip/c/10.32.0.1/29").body.contains("bits after network prefix"))
        #expect(try await ask("POST", "/ip/c/10.32.0.0/31").body.contains("smaller than minimum"))
        let elsewhere = try await ask("POST", "/ip/c/10.33.0.0/24")
        #expect(elsewhere == .failure(400, "range 10.33.0.0/24 out of bounds: 10.32.0.0/29"))
        #expect(try await ask("GET", "/ip/c/x/24").status == 400)
    }

    @Test("other verbs are 405, other paths 404, and only the control listener answers")
    func places() async throws {
        for (method, path) in [
            ("PATCH", "/ip/c"), ("GET", "/peer"), ("POST", "/ring"), ("PUT", "/ip/c"), ("POST", "/ipinfo/tracker"),
            ("GET", "/ipam/repair"),
        ] {
            #expect(try await ask(method, path).status == 405, "\(method) \(path)")
        }
        for path in ["/ip/a/b/c/d", "/ipinfo", "/ipinfo/x", "/ring/x", "/ipam"] {
            #expect(try await ask("GET", path).status == 404, "\(path)")
        }
        #expect(try await ask("POST", "/ip/c", scope: .status).status == 404)
        let long = String(repeating: "x", count: AddressRoutes.maximumIdent + 1)
        #expect(try await ask("POST", "/ip/\(long)").status == 400)
        #expect(try await ask("POST", "/ip/a%0Ab").status == 400)
    }

    @Test("without allocation there is nothing here, and leaving is done")
    func off() async throws {
        let routes = ControlRoutes(control: FakeControl(), scope: .control)
        #expect(await routes.respond(to: ControlRequest(method: "GET", path: "/ip")).status == 404)
        #expect(await routes.respond(to: ControlRequest(method: "DELETE", path: "/peer")).status == 204)
        #expect(await routes.respond(to: ControlRequest(method: "GET", path: "/status/ipam")).status == 404)
    }

    @Test("a request that is cancelled is no success, and its place is free")
    func cancelled() async throws {
        for number in 1...6 { #expect(try await ask("POST", "/ip/c\(number)").status == 200) }
        let waiting = Task { try await ask("POST", "/ip/late") }
        while await allocator.status().pendingAllocations.isEmpty { await Task.yield() }
        waiting.cancel()
        let answer = try await waiting.value
        #expect(answer.status == 503 && answer.body.contains("cancelled"), "\(answer)")
        #expect(await allocator.status().pendingAllocations.isEmpty)
    }

    @Test("taking over, leaving, explaining, repairing")
    func administration() async throws {
        #expect(try await ask("DELETE", "/peer/nobody") == .text("0 IPs taken over from nobody\n"))
        _ = try await ask("POST", "/ip/c1")
        let text = try await ask("GET", "/ipam/explain").body
        #expect(text.hasPrefix("ready\n") && text.contains("7a:00:00:00:00:01(host1) owns 8 addresses"), "\(text)")
        #expect(try await ask("POST", "/ipam/repair", query: "step=1").status == 400)
        #expect(try await ask("POST", "/ipam/repair").status == 400)
        #expect(try await ask("DELETE", "/peer").status == 204)
        #expect(try await ask("POST", "/ip/c2").status == 503)
    }
}
