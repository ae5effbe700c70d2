internal import Glibc

/// A file's lines, one at a time, in bounded memory whatever the file is.
struct LineReader: ~Copyable {
  struct Line {
    var number: Int
    var bytes: [UInt8]
    /// False for a last line that nothing ends.
    var isEnded: Bool
  }

  static let longestLine = 1 << 20
  static let largestFile = 1 << 29

  private let path: String
  private let descriptor: Int32
  private var buffer: [UInt8] = []
  private var start = 0
  private var total = 0
  private var number = 0
  private var atEnd = false

  init(_ path: String) throws(FileError) {
    var descriptor: Int32
    repeat {
      descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)
    } while descriptor < 0 && errno == EINTR
    guard descriptor >= 0 else {
      throw FileError(.unreadable, path: path, errno: errno, doing: "open it")
    }
    self.path = path
    self.descriptor = descriptor
  }

  deinit { _ = close(descriptor) }

  /// The next line without its end; nil at the end of the file.
  mutating func next() throws(FileError) -> Line? {
    var searched = start
    while true {
      if let end = buffer[searched...].firstIndex(of: UInt8(ascii: "\n")) {
        return try take(upTo: end, isEnded: true)
      }
      searched = buffer.count
      guard searched - start <= Self.longestLine else { throw tooLong() }
      if atEnd { return start == buffer.count ? nil : try take(upTo: searched, isEnded: false) }
      searched -= start
      try fill()
    }
  }

  private mutating func take(upTo end: Int, isEnded: Bool) throws(FileError) -> Line {
    guard end - start <= Self.longestLine else { throw tooLong() }
    number += 1
    let line = Line(number: number, bytes: Array(buffer[start..<end]), isEnded: isEnded)
    start = isEnded ? end + 1 : end
    return line
  }

  private mutating func fill() throws(FileError) {
    buffer.removeSubrange(..<start)
    start = 0
    let (chunk, errno) = Descriptor.read(descriptor, atMost: 1 << 16)
    guard errno == 0 else {
      throw FileError(.unreadable, path: path, errno: errno, doing: "read it")
    }
    buffer += chunk
    total += chunk.count
    atEnd = chunk.isEmpty
    guard total <= Self.largestFile else {
      throw FileError(
        .badData, path: path, line: number + 1,
        cause: "the file is larger than \(Self.largestFile >> 20) MiB, the most that is read")
    }
  }

  private func tooLong() -> FileError {
    FileError(
      .badData, path: path, line: number + 1,
      cause: "the line is longer than \(Self.longestLine) bytes: this is not a history of kvmclock")
  }
}
