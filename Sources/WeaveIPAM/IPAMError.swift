public import WeaveCore

/// What went wrong in address management: a code for programs and a sentence for people, in the words of 2.8.1 where it
/// reports the same.
public struct IPAMError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The kind of an error.
    public struct Code: Sendable, Hashable {
        let value: String

        /// Text that is no address, CIDR or subnet.
        public static let invalidText = Code(value: "invalid text")
        /// A range that cannot be the universe of a ring.
        public static let invalidUniverse = Code(value: "invalid universe")
        /// A subnet that shares no address with the universe.
        public static let outOfBounds = Code(value: "out of bounds")
        /// The address belongs to another container.
        public static let inUse = Code(value: "in use")
        /// The address belongs to another peer, which does not give it away or cannot be asked.
        public static let ownedByPeer = Code(value: "owned by peer")
        /// Nothing is registered under this name.
        public static let notFound = Code(value: "not found")
        /// The request ended without a result: its caller went away, its container died, or the allocator shut down.
        public static let cancelled = Code(value: "cancelled")
        /// A message that cannot be read.
        public static let malformed = Code(value: "malformed")
        /// A message larger than is taken.
        public static let limit = Code(value: "limit")
        /// A ring of another universe or of other seeds.
        public static let incompatible = Code(value: "incompatible")
        /// A ring that contradicts ours about addresses in use here.
        public static let conflict = Code(value: "conflict")
        /// A ring that breaks the rules every ring keeps.
        public static let invariant = Code(value: "invariant")
        /// A call that makes no sense in this state.
        public static let misuse = Code(value: "misuse")
        /// The operation is refused unless it is forced.
        public static let refused = Code(value: "refused")
        /// What had to be kept could not be saved.
        public static let store = Code(value: "store")
        /// There is no way to the peer.
        public static let unreachable = Code(value: "unreachable")
        /// More requests wait than are kept.
        public static let overloaded = Code(value: "overloaded")
    }

    public let code: Code
    public let message: String
    /// For `conflict`: who says what.
    public let conflict: RingConflict?

    /// Makes an error.
    public init(_ code: Code, _ message: String, conflict: RingConflict? = nil) {
        self.code = code
        self.message = message
        self.conflict = conflict
    }

    public var description: String { message }
}

/// Two statements about one stretch of the ring that cannot both be true.
public struct RingConflict: Sendable, Hashable {
    /// One statement: who owns the stretch, at which version.
    public struct Statement: Sendable, Hashable {
        public var owner: PeerName
        public var version: UInt32

        /// Makes a statement.
        public init(owner: PeerName, version: UInt32) {
            self.owner = owner
            self.version = version
        }
    }

    /// The first address of the stretch.
    public var token: IPv4Address
    /// The stretch, as this peer divides the ring.
    public var range: AddressRange
    public var ours: Statement
    public var theirs: Statement

    /// Makes the record of a conflict.
    public init(token: IPv4Address, range: AddressRange, ours: Statement, theirs: Statement) {
        self.token = token
        self.range = range
        self.ours = ours
        self.theirs = theirs
    }
}
