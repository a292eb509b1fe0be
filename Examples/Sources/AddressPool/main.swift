import WeaveCore
import WeaveIPAM

// Three peers share one range of addresses with nobody in charge. They run in one process here and talk in memory; over a
// mesh the same code runs on three hosts.
//
//     swift run AddressPool --demo

/// A peer with its store, which outlives it.
struct Host {
    let number: UInt64
    let store = InMemoryRingStore()

    var name: PeerName { PeerName(truncating: 0x7a00_0000_0000 | number) }

    /// Starts the host's allocator, as often as one likes: what it knew it knows again.
    func start(_ range: IPv4CIDR, in gossip: LocalGossip) async throws -> AddressAllocator {
        let configuration = AllocatorConfiguration(
            peer: name, uid: .random(in: 0 ... .max), nickname: "host\(number)", universe: range,
            quorum: AllocatorConfiguration.quorum(among: 3))
        let allocator = try AddressAllocator(configuration, store: store)
        let channel = await gossip.join(name, allocator)
        try await allocator.start(on: channel)
        await gossip.introduce(name)
        return allocator
    }
}

struct Surprise: Error, CustomStringConvertible { let description: String }

func demo() async throws {
    let range = try IPv4CIDR.parseSubnet("10.32.0.0/24")
    let gossip = LocalGossip()
    let hosts = (1...3).map { Host(number: $0) }
    var allocators: [AddressAllocator] = []
    for host in hosts { allocators.append(try await host.start(range, in: gossip)) }

    // The first request makes the peers agree on who begins with which part.
    var given: [String: IPv4CIDR] = [:]
    for round in 1...2 {
        for (index, allocator) in allocators.enumerated() {
            let name = "app\(round)-on-host\(index + 1)"
            given[name] = try await allocator.allocate(name, subnet: range)
            print("\(name): \(given[name]?.description ?? "")")
        }
    }
    guard Set(given.values).count == given.count else { throw Surprise(description: "an address was given twice") }

    // A subnet that lies in the part of one peer: another peer asks it for some.
    let corner = try IPv4CIDR.parseSubnet("10.32.0.0/28")
    let asked = try await allocators[2].allocate("cornered", subnet: corner)
    print("cornered: \(asked), from a part that another peer gave away")

    // A peer goes down and comes back: its containers keep their addresses.
    await allocators[0].stop()
    await gossip.leave(hosts[0].name)
    allocators[0] = try await hosts[0].start(range, in: gossip)
    let again = try await allocators[0].allocate("app1-on-host1", subnet: range)
    guard again == given["app1-on-host1"] else { throw Surprise(description: "an address changed over a restart") }
    print("app1-on-host1 after a restart: \(again)")

    // A peer is gone for good: somebody takes over what it owned.
    await allocators[2].stop()
    await gossip.leave(hosts[2].name)
    for allocator in allocators.prefix(2) { await allocator.peersChanged(await gossip.peers) }
    let count = try await allocators[0].takeOver("host3")
    print("host1 took over \(count) addresses of host3")

    for line in await allocators[0].explain().lines { print("  \(line)") }
    for allocator in allocators.prefix(2) { await allocator.stop() }
}

if CommandLine.arguments.contains("--demo") {
    try await demo()
} else {
    print("AddressPool --demo: three peers share a range of addresses, in one process")
}
