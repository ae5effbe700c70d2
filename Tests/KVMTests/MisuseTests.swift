import Foundation
import Testing

/// Programs that would let a guest run amok do not compile, and the compiler says why.
@Suite struct MisuseTests {
  private static let repository = #filePath.components(separatedBy: "/Tests/")[0]

  /// What the compiler says about a program that uses the library.
  private func compile(_ body: String) throws -> String {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("kvm-misuse-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let file = folder.appendingPathComponent("misuse.swift")
    try "import KVM\n\(body)\n".write(to: file, atomically: true, encoding: .utf8)
    let process = Process()
    let output = Pipe()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    // The tests' own folder holds the modules that they were built with.
    let modules = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath()
      .deletingLastPathComponent().appendingPathComponent("Modules").path
    process.arguments = [
      ProcessInfo.processInfo.environment["SWIFTC"] ?? "swiftc", "-emit-sil", "-o", "/dev/null",
      "-parse-as-library", "-swift-version", "6", "-strict-memory-safety", "-I", modules, "-Xcc",
      "-fmodule-map-file=\(Self.repository)/Sources/CKVM/module.modulemap", file.path,
    ]
    process.standardOutput = output
    process.standardError = output
    try process.run()
    let said = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return String(decoding: said, as: UTF8.self)
  }

  @Test func `what the documentation shows compiles without a warning`() throws {
    let said = try compile(
      """
      func use(_ machine: borrowing VirtualMachine) throws {
        var vcpu = try machine.createVCPU(id: 0)
        try machine.setMemoryRegion(
          slot: 0, guestPhysicalAddress: 0, memory: GuestMemory(size: 4096))
        let interrupter = vcpu.interrupter
        Task.detached { interrupter.requestImmediateExit(true) }
        _ = try vcpu.run()
      }
      """)
    #expect(said == "")
  }

  @Test(arguments: [
    (
      "two tasks run one vCPU",
      """
      func use(_ vcpu: consuming VCPU) async throws {
        let shared = vcpu
        async let one = shared.run()
        async let other = shared.run()
        _ = try await (one, other)
      }
      """, "'shared' is a 'let' constant"
    ),
    (
      "a class shares a vCPU",
      """
      final class Shared: Sendable {
        var vcpu: VCPU
        init(_ vcpu: consuming VCPU) { self.vcpu = vcpu }
      }
      """, "stored property 'vcpu' of 'Sendable'-conforming class 'Shared' is mutable"
    ),
    (
      "a copy of a vCPU runs beside it",
      """
      func use(_ vcpu: borrowing VCPU) throws {
        var other = vcpu
        _ = try other.run()
      }
      """, "'vcpu' is borrowed and cannot be consumed"
    ),
    (
      "a slot shows memory that may go, and nothing says so",
      """
      func use(_ machine: borrowing VirtualMachine, _ memory: borrowing GuestMemory) throws {
        try machine.setMemoryRegion(
          slot: 0, guestPhysicalAddress: 0, size: memory.size, hostAddress: memory.base)
      }
      """, "uses unsafe constructs"
    ),
  ])
  func `a misuse does not pass unnoticed`(what: String, body: String, complaint: String) throws {
    let said = try compile(body)
    #expect(said.contains(complaint), "\(what): \(said)")
  }
}
