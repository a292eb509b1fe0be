/// Numbers that are equal for equal things on every peer. They tell apart what came about by accident; they keep nobody
/// from making two things with the same number on purpose.
enum Fingerprint {
    private static let increment: UInt64 = 0x9e37_79b9_7f4a_7c15

    /// A permutation in which each bit of the input changes half of those of the output.
    static func mixed(_ value: UInt64) -> UInt64 {
        var value = value
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }

    /// Taken eight bytes at a time.
    static func of(_ bytes: some Sequence<UInt8>, salt: UInt64 = 0) -> UInt64 {
        var result = mixed(salt &+ increment)
        var word: UInt64 = 0
        var count: UInt64 = 0
        for byte in bytes {
            word = word << 8 | UInt64(byte)
            count += 1
            guard count % 8 == 0 else { continue }
            result = mixed((result ^ word) &+ increment)
            word = 0
        }
        return mixed((result ^ word) &+ count)
    }
}
