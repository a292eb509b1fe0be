import Foundation

struct Failure: Error, CustomStringConvertible {
    let description: String
}

/// Runs a program and returns what it printed.
@discardableResult
func shell(_ words: String...) throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["timeout", "20"] + words
    let output = Pipe()
    process.standardOutput = output
    process.standardError = output
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
        throw Failure(description: "\(words.joined(separator: " ")): \(text)")
    }
    return text
}

/// Two namespaces joined by a veth pair, each with a TAP device that has an address.
struct Namespaces {
    let names: [String]

    init() throws {
        let names = (1...2).map { "tunnel\(getpid())h\($0)" }
        self.names = names
        do {
            for name in names { try shell("ip", "netns", "add", name) }
            try shell(
                "ip", "link", "add", "wire", "netns", names[0], "type", "veth", "peer", "name", "wire", "netns",
                names[1])
            for (index, name) in names.enumerated() {
                try shell("ip", "-n", name, "address", "add", "10.99.77.\(index + 1)/24", "dev", "wire")
                try shell("ip", "-n", name, "link", "set", "wire", "up")
                try shell("ip", "netns", "exec", name, "ip", "tuntap", "add", "tunnel", "mode", "tap")
                try shell("ip", "-n", name, "address", "add", "10.77.0.\(index + 1)/24", "dev", "tunnel")
                try shell("ip", "-n", name, "link", "set", "tunnel", "up")
            }
        } catch {
            remove()
            throw error
        }
    }

    func remove() {
        for name in names { _ = try? shell("ip", "netns", "delete", name) }
    }
}

/// One end of a socket pair that keeps messages apart.
final class Wire: Sendable {
    /// Tag and payload of any control message.
    private static let maximumLength = 8192
    private let descriptor: Int32

    private init(_ descriptor: Int32) { self.descriptor = descriptor }

    deinit { close(descriptor) }

    static func pair() throws -> [Wire] {
        var descriptors: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &descriptors) == 0 else {
            throw Failure(description: "no socket pair: \(errno)")
        }
        return descriptors.map { Wire($0) }
    }

    func send(tag: UInt8, payload: [UInt8]) {
        let message = [tag] + payload
        _ = write(descriptor, message, message.count)
    }

    /// The next message; nil when the other end has gone.
    func receive() -> (tag: UInt8, payload: [UInt8])? {
        var message = [UInt8](repeating: 0, count: Self.maximumLength)
        let count = read(descriptor, &message, message.count)
        guard count > 0 else { return nil }
        return (message[0], Array(message[1..<count]))
    }
}
