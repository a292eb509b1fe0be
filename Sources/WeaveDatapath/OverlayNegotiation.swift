/// How the overlays of a connection are agreed on: each side announces its own in the order it likes them, and uses
/// those in common in that order (section 3.1). Both sides must rank alike, or the indexes of control messages differ.
public enum OverlayNegotiation {
    /// The feature that lists the overlays, separated by spaces.
    public static let featureName = "Overlays"
    /// An index is one byte.
    public static let maximumOverlays = 256

    /// What the remote end speaks.
    public enum Outcome: Sendable, Hashable {
        /// It has no overlay switch: only sleeve, and control messages without an index.
        case sleeveOnly
        /// The overlays in common; the place in the list is the index of control messages. Never empty.
        case common([String])
    }

    /// There is no common overlay: the connection is refused with this text.
    public struct Refusal: Error, Hashable, CustomStringConvertible {
        public var description: String { "no overlays in common with peer" }
    }

    /// The value of the feature for overlays in the order of preference.
    public static func feature(_ overlays: [String]) -> String { overlays.joined(separator: " ") }

    /// The overlays a feature lists; nil when the remote did not send it. Runs of white space separate.
    public static func overlays(in features: [String: String]) -> [String]? {
        features[featureName].map { $0.split(whereSeparator: \.isWhitespace).map { String($0) } }
    }

    /// Chooses the overlays of a connection from ours, in our order, and those of the remote (nil: no feature).
    ///
    /// - Throws: `Refusal` when there is none in common, or the remote has no switch and we no sleeve.
    public static func choose(ours: [String], remote: [String]?) throws(Refusal) -> Outcome {
        guard let remote else {
            guard ours.contains("sleeve") else { throw Refusal() }
            return .sleeveOnly
        }
        let offered = Set(remote)
        let common = Array(ours.filter { offered.contains($0) }.prefix(maximumOverlays))
        guard !common.isEmpty else { throw Refusal() }
        return .common(common)
    }
}
