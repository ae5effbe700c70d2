internal import Glibc

/// How long the host has been suspended since it booted: CLOCK_BOOTTIME less CLOCK_MONOTONIC, as an interval.
struct SleepOffset {
  private var lower: Int
  private var upper: Int

  static func now() -> SleepOffset {
    let before = nanoseconds(CLOCK_MONOTONIC)
    let boot = nanoseconds(CLOCK_BOOTTIME)
    let after = nanoseconds(CLOCK_MONOTONIC)
    return SleepOffset(lower: boot - after, upper: boot - before)
  }

  /// Whether the host was suspended between the two.
  func differs(from other: SleepOffset) -> Bool { lower > other.upper || upper < other.lower }

  private static func nanoseconds(_ clock: clockid_t) -> Int {
    var time = timespec()
    clock_gettime(clock, &time)
    return time.tv_sec * 1_000_000_000 + time.tv_nsec
  }
}
