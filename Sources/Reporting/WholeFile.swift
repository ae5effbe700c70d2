internal import Glibc

/// A file that is read at once.
package enum WholeFile {
  package static func read(_ path: String, atMost limit: Int) throws(FileError) -> [UInt8] {
    var descriptor: Int32
    repeat {
      descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)
    } while descriptor < 0 && errno == EINTR
    guard descriptor >= 0 else {
      throw FileError(.unreadable, path: path, errno: errno, doing: "open it")
    }
    defer { _ = close(descriptor) }
    var bytes: [UInt8] = []
    while true {
      let (chunk, errno) = Descriptor.read(descriptor, atMost: 1 << 18)
      guard errno == 0 else {
        throw FileError(.unreadable, path: path, errno: errno, doing: "read it")
      }
      if chunk.isEmpty { return bytes }
      bytes += chunk
      guard bytes.count <= limit else {
        throw FileError(
          .badData, path: path,
          cause: "the file is larger than \(limit >> 20) MiB, the most that is read")
      }
    }
  }
}
