import Foundation

/// Wall-clock time in the two spellings that the daemon prints.
struct CivilTime {
    let year: Int, month: Int, day: Int, hour: Int, minute: Int, second: Int, microsecond: Int

    /// `date` as a clock shows it that runs `offset` seconds ahead of UTC.
    init(_ date: Date, secondsFromUTC offset: Int = 0) {
        let microseconds = Int((date.timeIntervalSince1970 * 1_000_000).rounded(.down)) + offset * 1_000_000
        let seconds = Self.floorDivide(microseconds, 1_000_000)
        microsecond = microseconds - seconds * 1_000_000
        let days = Self.floorDivide(seconds, 86_400)
        let ofDay = seconds - days * 86_400
        hour = ofDay / 3600
        minute = ofDay / 60 % 60
        second = ofDay % 60
        // Days are counted from 1 March of year 0, so that leap days end a year; 146,097 days make 400 years.
        let shifted = days + 719_468
        let era = Self.floorDivide(shifted, 146_097)
        let ofEra = shifted - era * 146_097
        let yearOfEra = (ofEra - ofEra / 1460 + ofEra / 36_524 - ofEra / 146_096) / 365
        let ofYear = ofEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * ofYear + 2) / 153
        day = ofYear - (153 * shiftedMonth + 2) / 5 + 1
        month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    }

    /// `2031-02-03T04:05:06Z`; right only for an offset of zero.
    var rfc3339: String {
        "\(digits(year, 4))-\(digits(month))-\(digits(day))T\(digits(hour)):\(digits(minute)):\(digits(second))Z"
    }

    /// `2031/02/03 04:05:06.123456`.
    var logStamp: String {
        "\(digits(year, 4))/\(digits(month))/\(digits(day)) "
            + "\(digits(hour)):\(digits(minute)):\(digits(second)).\(digits(microsecond, 6))"
    }

    private func digits(_ value: Int, _ width: Int = 2) -> String {
        let text = String(value)
        return String(repeating: "0", count: max(0, width - text.count)) + text
    }

    private static func floorDivide(_ value: Int, _ divisor: Int) -> Int {
        let quotient = value / divisor
        return value % divisor < 0 ? quotient - 1 : quotient
    }
}
