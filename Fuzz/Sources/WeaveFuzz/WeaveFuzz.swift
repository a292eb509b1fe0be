import Glibc

/// One parser of bytes that others send, with what must hold of it whatever they are.
struct FuzzTarget: Sendable {
    let name: String
    let run: @Sendable (FuzzInput) -> Void

    static let all = [
        FuzzTarget(name: "gob", run: fuzzGob),
        FuzzTarget(name: "handshake", run: fuzzHandshake),
        FuzzTarget(name: "topology", run: fuzzTopology),
        FuzzTarget(name: "gossip", run: fuzzGossip),
        FuzzTarget(name: "sleeve", run: fuzzSleeve),
        FuzzTarget(name: "sealed", run: fuzzSealed),
        FuzzTarget(name: "frames", run: fuzzFrames),
        FuzzTarget(name: "offload", run: fuzzOffload),
        FuzzTarget(name: "ipam", run: fuzzIPAM),
        FuzzTarget(name: "text", run: fuzzText),
    ]
}

private typealias TestOneInput = @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt

@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>, _ test: TestOneInput
) -> CInt

/// The target that was chosen: set once, before the fuzzer runs.
private nonisolated(unsafe) var chosen: FuzzTarget?

/// `WeaveFuzz TARGET [what libFuzzer takes: options, directories of a corpus, or files to run once]`; `WeaveFuzz list`.
@main struct WeaveFuzz {
    static func main() {
        let arguments = CommandLine.arguments
        guard arguments.count > 1, let target = FuzzTarget.all.first(where: { $0.name == arguments[1] }) else {
            for target in FuzzTarget.all { print(target.name) }
            exit(arguments.dropFirst().first == "list" ? 0 : 2)
        }
        unsafe chosen = target
        // The name of the target is not for libFuzzer.
        var count = CommandLine.argc - 1
        var remaining = unsafe CommandLine.unsafeArgv + 1
        unsafe remaining[0] = unsafe CommandLine.unsafeArgv[0]
        let status = unsafe runDriver(&count, &remaining) { bytes, count in
            if let target = unsafe chosen {
                unsafe runWatched(target, FuzzInput(Array(UnsafeBufferPointer(start: bytes, count: count))))
            }
            return 0
        }
        exit(status)
    }
}
