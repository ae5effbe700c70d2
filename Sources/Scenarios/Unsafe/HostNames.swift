internal import Glibc

/// What the kernel calls itself, its KVM backend and its clocksource.
enum HostNames {
  /// The corresponding C function is `uname`.
  static func kernelRelease() -> String {
    var name = utsname()
    guard uname(&name) == 0 else { return "unknown" }
    return withUnsafeBytes(of: &name.release, text)
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

  static func clocksource() -> String? {
    line(of: "/sys/devices/system/clocksource/clocksource0/current_clocksource")
  }

  /// How far from the host's TSC a frequency may be that KVM takes without scaling, in parts per million.
  static func tscTolerance() -> Int32? {
    line(of: "/sys/module/kvm/parameters/tsc_tolerance_ppm").flatMap { Int32($0) }
  }

  private static func line(of path: String) -> String? {
    guard let file = fopen(path, "re") else { return nil }
    defer { fclose(file) }
    var line = [UInt8](repeating: 0, count: 256)
    let count = fread(&line, 1, line.count, file)
    let name = line.prefix(count).prefix { $0 != UInt8(ascii: "\n") }
    return name.isEmpty ? nil : String(decoding: name, as: UTF8.self)
  }

  /// The bytes before the first zero.
  private static func text(_ bytes: UnsafeRawBufferPointer) -> String {
    String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }
}
