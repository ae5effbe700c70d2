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
    let file = "\(folder)/\(files.count + 1).strace"
    files.append(file)
    return ["strace", "-f", "-ttt", "-e", "trace=ioctl", "-e", "signal=none", "-o", file] + words
  }

  /// One line for each ioctl of KVM's clock, and for each that KVM refused: its name, the error, how often.
  package var summary: [String] {
    var counts: [String: Int] = [:]
    for file in files {
      guard let data = FileManager.default.contents(atPath: file) else { continue }
      for line in String(decoding: data, as: UTF8.self).split(separator: "\n") {
        if let key = Self.notable(line) { counts[key, default: 0] += 1 }
      }
    }
    return counts.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
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
    return ["KVM_SET_CLOCK", "KVM_GET_CLOCK", "KVM_KVMCLOCK_CTRL", "KVM_SET_TSC_KHZ"]
      .contains(name) ? name : nil
  }
}
