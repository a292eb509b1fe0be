/// How the allocation of addresses is.
enum AllocationStatus {
    /// What is said when it is off.
    static let off =
        "IP address allocation must be enabled to use 'net:' and all that is about the ring. Turn it on with 'weave stop' "
        + "and 'weave launch --ipalloc-range 10.32.0.0/12', the same range on all hosts; or give the address, such as "
        + "10.32.0.1/12"

    /// What the summary of 'weave status' says in its section about allocation; nil when there is no such section.
    static func text(in summary: String) -> String? {
        var isInside = false
        for line in summary.split(separator: "\n", omittingEmptySubsequences: false) {
            let parts = line.split(separator: ":", maxSplits: 1).map(trimmed)
            if parts.count < 2 {
                isInside = false
            } else if parts[0] == "Service" {
                isInside = parts[1] == "ipam"
            } else if isInside, parts[0] == "Status" {
                return parts[1]
            }
        }
        return nil
    }

    private static func trimmed(_ text: Substring) -> String {
        var text = text.drop { $0 == " " }
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}
