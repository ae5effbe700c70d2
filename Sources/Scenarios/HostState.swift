internal import Glibc

/// What of the host must not change while a scenario runs.
struct HostState {
  let clocksource: String?
  /// How long the host has been suspended since it booted: CLOCK_BOOTTIME less CLOCK_MONOTONIC, between two bounds.
  private let asleep: ClosedRange<Int>

  static func now() -> HostState {
    let before = nanoseconds(CLOCK_MONOTONIC)
    let boot = nanoseconds(CLOCK_BOOTTIME)
    let after = nanoseconds(CLOCK_MONOTONIC)
    return HostState(
      clocksource: HostNames.clocksource(), asleep: boot - after...boot - before)
  }

  /// What happened to the host between the two, if something did.
  func change(since earlier: HostState) -> String? {
    if clocksource != earlier.clocksource {
      return
        "its clocksource went from \(earlier.clocksource ?? "unknown") to \(clocksource ?? "unknown")"
    }
    guard !asleep.overlaps(earlier.asleep) else { return nil }
    return "it was suspended for \((asleep.lowerBound - earlier.asleep.lowerBound) / 1_000_000) ms"
  }

  private static func nanoseconds(_ clock: clockid_t) -> Int {
    var time = timespec()
    clock_gettime(clock, &time)
    return time.tv_sec * 1_000_000_000 + time.tv_nsec
  }
}
