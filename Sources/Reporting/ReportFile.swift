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
    guard try !isStream(path) else { return }
    var probe = try AtomicFile(path)
    // A full disk takes an empty file and refuses its first block.
    try probe.append([UInt8](repeating: UInt8(ascii: "\n"), count: 4096))
    try probe.flush()
  }

  /// Writes a text so that the path holds all of it or what it held before. A pipe or a terminal gets it as it is.
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
    guard try !isStream(path) else { return try send(bytes, to: path) }
    var file = try AtomicFile(path)
    try file.append(bytes)
    try file.commit()
  }

  /// Whether what stands there is written into, and never replaced by a file.
  ///
  /// - Throws: `FileError` for what can be neither.
  private static func isStream(_ path: String) throws(FileError) -> Bool {
    var status = stat()
    guard stat(path, &status) == 0 else { return false }
    switch status.st_mode & S_IFMT {
    case S_IFREG: return false
    case S_IFIFO, S_IFCHR: return true
    case S_IFDIR:
      throw FileError(.unwritable, path: path, errno: EISDIR, doing: "write a file there")
    default:
      throw FileError(
        .unwritable, path: path, cause: "a socket or a disk is there", remedy: "name a file")
    }
  }

  private static func send(_ bytes: [UInt8], to path: String) throws(FileError) {
    let descriptor = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
    guard descriptor >= 0 else {
      guard errno == ENXIO else {
        throw FileError(.unwritable, path: path, errno: errno, doing: "write there")
      }
      throw FileError(
        .unwritable, path: path, cause: "nobody reads this pipe", remedy: "start its reader first")
    }
    defer { _ = close(descriptor) }
    // Only the wait for a reader was not wanted.
    _ = fcntl(descriptor, F_SETFL, 0)
    let errno = Descriptor.write(bytes, to: descriptor)
    if errno != 0 { throw FileError(.unwritable, path: path, errno: errno, doing: "write") }
  }
}
