import Glibc
import Reporting

/// One line on stderr that says how far a long run is: on a terminal always the same one, elsewhere one a minute.
struct Progress {
  private let isTerminal = Self.isOnTerminal
  static var isOnTerminal: Bool { isatty(STDERR_FILENO) == 1 }
  private var shown: ContinuousClock.Instant?

  mutating func show(_ line: @autoclosure () -> String) {
    let interval: Duration = isTerminal ? .milliseconds(250) : .seconds(60)
    if let shown, ContinuousClock.now - shown < interval { return }
    shown = .now
    if isTerminal {
      Output.showLive(Plain.oneLine(line(), limit: Self.columns - 1))
    } else {
      Output.complain(line())
    }
  }

  /// Takes the last line away.
  func clear() { Output.clearLive() }

  /// Leaves the last line standing.
  func end() { Output.endLive() }

  private static var columns: Int {
    var size = winsize()
    guard ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 20 else { return 80 }
    return Int(size.ws_col)
  }
}
