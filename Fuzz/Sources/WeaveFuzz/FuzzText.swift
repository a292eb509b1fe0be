import WeaveCore

@testable import WeaveMesh

/// Words from features, forms and command lines: what a word was read as is read from its own description again.
func fuzzText(_ input: FuzzInput) {
    let text = String(decoding: input.rest, as: UTF8.self)
    if let name = try? PeerName(parsing: text) {
        require((try? PeerName(parsing: name.description)) == name, "the same name again")
    }
    if let address = IPAddress(text) { require(IPAddress(address.description) == address, "the same address again") }
    if let address = IPv6Address(text) { require(IPv6Address("\(address)") == address, "the same address again") }
    if let cidr = IPv4CIDR(text) {
        require(IPv4CIDR(cidr.description) == cidr, "the same subnet again")
        require(cidr.prefixLength <= 32, "a prefix of an IPv4 address")
    }
    if let endpoint = Endpoint(text) { require(Endpoint(endpoint.description) == endpoint, "the same endpoint again") }
    if let mac = MACAddress(text) { require(MACAddress(mac.description) == mac, "the same address again") }
    if let target = try? TargetAddress(parsing: text) {
        require(target.host.utf8.count <= TargetAddress.maximumLength, "a target is short")
        require(!target.host.isEmpty, "a target has a host")
    }
}
