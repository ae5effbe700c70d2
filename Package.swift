// swift-tools-version: 6.2
import PackageDescription

/// Rules and arithmetic, where no unsafe code has any business.
let pure: [SwiftSetting] = [.strictMemorySafety()]

/// One file without shared libraries beside those of C and C++: it starts in milliseconds and can be copied to a test machine.
let standalone: [LinkerSetting] = [
  .unsafeFlags(["-static-stdlib", "-use-ld=lld", "-Xlinker", "-z", "-Xlinker", "now"]),
  .linkedLibrary("_FoundationCShims"), .linkedLibrary("_FoundationCollections"),
]

/// The plugin that makes documentation: only where that is asked for, so that no other build fetches it.
let documentation: [Package.Dependency] =
  Context.environment["KVMCLOCK_DOCUMENTATION"] == nil
  ? [] : [.package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.4.0")]

/// What `make fuzz` builds: libFuzzer has the `main`, and only `--sanitize=fuzzer` brings it along.
let fuzzing: [Target] =
  Context.environment["KVMCLOCK_FUZZ"] == nil
  ? []
  : [
    .executableTarget(
      name: "fuzz", dependencies: ["ABIChecker", "GuestImages", "KVM", "Reporting", "VMBuilder"],
      path: "Tests/Fuzz", exclude: ["corpus", "large.py", "run.sh"],
      swiftSettings: [.unsafeFlags(["-parse-as-library"])])
  ]

let package = Package(
  name: "kvmclock",
  products: [
    .library(name: "KVM", targets: ["KVM"]),
    .library(name: "PVClock", targets: ["PVClock"]),
    .executable(name: "kvmclock", targets: ["kvmclock"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0")
  ] + documentation,
  targets: [
    .systemLibrary(name: "CKVM"),
    .target(name: "CArguments"),
    .target(name: "GuestImages", path: "guest-images", exclude: ["README.md"]),
    .target(name: "KVM", dependencies: ["CKVM"]),
    .target(name: "PVClock", swiftSettings: pure),
    .target(name: "VMBuilder", dependencies: ["CKVM", "KVM", "PVClock", "GuestImages"]),
    .target(name: "ABIChecker", dependencies: ["PVClock"], swiftSettings: pure),
    .target(name: "Scenarios", dependencies: ["ABIChecker", "KVM", "PVClock", "VMBuilder"]),
    .target(
      name: "HostModel", dependencies: ["ABIChecker", "KVM", "PVClock", "Scenarios", "VMBuilder"]),
    .target(
      name: "VMM", dependencies: ["ABIChecker", "GuestImages", "KVM", "PVClock", "VMBuilder"]),
    .target(name: "Reporting", dependencies: ["ABIChecker", "PVClock"]),
    .target(name: "CInside", cSettings: [.unsafeFlags(["-O2"])]),
    .target(name: "Inside", dependencies: ["ABIChecker", "CInside", "PVClock"]),
    .executableTarget(
      name: "kvmclock",
      dependencies: [
        "ABIChecker", "CArguments", "HostModel", "Inside", "KVM", "PVClock", "Reporting",
        "Scenarios", "VMM",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      linkerSettings: standalone),
    .executableTarget(
      name: "first-reading", dependencies: ["KVM", "VMBuilder"], path: "Bench/first-reading",
      linkerSettings: standalone),
    .executableTarget(
      name: "a-vm-in-forty-lines", dependencies: ["KVM"], path: "Examples/a-vm-in-forty-lines"),
    .executableTarget(
      name: "reading-a-clock-page", dependencies: ["PVClock"],
      path: "Examples/reading-a-clock-page"),
    .testTarget(
      name: "VMMTests", dependencies: ["ABIChecker", "GuestImages", "PVClock", "VMM"]),
    .testTarget(name: "KVMTests", dependencies: ["CKVM", "KVM"]),
    .testTarget(name: "PVClockTests", dependencies: ["PVClock"]),
    .testTarget(name: "ABICheckerTests", dependencies: ["ABIChecker", "PVClock"]),
    .testTarget(
      name: "HostModelTests",
      dependencies: ["ABIChecker", "HostModel", "KVM", "PVClock", "Scenarios", "VMM"]),
    .testTarget(
      name: "InsideTests", dependencies: ["ABIChecker", "Inside", "PVClock"]),
    .testTarget(name: "ReportingTests", dependencies: ["ABIChecker", "PVClock", "Reporting"]),
    .testTarget(
      name: "CommandTests",
      dependencies: ["ABIChecker", "HostModel", "KVM", "PVClock", "Reporting"]),
    .testTarget(
      name: "LiveTests",
      dependencies: [
        "ABIChecker", "GuestImages", "HostModel", "KVM", "PVClock", "Scenarios", "VMBuilder",
        "VMM",
      ]),
  ] + fuzzing,
  swiftLanguageModes: [.v6]
)
