import CNetlink
import Glibc

/// Why the kernel did not do what was asked: a code to decide by, and a sentence that says what happened, to what, and
/// what to do about it.
public struct NetlinkError: Error, Hashable, CustomStringConvertible {
    /// The kinds of failure a caller may want to tell apart.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        public let description: String

        /// The process lacks the privilege: it needs root, or CAP_NET_ADMIN (and CAP_SYS_ADMIN for namespaces).
        public static let notPermitted = Code(description: "not permitted")
        /// There is no such device, address, route or namespace.
        public static let notFound = Code(description: "not found")
        /// It is there already.
        public static let exists = Code(description: "exists")
        /// The kernel was built without the feature, or it is switched off.
        public static let unsupported = Code(description: "unsupported")
        /// A name, number or combination that the kernel or this library does not take.
        public static let invalid = Code(description: "invalid")
        /// Somebody else holds it.
        public static let busy = Code(description: "busy")
        /// Anything else; the message has the kernel's words.
        public static let failed = Code(description: "failed")
    }

    public let code: Code
    public let message: String

    public var description: String { message }

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The error of a libnl call. `what` completes "cannot ...", `feature` names the kernel option it takes.
    init(library result: Int32, _ what: String, feature: String? = nil) {
        let number = abs(result)
        let code: Code =
            switch number {
            case NLE_PERM, NLE_NOACCESS: .notPermitted
            case NLE_OBJ_NOTFOUND, NLE_NODEV, NLE_NOADDR: .notFound
            case NLE_EXIST: .exists
            case NLE_OPNOTSUPP, NLE_AF_NOSUPPORT, NLE_PROTO_MISMATCH: .unsupported
            case NLE_INVAL, NLE_RANGE: .invalid
            case NLE_BUSY: .busy
            default: .failed
            }
        let words = unsafe String(cString: nl_geterror(result)).lowercasedFirst
        self.init(code, what, words, feature)
    }

    /// The error of a system call that left `number` in errno.
    init(system number: Int32, _ what: String, feature: String? = nil) {
        let code: Code =
            switch abs(number) {
            case EPERM, EACCES: .notPermitted
            case ENOENT, ENODEV, ENXIO, ESRCH, EADDRNOTAVAIL: .notFound
            case EEXIST: .exists
            case EOPNOTSUPP, EAFNOSUPPORT, ENOSYS, ENOTTY: .unsupported
            case EINVAL, ERANGE, ENAMETOOLONG: .invalid
            case EBUSY: .busy
            default: .failed
            }
        let words = unsafe String(cString: strerror(abs(number))).lowercasedFirst
        self.init(code, what, words, feature)
    }

    private init(_ code: Code, _ what: String, _ words: String, _ feature: String?) {
        var text = "cannot \(what): \(words)"
        if code == .notPermitted {
            text += "; run as root, or with the capabilities NET_ADMIN and SYS_ADMIN"
        } else if code == .unsupported, let feature {
            text += "; the kernel needs \(feature)"
        }
        self.init(code, text)
    }
}

extension String {
    fileprivate var lowercasedFirst: String { prefix(1).lowercased() + dropFirst() }
}

/// Checks that `name` can name a network device: 1 to 15 bytes without spaces, slashes and colons.
public func checkDeviceName(_ name: String) throws(NetlinkError) {
    let fits = (1...15).contains(name.utf8.count) && name != "." && name != ".."
    let clean = name.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7f && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") }
    guard fits, clean else {
        throw NetlinkError(
            .invalid,
            "\"\(name)\" cannot name a network device: it takes 1 to 15 characters without spaces, '/' and ':'")
    }
}
