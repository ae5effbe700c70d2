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
    guard let folder = opendir("/sys/module") else { return nil }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name, text)
      if name.hasPrefix("kvm_") { names.append(name) }
    }
    let known = ["kvm_intel", "kvm_amd", "kvm_pvm"]
    return known.first(where: names.contains) ?? names.min()
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
