import FoundationEssentials
import Glibc
import Reporting
import Synchronization

/// The only way to stdout and stderr.
enum Output {
  /// Writes a whole text to stdout. A reader who has left early wanted no more: that ends the program quietly.
  ///
  /// - Throws: `Failure`, where the text could not be written.
  static func write(_ text: String) throws(Failure) {
    switch Descriptor.write(Array(text.utf8), to: STDOUT_FILENO) {
    case 0: return
    case EPIPE: exit(128 + SIGPIPE)
    case let error:
      throw Failure(74, "kvmclock: cannot write to stdout: \(String(cString: strerror(error)))")
    }
  }

  /// Writes lines to stderr. What they quote, of a file or of the command line, can't move the cursor.
  static func complain(_ text: String) {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    let text = lines.map { Plain.oneLine(String($0)) }.joined(separator: "\n")
    // What stands in the live line gives way; the line comes again below.
    let start = hasLive.exchange(false, ordering: .relaxed) ? "\r\u{1b}[K" : ""
    _ = Descriptor.write(Array((start + text + "\n").utf8), to: STDERR_FILENO)
  }

  private static let hasLive = Atomic(false)

  /// Writes over the line on the terminal that stderr is.
  static func showLive(_ line: String) {
    hasLive.store(true, ordering: .relaxed)
    _ = Descriptor.write(Array("\r\(line)\u{1b}[K".utf8), to: STDERR_FILENO)
  }

  static func clearLive() {
    guard hasLive.exchange(false, ordering: .relaxed) else { return }
    _ = Descriptor.write(Array("\r\u{1b}[K".utf8), to: STDERR_FILENO)
  }

  static func endLive() {
    guard hasLive.exchange(false, ordering: .relaxed) else { return }
    _ = Descriptor.write([UInt8(ascii: "\n")], to: STDERR_FILENO)
  }

  /// Lets a write that a signal would punish fail with EPIPE or EFBIG, as others do: the report is still delivered.
  ///
  /// By handlers: what is ignored stays ignored in each program that this one starts.
  static func surviveFailedWrites() {
    for signal in [SIGPIPE, SIGXFSZ] { _ = Glibc.signal(signal) { _ in } }
  }

  /// A standard descriptor that is closed would be given to the next file opened, and reports written into it.
  static func claimStandardDescriptors() {
    for descriptor in 0...2 where fcntl(Int32(descriptor), F_GETFD) < 0 {
      _ = open("/dev/null", O_RDONLY)
    }
  }

  /// Now, as ISO 8601 has it, in UTC.
  static var date: String { Date().formatted(.iso8601) }

  static var isTerminal: Bool { isatty(STDOUT_FILENO) == 1 }

  /// The terminal's width in columns; nil where stdout is none.
  static var width: Int? {
    var size = winsize()
    guard isTerminal, ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else {
      return nil
    }
    return max(60, Int(size.ws_col))
  }
}
