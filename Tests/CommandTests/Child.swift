import ABIChecker
import Foundation
import KVM
import PVClock
import Reporting
import Testing

/// A run of the command in a shell: its exit code and what it said.
struct Child {
  var code: Int32
  var output: String
  var complaint: String

  /// The executable that was built together with this test.
  static let executable: String = {
    let tests = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
    return (tests as NSString).deletingLastPathComponent + "/kvmclock"
  }()

  /// Runs a shell script in which `$K` is the command; its folder is `$D`.
  init(_ script: String, in folder: Folder) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", script]
    process.currentDirectoryURL = URL(fileURLWithPath: folder.path)
    process.environment = [
      "K": Self.executable, "D": folder.path, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    ]
    let output = "\(folder.path)/.output"
    let complaint = "\(folder.path)/.complaint"
    for path in [output, complaint] { try Data().write(to: URL(fileURLWithPath: path)) }
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle(forWritingAtPath: output)
    process.standardError = FileHandle(forWritingAtPath: complaint)
    try process.run()
    process.waitUntilExit()
    let crashed = process.terminationReason == .uncaughtSignal
    self.code = crashed ? -process.terminationStatus : process.terminationStatus
    self.output = try String(contentsOfFile: output, encoding: .utf8)
    self.complaint = try String(contentsOfFile: complaint, encoding: .utf8)
  }

  /// Expects an exit code, and a complaint that contains a text; without one, no complaint at all.
  func expect(
    _ code: Int32, _ complaint: String? = nil, at location: SourceLocation = #_sourceLocation
  ) {
    #expect(self.code == code, "\(self.complaint)\n\(output)", sourceLocation: location)
    if let complaint {
      #expect(self.complaint.contains(complaint), sourceLocation: location)
    } else {
      #expect(self.complaint == "", sourceLocation: location)
    }
    #expect(!self.complaint.contains("Fatal error"), sourceLocation: location)
  }
}

/// A folder of its own, removed with everything in it.
final class Folder {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "/kvmclock-tests-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func write(_ text: String, to name: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: "\(path)/\(name)"))
  }
}

extension Folder {
  func read(_ name: String) throws -> String {
    try String(contentsOfFile: "\(path)/\(name)", encoding: .utf8)
  }

  /// The names of all that is not hidden.
  var names: [String] {
    let all = try? FileManager.default.contentsOfDirectory(atPath: path)
    return (all ?? []).filter { !$0.hasPrefix(".") }.sorted()
  }

  /// A history in which a machine is made, and the host looks at a vCPU's record, whose version is each of these in turn.
  func writeHistory(
    _ name: String, versions: [UInt32], scenario: String = "version", kernel: String = "6.12.0"
  ) throws {
    let host = HostFacts(kernel: kernel, backend: "kvm_amd", clocksource: "tsc", tscKHz: 2_000_000)
    let header = Header(scenario: scenario, seed: 9, host: host)
    let seen = versions.map { Action.page(vcpu: 0, address: 0x2000, page: ClockPage(version: $0)) }
    let events = ([.vmCreated, .vcpuCreated(vcpu: 0)] + seen).enumerated().map { index, action in
      let at = UInt64(index + 1) * 1_000_000
      return Event(
        number: index + 1, actor: .host, began: Instant(tsc: at * 2, raw: at),
        ended: Instant(tsc: at * 2 + 20, raw: at + 10),
        action: action)
    }
    try HistoryFile.write(History(header: header, events: events), to: "\(path)/\(name)")
  }
}

/// What a test needs of this host.
enum Host {
  static let isRoot = getuid() == 0

  /// Whether a program may be run at a realtime policy, on CPU 1 alone.
  static let canBeRealtime: Bool = {
    guard let folder = try? Folder() else { return false }
    return (try? Child("taskset -c 1 chrt --fifo 1 true", in: folder))?.code == 0
  }()

  /// Whether a command can be run in a mount namespace without /proc, and if not why.
  static let canHideProc = procObstacle == nil
  static let procReason = Comment(rawValue: procObstacle ?? "/proc can be hidden")
  private static let procObstacle: String? = {
    do {
      let child = try Child("\(withoutProc) true", in: Folder())
      return child.code == 0 ? nil : "/proc cannot be unmounted: \(child.complaint)"
    } catch {
      return "\(error)"
    }
  }()

  /// What a shell script puts before a command that is to run without /proc.
  static let withoutProc =
    "unshare --mount sh -c 'mount --make-rprivate / && umount -l /proc && exec \"$@\"' -"

  /// Why KVM cannot be used here, if so.
  static let obstacle: String? = {
    do {
      _ = try KVMSystem()
      return nil
    } catch {
      return "\(error)"
    }
  }()

  /// With KVM_REQUIRED=1 a host without KVM fails the tests instead of skipping them.
  static let hasKVM = obstacle == nil || getenv("KVM_REQUIRED").map { strcmp($0, "1") } == 0
  static let reason = Comment(rawValue: obstacle ?? "KVM is usable")
}
