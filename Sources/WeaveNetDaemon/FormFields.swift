/// The fields of a query or of an `application/x-www-form-urlencoded` body, in order.
struct FormFields: Sendable, Equatable {
    /// Enough for every endpoint; more is an attack or a mistake.
    static let maximumFields = 4096

    private(set) var fields: [(name: String, value: String)] = []

    static func == (left: FormFields, right: FormFields) -> Bool {
        left.fields.elementsEqual(right.fields) { $0 == $1 }
    }

    init() {}

    /// Parses encoded fields. Percent signs without two hex digits stand for themselves, as peers are often sent
    /// without encoding; bytes that are no UTF-8 are replaced.
    ///
    /// - Throws: `DaemonError` when there are too many fields.
    init(_ text: some StringProtocol) throws(DaemonError) {
        for part in text.split(separator: "&") {
            guard fields.count < Self.maximumFields else {
                throw DaemonError(.badRequest, "more than \(Self.maximumFields) fields")
            }
            let halves = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            fields.append((Self.decode(halves[0]), halves.count > 1 ? Self.decode(halves[1]) : ""))
        }
    }

    mutating func append(_ other: FormFields) { fields += other.fields }

    /// Every value of `name`.
    func all(_ name: String) -> [String] { fields.filter { $0.name == name }.map(\.value) }

    /// The value of `name` when there is exactly one.
    func only(_ name: String) -> String? {
        let values = all(name)
        return values.count == 1 ? values[0] : nil
    }

    /// Whether `name` is given once, as something that means yes.
    func isOn(_ name: String) -> Bool { ["true", "1", "t", "T", "TRUE", "True"].contains(only(name)) }

    static func decode(_ text: some StringProtocol) -> String {
        var bytes: [UInt8] = []
        let encoded = Array(text.utf8)
        var index = 0
        while index < encoded.count {
            if encoded[index] == UInt8(ascii: "%"), index + 2 < encoded.count,
                let high = hexDigit(encoded[index + 1]), let low = hexDigit(encoded[index + 2])
            {
                bytes.append(high << 4 | low)
                index += 3
            } else {
                bytes.append(encoded[index] == UInt8(ascii: "+") ? UInt8(ascii: " ") : encoded[index])
                index += 1
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func hexDigit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
