import Glibc
import Testing
import WeaveCore

@testable import WeaveNetlink

@Suite("Names and prefixes")
struct ValueTests {
    @Test("A device name of 15 characters passes and one of 16 does not")
    func nameLength() throws {
        try checkDeviceName(String(repeating: "x", count: 15))
        let error = #expect(throws: NetlinkError.self) { try checkDeviceName(String(repeating: "x", count: 16)) }
        #expect(error?.code == .invalid)
    }

    @Test("Device names the kernel would not take are refused", arguments: ["", ".", "..", "a b", "a/b", "a:1", "a\n"])
    func badNames(name: String) {
        #expect(throws: NetlinkError.self) { try checkDeviceName(name) }
    }

    @Test(
        "Prefixes print as they parse and mask their host bits",
        arguments: [
            ("10.32.0.1/12", "10.32.0.0/12"), ("1.2.3.4/0", "0.0.0.0/0"), ("1.2.3.4/32", "1.2.3.4/32"),
            ("fd00::1/64", "fd00::/64"), ("fd00::ffff/120", "fd00::ff00/120"), ("fd00::1/0", "::/0"),
            ("fd00::1/128", "fd00::1/128"),
        ])
    func prefixes(text: String, masked: String) throws {
        let prefix = try #require(IPPrefix(text))
        #expect(prefix.description == text)
        #expect(prefix.masked.description == masked)
        #expect((prefix.v4 == nil) == text.contains(":"))
    }

    @Test(
        "Malformed prefixes are refused",
        arguments: ["", "1.2.3.4", "1.2.3.4/33", "fd00::/129", "1.2.3.4/+1", "/8", "x/8"])
    func badPrefixes(text: String) {
        #expect(IPPrefix(text) == nil)
    }

    @Test("Without privilege the message says so; without a kernel feature it says which")
    func advice() {
        let denied = NetlinkError(system: EPERM, "create bridge \"b\"", feature: "CONFIG_BRIDGE")
        #expect(denied.code == .notPermitted)
        #expect(
            denied.message
                == "cannot create bridge \"b\": operation not permitted; run as root, or with the capabilities "
                + "NET_ADMIN and SYS_ADMIN")
        let unsupported = NetlinkError(system: EOPNOTSUPP, "create bridge \"b\"", feature: "CONFIG_BRIDGE")
        #expect(unsupported.code == .unsupported)
        #expect(unsupported.message.hasSuffix("; the kernel needs CONFIG_BRIDGE"))
    }
}
