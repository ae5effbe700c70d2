internal import ABIChecker
internal import Glibc

extension Stage {
  /// Reads a clock of the host's by its name in `clock_gettime(2)`.
  @discardableResult
  func readHostClock(_ name: String) -> UInt64 {
    let clock =
      switch name {
      case "CLOCK_REALTIME": CLOCK_REALTIME
      case "CLOCK_BOOTTIME": CLOCK_BOOTTIME
      case "CLOCK_MONOTONIC": CLOCK_MONOTONIC
      default: preconditionFailure("no clock \(name)")
      }
    return note(
      { .hostClock(name: name, nanoseconds: $0) },
      of: {
        var time = timespec()
        clock_gettime(clock, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
      })
  }
}
