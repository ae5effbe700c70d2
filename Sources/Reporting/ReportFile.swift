internal import Glibc

/// A report as a file.
public enum ReportFile {
  /// ".txt, .ktap or .json".
  public static var endings: String {
    let all = ReportFormat.allCases.map(\.ending)
    return "\(all.dropLast().joined(separator: ", ")) or \(all.last ?? "")"
  }

  /// Makes sure that a file can be written there, and leaves none behind: before a run, not after it.
  ///
  /// - Throws: `FileError` naming the path, the cause and a remedy.
  public static func probe(_ path: String) throws(FileError) {
    try refuseFolder(path)
    var probe = try AtomicFile(path)
    defer { probe.discard() }
    // A full disk takes an empty file and refuses its first block.
    try probe.append([UInt8](repeating: UInt8(ascii: "\n"), count: 4096))
    try probe.flush()
  }

  /// Writes a text so that the path holds all of it or what it held before.
  ///
  /// - Throws: `FileError` naming the path, the cause and a remedy.
  public static func write(_ text: String, to path: String) throws(FileError) {
    try write(bytes: Array(text.utf8), to: path)
  }

  /// Adds a text to the end of a file that others write too.
  ///
  /// - Throws: `FileError` naming the path, the cause and a remedy.
  public static func append(_ text: String, to path: String) throws(FileError) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else {
      throw FileError(.unwritable, path: path, errno: errno, doing: "open it")
    }
    defer { _ = close(descriptor) }
    let error = Descriptor.write(Array(text.utf8), to: descriptor)
    guard error == 0 else {
      throw FileError(.unwritable, path: path, errno: error, doing: "write")
    }
  }

  /// The same with bytes.
  public static func write(bytes: [UInt8], to path: String) throws(FileError) {
    try refuseFolder(path)
    var file = try AtomicFile(path)
    do throws(FileError) {
      try file.append(bytes)
      try file.commit()
    } catch {
      file.discard()
      throw error
    }
  }

  /// A folder would be found out only when the finished file is renamed.
  private static func refuseFolder(_ path: String) throws(FileError) {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor < 0 else {
      _ = close(descriptor)
      throw FileError(.unwritable, path: path, errno: EISDIR, doing: "write a file there")
    }
  }
}
