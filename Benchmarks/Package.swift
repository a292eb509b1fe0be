// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "weavenet-benchmarks",
    targets: [
        .executableTarget(name: "SleeveBench", swiftSettings: [.swiftLanguageMode(.v6)])
    ]
)
