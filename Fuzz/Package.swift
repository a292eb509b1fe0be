// swift-tools-version: 6.2
import Foundation
import PackageDescription

// The parsers are compiled here once more, with instrumentation, and without what has to do with sockets and devices.
// So nothing has to be fetched, and SwiftNIO not to be instrumented. `Sources` holds links to the directories of the
// sources.
/// What of the data path reads and writes bytes, and no more.
let formats: Set = [
    "ForwardingRoutes.swift", "FragmentationNeeded.swift", "FrameBytes.swift", "FrameHeader.swift",
    "IPv4Fragmenter.swift", "MACTable.swift", "Offload.swift", "OffloadCoalescer.swift", "OffloadSegmenter.swift",
    "OverlayControlEnvelope.swift", "OverlayNegotiation.swift", "PacketSlab.swift", "PacketTooBig.swift",
    "SleeveControl.swift", "SleeveLayout.swift", "SleevePacket.swift", "SleeveRecord.swift", "SpecialFrame.swift",
]

func others(than kept: Set<String>, in target: String) -> [String] {
    let directory = "\(Context.packageDirectory)/Sources/\(target)/"
    let files = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
    return files.filter { !kept.contains($0) }.sorted()
}

let package = Package(
    name: "weavenet-fuzz",
    platforms: [.macOS(.v15)],
    targets: [
        .systemLibrary(name: "CSodium", pkgConfig: "libsodium", providers: [.apt(["libsodium-dev"])]),
        .target(name: "WeaveCore"),
        .target(name: "WeaveGob", dependencies: ["WeaveCore"]),
        .target(name: "WeaveCrypto", dependencies: ["WeaveCore", "CSodium"]),
        .target(
            name: "WeaveMesh", dependencies: ["WeaveCore", "WeaveGob", "WeaveCrypto"],
            exclude: [
                "AcceptPauseHandler.swift", "HandshakeTable.swift", "MeshChannelHandler.swift",
                "MeshConfiguration.swift", "MeshLink.swift",
                "MeshMetrics.swift", "MeshRouter.swift", "MeshRouter+Directives.swift", "MeshRouter+Links.swift",
                "MeshSockets.swift", "ReceiveAllocator.swift", "Replica.swift",
            ]),
        .target(name: "WeaveIPAM", dependencies: ["WeaveCore", "WeaveGob"]),
        .target(
            name: "WeaveDatapath", dependencies: ["WeaveCore", "WeaveCrypto"],
            exclude: others(than: formats, in: "WeaveDatapath")),
        .executableTarget(
            name: "WeaveFuzz",
            dependencies: ["WeaveCore", "WeaveGob", "WeaveCrypto", "WeaveMesh", "WeaveIPAM", "WeaveDatapath"],
            linkerSettings: [.unsafeFlags(["-sanitize=address,fuzzer", "-use-ld=lld"])]),
    ]
)

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .strictMemorySafety(),
    // AddressSanitizer counts what is allocated, bounds it, and sees what unsafe code does wrong.
    .unsafeFlags(["-sanitize=address,fuzzer", "-parse-as-library", "-enable-testing"]),
]

for target in package.targets where target.type != .system {
    target.swiftSettings = (target.swiftSettings ?? []) + settings
}
