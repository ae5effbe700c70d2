internal import Glibc

/// A file in the making: it gets its name when it is whole, and leaves nothing behind otherwise.
struct AtomicFile: ~Copyable {
  private let path: String
  private let shown: String
  private let descriptor: Int32
  /// The name that it has meanwhile. Until `commit` it has none where the file system knows such files: what ends this
  /// process leaves nothing behind there.
  private var temporary: String?
  private var buffer: [UInt8] = []
  private var isOpen = true

  private static let bufferSize = 1 << 16

  /// - Parameter shown: the path that errors name.
  init(_ path: String, reportedAs shown: String? = nil) throws(FileError) {
    var temporary: String?
    var descriptor = Self.openUnnamed(in: Self.folder(of: path))
    if descriptor < 0 {
      (temporary, descriptor) = Self.named(path) { name in
        open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
      }
    }
    guard descriptor >= 0 else {
      throw FileError(.unwritable, path: shown ?? path, errno: errno, doing: "write a file there")
    }
    self.path = path
    self.temporary = temporary
    self.shown = shown ?? path
    self.descriptor = descriptor
  }

  deinit {
    if isOpen { _ = close(descriptor) }
    if let temporary { _ = unlink(temporary) }
  }

  private static func folder(of path: String) -> String {
    path.lastIndex(of: "/").map { String(path[...$0]) } ?? "./"
  }

  /// A file without a name, if it can be given one later.
  private static func openUnnamed(in folder: String) -> Int32 {
    // O_TMPFILE, which Swift does not see.
    let descriptor = open(folder, 0o20_000_000 | O_DIRECTORY | O_WRONLY | O_CLOEXEC, 0o666)
    guard descriptor >= 0, access("/proc/self/fd/\(descriptor)", F_OK) != 0 else {
      return descriptor
    }
    _ = close(descriptor)
    return -1
  }

  /// Tries names beside `path` until one is free.
  private static func named(
    _ path: String, _ make: (String) -> Int32
  ) -> (name: String, result: Int32) {
    let folder = folder(of: path)
    let name = path.hasPrefix(folder) ? path.dropFirst(folder.count) : path[...]
    var number = 0
    var temporary: String
    var result: Int32
    repeat {
      temporary = "\(folder).\(name).\(getpid()).\(number).tmp"
      result = make(temporary)
      number += 1
    } while result < 0 && (errno == EINTR || errno == EEXIST && number < 100)
    return (temporary, result)
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
    if temporary == nil {
      let descriptor = descriptor
      let (name, result) = Self.named(path) { name in
        linkat(AT_FDCWD, "/proc/self/fd/\(descriptor)", AT_FDCWD, name, AT_SYMLINK_FOLLOW)
      }
      try check(result == 0 ? 0 : errno, "name the finished file")
      temporary = name
    }
    isOpen = false
    try check(close(descriptor) == 0 ? 0 : errno, "write")
    if let temporary {
      try check(rename(temporary, path) == 0 ? 0 : errno, "rename the finished file")
    }
    temporary = nil
    syncFolder()
  }

  /// The name reaches the disk as well; where that is not possible the contents are still safe.
  private func syncFolder() {
    let descriptor = open(Self.folder(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    _ = fsync(descriptor)
    _ = close(descriptor)
  }

  private func check(_ errno: Int32, _ what: String) throws(FileError) {
    if errno != 0 { throw FileError(.unwritable, path: shown, errno: errno, doing: what) }
  }
}
