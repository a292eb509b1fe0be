import CDatagrams
import Foundation
import NetLab

/// The lean pair of programs for datagrams, run by this one in the namespaces of both ends.
///
///     WeaveBench datagrams send ADDRESS PORT LENGTH PER-SECOND SECONDS
///     WeaveBench datagrams receive PORT LENGTH BUFFER SECONDS
enum Datagrams {
    static let port: UInt16 = 5301

    struct Received: Codable {
        var count: Int64
        /// From the first to the last.
        var seconds: Double
    }

    static func run(_ words: [String]) throws {
        let numbers = words.suffix(from: min(words.count, words.first == "send" ? 2 : 1)).map { Double($0) ?? -1 }
        guard numbers.allSatisfy({ $0 >= 0 && $0 <= Double(Int32.max) }), numbers.count == 4 else {
            throw LabShell.Failure(description: "datagrams: wrong arguments: \(words)")
        }
        switch words.first {
        case "send":
            let sent = datagrams_send(words[1], UInt16(numbers[0]), UInt32(numbers[1]), numbers[2], numbers[3])
            guard sent >= 0 else { throw failure("send", Int32(-sent)) }
            print(sent)
        case "receive":
            var received = datagrams_received()
            let status = datagrams_receive(
                UInt16(numbers[0]), UInt32(numbers[1]), Int32(numbers[2]), numbers[3], &received)
            guard status == 0 else { throw failure("receive", -status) }
            let result = Received(count: received.count, seconds: received.seconds)
            print(String(decoding: try JSONEncoder().encode(result), as: UTF8.self))
        default: throw LabShell.Failure(description: "datagrams: send or receive")
        }
    }

    private static func failure(_ what: String, _ code: Int32) -> LabShell.Failure {
        LabShell.Failure(description: "datagrams \(what): \(String(cString: strerror(code)))")
    }
}

extension Traffic {
    /// Datagrams of `length` bytes that the lean program at the other end read in a second, of `perSecond` that the one
    /// at this end sent.
    func datagramsReceived(length: Int, perSecond: Int, seconds: Int) throws -> Double {
        guard let program = Bundle.main.executablePath else {
            throw LabShell.Failure(description: "this program does not know where it lies")
        }
        let before = try overflows()
        let port = String(Datagrams.port)
        // It begins before the sender, and outlasts what is on its way when that ends.
        let receiver = try cluster.start(
            Self.inside(
                server,
                [program, "datagrams", "receive", port, String(length), String(try bufferLength()), "\(seconds + 2)"]))
        let listens = try LabShell.poll(seconds: 1, every: 0.02) {
            try LabShell.run(Self.inside(server, ["ss", "-lun"])).contains(":\(port) ")
        }
        guard listens else { throw LabShell.Failure(description: "no receiver of datagrams: \(receiver.output)") }
        let words = [program, "datagrams", "send", address, port, String(length), String(perSecond), String(seconds)]
        let sender = try LabShell.run(Self.inside(client, words), seconds: seconds + 10)
        guard let sent = Int(sender.trimmingCharacters(in: .whitespacesAndNewlines)), sent > 0,
            let end = receiver.outcome(within: Double(seconds + 5)), end.status == 0
        else { throw LabShell.Failure(description: "datagrams: \(sender) \(receiver.output)") }
        let received = try JSONDecoder().decode(Datagrams.Received.self, from: Data(end.output.utf8))
        guard received.count > 1, received.seconds > 0 else {
            throw LabShell.Failure(description: "no datagrams arrived of \(sent)")
        }
        sayOverflows(try overflows() - before, of: Double(sent))
        return Double(received.count) / received.seconds
    }
}
