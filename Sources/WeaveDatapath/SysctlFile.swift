import Glibc

/// Reads and writes whole small files of the kernel's.
enum SmallFile {
    /// The number of a failed system call.
    struct Failure: Error, CustomStringConvertible {
        let number: Int32
        var isMissing: Bool { number == ENOENT || number == ENOTDIR || number == ENODEV }
        var description: String { errorText(number) }
    }

    /// Identifiers and sysctls are far below a page; more than that is not what we are looking for.
    static let sizeLimit = 4096

    static func read(_ path: String) -> Result<[UInt8], Failure> {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return .failure(Failure(number: errno)) }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: sizeLimit)
        let count = unsafe Glibc.read(descriptor, &bytes, sizeLimit)
        guard count >= 0 else { return .failure(Failure(number: errno)) }
        return .success(Array(bytes.prefix(count)))
    }

    static func write(_ path: String, _ text: String) -> Failure? {
        let descriptor = unsafe open(path, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return Failure(number: errno) }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        let count = unsafe Glibc.write(descriptor, bytes, bytes.count)
        return count == bytes.count ? nil : Failure(number: count < 0 ? errno : EIO)
    }
}
