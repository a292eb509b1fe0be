import Foundation
import Logging
import WeaveCore
import WeaveDatapath
import WeaveIPAM
import WeaveMesh

/// Does what the control interface asks for, by the libraries.
struct DaemonController: DaemonControl {
    let mesh: MeshRouter
    let sleeve: SleeveOverlay
    let network: NetworkSetup
    let store: DaemonStore
    let logger: Logger
    let host: HostNetwork
    /// nil when addresses are not allocated here.
    var book: AddressBook?

    var addresses: (any AddressControl)? { book?.control }

    func status() async -> DaemonStatus {
        let status = await mesh.status()
        let nicknames = Dictionary(status.peers.map { ($0.name, $0.nickname) }) { first, _ in first }
        let statistics = sleeve.statistics
        let counters =
            PacketCounter.allCases.map { ($0.label, statistics[$0]) }
            + FrameDrop.allCases.map { ("dropped_" + Self.counterName($0.label), statistics[$0]) }
        let now = Date()
        let uptime = ProcessInfo.processInfo.systemUptime
        return DaemonStatus(
            mesh: status, interface: "\(NetworkSetup.port) (via tap)", counters: counters,
            meshCounters: await mesh.statistics().series,
            macs: sleeve.macs.map { entry in
                let age = uptime - Double(entry.lastSeen.nanoseconds) / 1e9
                return DaemonStatus.MAC(
                    address: entry.mac, peer: entry.peer, nickname: nicknames[entry.peer] ?? "",
                    lastSeen: now.addingTimeInterval(-max(0, age)))
            }, addresses: await book?.status(), time: now)
    }

    func connect(_ peers: [String], replace: Bool) async throws -> [String] {
        let errors = await mesh.connect(to: peers, replace: replace)
        try await saveTargets()
        return errors.map(\.message)
    }

    func forget(_ peers: [String]) async throws {
        await mesh.forget(peers)
        try await saveTargets()
    }

    func attach(_ order: AttachOrder) async throws -> [IPv4CIDR] {
        if let book { return try await book.attach(order) }
        let addresses = try Self.explicit(order.words)
        guard !addresses.isEmpty else { throw Self.allocationIsOff }
        try await network.attach(order, addresses: addresses)
        return addresses
    }

    func detach(_ order: AttachOrder) async throws -> [IPv4CIDR] {
        if let book { return try await book.detach(order) }
        return try await network.detach(order.container, try Self.explicit(order.words))
    }

    func expose(_ words: [AddressWord], masquerade: Bool) async throws -> [IPv4CIDR] {
        var addresses: [IPv4CIDR] = []
        if let book {
            for word in words.isEmpty ? [.subnet(nil)] : words {
                addresses.append(try await book.obtain(word, AddressBook.hostIdent, isContainer: false))
            }
        } else {
            addresses = try Self.explicit(words)
            guard !addresses.isEmpty else { throw Self.allocationIsOff }
        }
        try await host.expose(addresses, masquerade: masquerade)
        return addresses
    }

    func hide(_ words: [AddressWord]) async throws -> [IPv4CIDR] {
        var chosen: [IPv4CIDR] = []
        for word in words {
            switch word {
            case .address(let address): chosen.append(address)
            case .subnet(let subnet):
                guard let range = (subnet ?? addresses?.defaultSubnet)?.range else { throw Self.allocationIsOff }
                chosen += await host.exposed.map(\.address).filter { range.contains($0.address) }
            }
        }
        if !words.isEmpty, chosen.isEmpty { return [] }
        let hidden = try await host.hide(words.isEmpty ? nil : chosen)
        guard let book else { return hidden }
        for address in await book.addresses(of: AddressBook.hostIdent) where hidden.contains(address) {
            try await book.control.free(AddressBook.hostIdent, address.address)
        }
        return hidden
    }

    /// - Throws: `DaemonError` for a word that asks for allocation.
    private static func explicit(_ words: [AddressWord]) throws(DaemonError) -> [IPv4CIDR] {
        var addresses: [IPv4CIDR] = []
        for word in words {
            guard case .address(let address) = word else { throw allocationIsOff }
            addresses.append(address)
        }
        return addresses
    }

    private static let allocationIsOff = DaemonError(
        .badRequest,
        "IP address allocation must be enabled to do this without an address: give the address, such as 10.32.0.1/12, "
            + "or launch with --ipalloc-range")

    /// Keeps the targets for a restart. Two requests at one time may save in either order, so what was saved is
    /// compared with what is.
    func saveTargets() async throws(DaemonError) {
        var targets = await mesh.status().targets
        while true {
            try await store.setTargets(targets)
            await book?.onTargets(targets.count)
            let now = await mesh.status().targets
            if now == targets { return }
            targets = now
        }
    }

    /// `too big broadcast` becomes `too_big_broadcast`.
    private static func counterName(_ label: String) -> String {
        label.lowercased().replacing("-", with: "_").replacing(" ", with: "_")
    }
}
