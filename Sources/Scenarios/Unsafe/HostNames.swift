internal import ABIChecker
internal import Glibc

/// What the kernel calls itself, its KVM backend and its clocksource.
enum HostNames {
  /// The corresponding C function is `uname`.
  static func kernelRelease() -> String {
    var name = utsname()
    guard uname(&name) == 0 else { return "unknown" }
    return withUnsafeBytes(of: &name.release, text)
  }

  /// The machine's own name; nil if it has none.
  static func hostname() -> String? {
    var name = utsname()
    guard uname(&name) == 0 else { return nil }
    let text = withUnsafeBytes(of: &name.nodename, text)
    return text.isEmpty || text == "(none)" ? nil : text
  }

  /// The module that drives the processor: the well-known ones first, then any whose name begins so.
  static func backend() -> String? {
    let names = names(in: "/sys/module").filter { $0.hasPrefix("kvm_") }
    let known = ["kvm_intel", "kvm_amd", "kvm_pvm"]
    return known.first(where: names.contains) ?? names.min()
  }

  /// What `/proc` and sysfs say of the machine.
  static func machine(backend: String?) -> MachineFacts {
    // The first CPU stands for all: its lines fit into what is read.
    let lines = HostFile.start(of: "/proc/cpuinfo").split(separator: "\n")
    func field(_ name: String) -> String? {
      lines.first { $0.hasPrefix("\(name)\t") }?.split(separator: ":", maxSplits: 1).last
        .map { String($0.drop { $0 == " " }) }
    }
    let numbers = [("family", "cpu family"), ("model", "model"), ("stepping", "stepping")]
      .compactMap { name, key in field(key).map { "\(name) \($0)" } }
    let cpu = field("model name").map { ([$0] + numbers).joined(separator: ", ") }
    var parameters: [String: String] = [:]
    for module in ["kvm"] + (backend.map { [$0] } ?? []) {
      let folder = "/sys/module/\(module)/parameters"
      for name in names(in: folder) {
        parameters["\(module).\(name)"] = HostFile.line("\(folder)/\(name)")
      }
    }
    return MachineFacts(
      cpu: cpu, microcode: field("microcode"), parameters: parameters,
      taint: HostFile.line("/proc/sys/kernel/tainted"),
      commandLine: HostFile.line("/proc/cmdline"))
  }

  /// What is in a folder, but for hidden names.
  private static func names(in folder: String) -> [String] {
    guard let folder = opendir(folder) else { return [] }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name, text)
      if !name.hasPrefix(".") { names.append(name) }
    }
    return names
  }

  static func clocksource() -> String? { HostFile.line(HostSettings.clocksource) }

  /// How far from the host's TSC a frequency may be that KVM takes without scaling, in parts per million.
  static func tscTolerance() -> Int32? {
    HostFile.line("/sys/module/kvm/parameters/tsc_tolerance_ppm").flatMap { Int32($0) }
  }

  /// The bytes before the first zero.
  private static func text(_ bytes: UnsafeRawBufferPointer) -> String {
    String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }
}
