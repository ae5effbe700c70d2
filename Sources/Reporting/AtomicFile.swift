internal import Glibc

/// A file in the making: it gets its name when it is whole, and leaves nothing behind otherwise.
struct AtomicFile: ~Copyable {
  private let path: String
  private let temporary: String
  private let shown: String
  private let descriptor: Int32
  private var buffer: [UInt8] = []
  private var isOpen = true

  private static let bufferSize = 1 << 16

  /// - Parameter shown: the path that errors name.
  init(_ path: String, reportedAs shown: String? = nil) throws(FileError) {
    let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? ""
    let name = path.dropFirst(folder.count)
    var number = 0
    var temporary: String
    var descriptor: Int32
    repeat {
      temporary = "\(folder).\(name).\(getpid()).\(number).tmp"
      descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
      number += 1
    } while descriptor < 0 && (errno == EINTR || errno == EEXIST && number < 100)
    guard descriptor >= 0 else {
      throw FileError(.unwritable, path: shown ?? path, errno: errno, doing: "write a file there")
    }
    self.path = path
    self.temporary = temporary
    self.shown = shown ?? path
    self.descriptor = descriptor
  }

  mutating func append(_ bytes: [UInt8]) throws(FileError) {
    buffer += bytes
    if buffer.count >= Self.bufferSize { try flush() }
  }

  mutating func flush() throws(FileError) {
    let result = Descriptor.write(buffer, to: descriptor)
    buffer.removeAll(keepingCapacity: true)
    try check(result, "write")
  }

  /// Writes what is left, waits until the disk has it, and gives the file its name.
  mutating func commit() throws(FileError) {
    try flush()
    // Some file systems cannot sync, and say so with EINVAL.
    try check(fsync(descriptor) == 0 || errno == EINVAL ? 0 : errno, "write to the disk")
    isOpen = false
    try check(close(descriptor) == 0 ? 0 : errno, "write")
    try check(rename(temporary, path) == 0 ? 0 : errno, "rename the finished file")
    syncFolder()
  }

  /// Gives up; does nothing after a commit that went well.
  mutating func discard() {
    if isOpen { _ = close(descriptor) }
    isOpen = false
    _ = unlink(temporary)
  }

  /// The name reaches the disk as well; where that is not possible the contents are still safe.
  private func syncFolder() {
    let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? "."
    let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    _ = fsync(descriptor)
    _ = close(descriptor)
  }

  private func check(_ errno: Int32, _ what: String) throws(FileError) {
    if errno != 0 { throw FileError(.unwritable, path: shown, errno: errno, doing: what) }
  }
}
