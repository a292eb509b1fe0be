// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "weavenet-benchmarks",
    dependencies: [.package(name: "weavenet", path: "..")],
    targets: [
        .target(name: "CDatagrams"),
        .executableTarget(
            name: "WeaveBench",
            dependencies: [
                "CDatagrams",
                .product(name: "NetLab", package: "weavenet"),
                .product(name: "WeaveCore", package: "weavenet"),
                .product(name: "WeaveIPAM", package: "weavenet"),
            ], swiftSettings: [.swiftLanguageMode(.v6)]),
        .executableTarget(
            name: "MeshScale",
            dependencies: [
                .product(name: "WeaveCore", package: "weavenet"),
                .product(name: "WeaveCrypto", package: "weavenet"),
                .product(name: "WeaveMesh", package: "weavenet"),
            ], swiftSettings: [.swiftLanguageMode(.v6)]),
    ]
)
