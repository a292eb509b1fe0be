import WeaveCore

@testable import WeaveIPAM

private let ourself = PeerName(truncating: 0x0100_0002_0000)
private let stranger = PeerName(truncating: 0x0200_0002_0000)

/// Messages between allocators: they are written as they were read, and an allocator that took them says nothing that
/// others would refuse.
func fuzzIPAM(_ input: FuzzInput) {
    var input = input
    let options = input.byte()
    switch options % 3 {
    case 0: checkState(input.rest)
    case 1: checkMessage(input.rest)
    default: fuzzAllocator(input, isSeeded: options & 4 != 0)
    }
}

private func checkState(_ bytes: [UInt8]) {
    guard let state = bounded(bytes.count, "IPAM state", { try? StateMessage.decode(bytes) }) else { return }
    guard let again = try? StateMessage.decode(state.encode()) else {
        return require(false, "what was read can be written and read")
    }
    require(again == state, "the same state again")
}

private func checkMessage(_ bytes: [UInt8]) {
    guard let message = bounded(bytes.count, "IPAM message", { try? PeerMessage.decode(bytes) }),
        let written = message.encode()
    else { return }
    require((try? PeerMessage.decode(written)) == message, "the same message again")
}

private func fuzzAllocator(_ input: FuzzInput, isSeeded: Bool) {
    var input = input
    guard let universe = IPv4CIDR("10.32.0.0/12") else { return require(false, "10.32.0.0/12 is a subnet") }
    let configuration = AllocatorConfiguration(
        peer: ourself, uid: 1000, nickname: "us", universe: universe,
        start: isSeeded ? .seed([ourself, stranger]) : .consensus, quorum: 2)
    guard var allocator = try? Allocator(configuration, generator: SeededGenerator(seed: 1)) else {
        return require(false, "an allocator can be made")
    }
    var now = AllocatorTime(.zero, unixSeconds: 1_600_000_000)
    _ = allocator.onStart(stored: nil, now: now)
    var directives: [AllocatorDirective] = []
    while !input.isEmpty {
        let choice = input.byte()
        let payload = input.piece()
        now.monotonic = now.monotonic + .milliseconds(10)
        if choice & 1 != 0 {
            guard let message = try? PeerMessage.decode(payload) else { continue }
            directives = allocator.onMessage(message, from: stranger, now: now).directives
        } else {
            guard let state = try? StateMessage.decode(payload) else { continue }
            directives = allocator.onState(state, from: choice & 2 != 0 ? stranger : nil, now: now).directives
        }
        for case .unicast(_, let message) in directives {
            guard let bytes = message.encode() else { return require(false, "what is to be sent can be") }
            require((try? PeerMessage.decode(bytes)) == message, "the receiver can read it")
        }
    }
    require((try? allocator.ring.checkInvariants()) != nil, "the ring is whole")
    let said = allocator.state(unixSeconds: now.unixSeconds)
    require((try? StateMessage.decode(said.encode())) == said, "others can read what we say")
}
