/// The form in which an overlay's control messages travel on a mesh connection (mesh specification, section 3.3).
///
/// A 2.8.1 peer ends its whole process on a message with a missing byte or an index out of range; `encode` cannot make
/// one, because the index is checked against the list in common and both bytes are always there.
public struct OverlayControlEnvelope: Sendable, Hashable {
    /// The mesh message tag of the switched form.
    public static let switchTag: UInt8 = 7
    /// The mesh message tags of the form without a switch, which a switched peer treats as `switchTag`.
    public static let directTags: ClosedRange<UInt8> = 1...3
    /// Longer bodies are refused: no overlay has any longer than a few dozen bytes.
    public static let maximumBodyLength = 4096
    static let maximumPayloadLength = 2 + maximumBodyLength

    /// The place of the overlay in the list in common; 0 without a switch.
    public var index: Int
    /// What kind of message it is, to the overlay.
    public var tag: UInt8
    public var body: [UInt8]

    /// A message that is ignored; its text is for the log.
    public struct Unusable: Error, Hashable, CustomStringConvertible {
        public let description: String
    }

    public init(index: Int, tag: UInt8, body: [UInt8]) {
        self.index = index
        self.tag = tag
        self.body = body
    }

    /// The mesh message: its tag, and its payload. Nil for what must not be sent: an index beyond the list in common,
    /// a body that is too long, or, without a switch, a tag that is not sleeve's.
    public func encode(for outcome: OverlayNegotiation.Outcome) -> (tag: UInt8, payload: [UInt8])? {
        guard body.count <= Self.maximumBodyLength else { return nil }
        switch outcome {
        case .sleeveOnly:
            guard index == 0, Self.directTags.contains(tag) else { return nil }
            return (tag, body)
        case .common(let overlays):
            guard overlays.indices.contains(index), let byte = UInt8(exactly: index) else { return nil }
            return (Self.switchTag, [byte, tag] + body)
        }
    }

    /// Reads a mesh message with tag 1, 2, 3 or 7.
    ///
    /// - Throws: `Unusable` for anything that does not fit the connection: log it and carry on.
    public init(tag: UInt8, payload: [UInt8], for outcome: OverlayNegotiation.Outcome) throws(Unusable) {
        guard tag == Self.switchTag || Self.directTags.contains(tag) else {
            throw Unusable(description: "Ignoring mesh message with tag \(tag): not for an overlay")
        }
        guard payload.count <= Self.maximumPayloadLength else {
            throw Unusable(description: "Ignoring overlay control message of \(payload.count) bytes: too long")
        }
        switch outcome {
        case .sleeveOnly:
            guard tag != Self.switchTag else {
                throw Unusable(description: "Ignoring overlay switch message from a peer without overlay switch")
            }
            self.init(index: 0, tag: tag, body: payload)
        case .common(let overlays):
            guard payload.count >= 2 else {
                throw Unusable(description: "Ignoring overlay control message of \(payload.count) bytes: too short")
            }
            guard overlays.indices.contains(Int(payload[0])) else {
                throw Unusable(description: "Ignoring control message for unknown overlay \(payload[0])")
            }
            self.init(index: Int(payload[0]), tag: payload[1], body: Array(payload.dropFirst(2)))
        }
    }
}
