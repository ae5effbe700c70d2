internal import FoundationEssentials
internal import Glibc

/// strace around a VMM: which ioctls it made, and which were refused.
package final class Tracer {
  private let folder: String
  private var files: [String] = []

  package init(folder: String) throws(VMMError) {
    self.folder = folder
    guard ChildProcess.path(of: "strace") != nil else {
      throw .missing(what: "strace", remedy: "install it, or leave --trace out")
    }
  }

  func words(for words: [String]) -> [String] {
    var number = 1
    while access("\(folder)/\(number).strace", F_OK) == 0 || files.count >= number { number += 1 }
    let file = "\(folder)/\(number).strace"
    files.append(file)
    return ["strace", "-f", "-ttt", "-e", "trace=ioctl", "-e", "signal=none", "-o", file] + words
  }

  private static let clockIoctls = [
    "KVM_GET_CLOCK", "KVM_KVMCLOCK_CTRL", "KVM_SET_CLOCK", "KVM_SET_TSC_KHZ",
  ]

  /// How often each ioctl of the clock was made, and each that KVM refused, with the error.
  package var summary: [String] {
    var counts = Dictionary(uniqueKeysWithValues: Self.clockIoctls.map { ($0, 0) })
    var silent: [String] = []
    for file in files {
      let text = FileManager.default.contents(atPath: file).map {
        String(decoding: $0, as: UTF8.self)
      }
      if text?.contains("KVM_") != true { silent.append("\(file) has no ioctl of KVM") }
      for line in text?.split(separator: "\n") ?? [] {
        if let key = Self.notable(line) { counts[key, default: 0] += 1 }
      }
    }
    return counts.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" } + silent
  }

  /// A call that says something of the clock, or that failed.
  static func notable(_ line: Substring) -> String? {
    guard let match = line.firstMatch(of: /ioctl\(\d+, (KVM_\w+).*\) = (-?\d+)(?: (E\w+))?/) else {
      return nil
    }
    let name = String(match.1)
    if let error = match.3 {
      // These are how KVM_RUN ends, and how a VMM asks for room.
      return name == "KVM_RUN" && (error == "EINTR" || error == "EAGAIN") || error == "E2BIG"
        ? nil : "\(name) refused with \(error)"
    }
    return clockIoctls.contains(name) ? name : nil
  }
}
