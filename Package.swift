// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "weavenet",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "WeaveCore", targets: ["WeaveCore"]),
        .library(name: "WeaveGob", targets: ["WeaveGob"]),
        .library(name: "WeaveCrypto", targets: ["WeaveCrypto"]),
        .library(name: "WeaveMesh", targets: ["WeaveMesh"]),
        .library(name: "WeaveIPAM", targets: ["WeaveIPAM"]),
        .library(name: "WeaveNetlink", targets: ["WeaveNetlink"]),
        .library(name: "WeaveDatapath", targets: ["WeaveDatapath"]),
        .library(name: "WeaveTestKit", targets: ["WeaveTestKit"]),
        .library(name: "NetLab", targets: ["NetLab"]),
        .executable(name: "weaver", targets: ["WeaveNetDaemon"]),
        .executable(name: "weave", targets: ["WeaveCommand"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-log.git", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics.git", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections.git", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-http-types.git", from: "1.8.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", from: "2.13.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird.git", from: "2.28.1"),
        .package(url: "https://github.com/swift-server/async-http-client.git", from: "1.37.0"),
        .package(url: "https://github.com/groue/GRDB.swift.git", from: "7.10.0"),
        .package(url: "https://github.com/swiftlang/swift-subprocess.git", from: "1.0.2"),
        .package(url: "https://github.com/swiftlang/swift-docc-plugin.git", from: "1.5.0"),
    ],
    targets: [
        .systemLibrary(name: "CSodium", pkgConfig: "libsodium", providers: [.apt(["libsodium-dev"])]),
        .systemLibrary(
            name: "CNetlink", pkgConfig: "libnl-route-3.0",
            providers: [.apt(["libnl-3-dev", "libnl-genl-3-dev", "libnl-route-3-dev"])]),
        .target(name: "CLinux"),
        .target(name: "WeaveCore"),
        .target(name: "WeaveGob", dependencies: ["WeaveCore"]),
        .target(name: "WeaveCrypto", dependencies: ["WeaveCore", "CSodium"]),
        .target(
            name: "WeaveMesh",
            dependencies: [
                "WeaveCore", "WeaveGob", "WeaveCrypto",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "CoreMetrics", package: "swift-metrics"),
            ]),
        .target(name: "WeaveIPAM", dependencies: ["WeaveCore", "WeaveGob"]),
        .target(name: "WeaveNetlink", dependencies: ["WeaveCore", "CNetlink", "CLinux"]),
        .target(
            name: "WeaveDatapath",
            dependencies: [
                "WeaveCore", "WeaveCrypto", "WeaveNetlink", "CLinux",
                .product(name: "Logging", package: "swift-log"),
            ]),
        .executableTarget(
            name: "WeaveNetDaemon",
            dependencies: [
                "WeaveCore", "WeaveMesh", "WeaveIPAM", "WeaveNetlink", "WeaveDatapath", "WeaveCrypto",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ]),
        .executableTarget(
            name: "WeaveCommand",
            dependencies: [
                "WeaveCore",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "Subprocess", package: "swift-subprocess"),
            ]),
        .target(
            name: "WeaveTestKit",
            dependencies: [
                "WeaveCore", "WeaveGob", "WeaveCrypto", "WeaveMesh",
                .product(name: "Logging", package: "swift-log"),
            ],
            path: "Tests/WeaveTestKit"),
        .target(name: "NetLab", path: "Tests/NetLab"),
        .target(name: "CAllocationWatch", path: "Tests/CAllocationWatch"),
        .testTarget(name: "WeaveCoreTests", dependencies: ["WeaveCore", "WeaveTestKit"]),
        .testTarget(name: "WeaveGobTests", dependencies: ["WeaveCore", "WeaveGob", "WeaveTestKit"]),
        .testTarget(name: "WeaveCryptoTests", dependencies: ["WeaveCore", "WeaveCrypto", "WeaveTestKit", "CSodium"]),
        .testTarget(
            name: "WeaveMeshTests",
            dependencies: [
                "WeaveCore", "WeaveGob", "WeaveCrypto", "WeaveMesh", "WeaveTestKit",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "CoreMetrics", package: "swift-metrics"),
            ]),
        .testTarget(
            name: "WeaveIPAMTests", dependencies: ["WeaveCore", "WeaveGob", "WeaveIPAM", "WeaveMesh", "WeaveTestKit"]),
        .testTarget(name: "WeaveNetlinkTests", dependencies: ["WeaveCore", "WeaveNetlink", "NetLab"]),
        .testTarget(
            name: "WeaveDatapathTests",
            dependencies: [
                "WeaveCore", "WeaveCrypto", "WeaveNetlink", "WeaveDatapath", "WeaveTestKit", "NetLab", "CLinux",
                "CAllocationWatch",
                .product(name: "Logging", package: "swift-log"),
            ]),
        .testTarget(
            name: "WeaveNetDaemonTests",
            dependencies: [
                "WeaveCore", "WeaveCrypto", "WeaveMesh", "WeaveIPAM", "WeaveNetlink", "WeaveDatapath",
                "WeaveNetDaemon", "NetLab", "WeaveTestKit",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ]),
        .testTarget(
            name: "WeaveCommandTests",
            dependencies: [
                "WeaveCore", "WeaveCommand", "WeaveTestKit",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ]),
        .testTarget(name: "SimulatorTests", dependencies: ["WeaveCore", "WeaveMesh", "WeaveTestKit"]),
        .testTarget(name: "HouseTests"),
        .testTarget(name: "NetworkLabTests", dependencies: ["WeaveCore", "NetLab"]),
        .testTarget(name: "InteropTests", dependencies: ["WeaveCore", "WeaveMesh", "NetLab"]),
    ]
)

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .strictMemorySafety(),
]
let warningsAreErrors: [SwiftSetting] =
    Context.environment["CI"] == nil ? [] : [.treatAllWarnings(as: .error)]

let inC: Set = ["CLinux", "CAllocationWatch"]

for target in package.targets where target.type != .system && !inC.contains(target.name) {
    target.swiftSettings = (target.swiftSettings ?? []) + strict + warningsAreErrors
}
