internal import Glibc

/// A file of one line in sysfs.
enum HostFile {
  /// Its first line, or of a line that shows all choices the one in brackets; nil if it can't be read.
  static func line(_ path: String) -> String? {
    let line = start(of: path).prefix { $0 != "\n" }
    let chosen = line.drop { $0 != "[" }.dropFirst().prefix { $0 != "]" }
    let value = chosen.isEmpty ? line : chosen
    return value.isEmpty ? nil : String(value)
  }

  /// Its first 4096 bytes; nothing if it can't be read.
  static func start(of path: String) -> String {
    guard let file = fopen(path, "re") else { return "" }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = fread(&bytes, 1, bytes.count, file)
    return String(decoding: bytes.prefix(count), as: UTF8.self)
  }

  /// Writes `value` in one go; what went wrong as an errno, 0 if nothing did.
  static func write(_ value: String, to path: String) -> Int32 {
    let descriptor = open(path, O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return errno }
    defer { close(descriptor) }
    let bytes = Array(value.utf8)
    return Glibc.write(descriptor, bytes, bytes.count) == bytes.count ? 0 : errno
  }

  /// Writes `value` and reads it again; whether the file has it now.
  static func set(_ value: String, in path: String) -> Bool {
    write(value, to: path) == 0 && line(path) == value
  }
}
