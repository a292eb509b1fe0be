import WeaveCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The time of the machine: monotonic from now on, and that of the calendar.
func machineClock() -> AddressAllocator.Clock {
    let origin = ContinuousClock.now
    return {
        AllocatorTime(
            MonotonicTime.zero + origin.duration(to: ContinuousClock.now), unixSeconds: Int64(time(nil)))
    }
}
