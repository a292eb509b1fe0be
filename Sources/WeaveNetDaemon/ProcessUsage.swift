import Foundation

/// What this process uses of the machine.
struct ProcessUsage: Sendable {
    var residentBytes: Int
    var cpuSeconds: Double
    var openDescriptors: Int

    /// Reads `/proc/self`; what cannot be read is zero.
    static func current() -> ProcessUsage {
        // Field 2 of statm is resident pages; 11 and 12 of stat after the name in parentheses are ticks.
        let statm = words(of: "/proc/self/statm")
        let stat = (try? String(contentsOfFile: "/proc/self/stat", encoding: .utf8)) ?? ""
        let fields = stat.split(separator: ")").last?.split(separator: " ") ?? []
        let ticks = fields.count > 12 ? (Double(fields[11]) ?? 0) + (Double(fields[12]) ?? 0) : 0
        let descriptors = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count) ?? 0
        return ProcessUsage(
            residentBytes: (statm.count > 1 ? Int(statm[1]) ?? 0 : 0) * sysconf(Int32(_SC_PAGESIZE)),
            cpuSeconds: ticks / Double(max(1, sysconf(Int32(_SC_CLK_TCK)))),
            openDescriptors: descriptors)
    }

    private static func words(of path: String) -> [Substring] {
        ((try? String(contentsOfFile: path, encoding: .utf8)) ?? "").split(whereSeparator: \.isWhitespace)
    }
}
