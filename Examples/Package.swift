// swift-tools-version: 6.2
import PackageDescription

// One small program for each library. Run one with `swift run --package-path Examples SecretFrames --demo`.
let package = Package(
    name: "weavenet-examples",
    platforms: [.macOS(.v15)],
    dependencies: [
        .package(name: "weavenet", path: ".."),
        .package(url: "https://github.com/apple/swift-log.git", from: "1.16.2"),
    ],
    targets: [
        .executableTarget(
            name: "SecretFrames",
            dependencies: [.product(name: "WeaveCrypto", package: "weavenet")]),
        .executableTarget(
            name: "AddressPool",
            dependencies: [
                .product(name: "WeaveCore", package: "weavenet"),
                .product(name: "WeaveIPAM", package: "weavenet"),
            ]),
        .executableTarget(
            name: "SharedCounter",
            dependencies: [
                .product(name: "WeaveCore", package: "weavenet"),
                .product(name: "WeaveMesh", package: "weavenet"),
            ]),
        .executableTarget(
            name: "GossipChat",
            dependencies: [
                .product(name: "WeaveCore", package: "weavenet"),
                .product(name: "WeaveCrypto", package: "weavenet"),
                .product(name: "WeaveMesh", package: "weavenet"),
            ]),
        .executableTarget(
            name: "SleeveTunnel",
            dependencies: [
                .product(name: "WeaveCore", package: "weavenet"),
                .product(name: "WeaveCrypto", package: "weavenet"),
                .product(name: "WeaveDatapath", package: "weavenet"),
                .product(name: "WeaveNetlink", package: "weavenet"),
                .product(name: "Logging", package: "swift-log"),
            ]),
    ]
)

for target in package.targets {
    target.swiftSettings =
        (target.swiftSettings ?? []) + [
            .swiftLanguageMode(.v6),
            .enableUpcomingFeature("ExistentialAny"),
            .enableUpcomingFeature("InternalImportsByDefault"),
            .enableUpcomingFeature("MemberImportVisibility"),
        ]
}
