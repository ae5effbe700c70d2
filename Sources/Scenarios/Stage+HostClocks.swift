internal import ABIChecker
internal import Glibc

extension Stage {
  /// Reads a clock of the host's besides CLOCK_MONOTONIC_RAW: "CLOCK_REALTIME" or "CLOCK_BOOTTIME".
  func readHostClock(_ name: String) {
    _ = note(
      { .hostClock(name: name, nanoseconds: $0) },
      of: {
        var time = timespec()
        clock_gettime(name == "CLOCK_BOOTTIME" ? CLOCK_BOOTTIME : CLOCK_REALTIME, &time)
        return UInt64(bitPattern: Int64(time.tv_sec * 1_000_000_000 + time.tv_nsec))
      })
  }
}
