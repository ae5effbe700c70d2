internal import ABIChecker
internal import Glibc
internal import VMBuilder

extension Stage {
  /// Reads one of the host's clocks, named as in C, between two readings of CLOCK_MONOTONIC_RAW as close as can be.
  @discardableResult
  func readHostClock(_ name: String) throws -> UInt64 {
    let clock =
      switch name {
      case "CLOCK_REALTIME": CLOCK_REALTIME
      case "CLOCK_BOOTTIME": CLOCK_BOOTTIME
      case "CLOCK_MONOTONIC": CLOCK_MONOTONIC
      default: preconditionFailure("no clock \(name)")
      }
    var value: UInt64 = 0
    try tightest(16) {
      value = Self.nanoseconds(clock)
      return .hostClock(name: name, nanoseconds: value)
    }
    return value
  }

  private static func nanoseconds(_ clock: clockid_t) -> UInt64 {
    var time = timespec()
    clock_gettime(clock, &time)
    return UInt64(bitPattern: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
  }

  /// Waits until the next second of CLOCK_REALTIME begins in 200 us: asleep, and awake for the last 40 ms, because a sleep can
  /// end late.
  func waitForTurnOfSecond() throws {
    let second: UInt64 = 1_000_000_000
    let began = Self.nanoseconds(CLOCK_REALTIME)
    let left = second - began % second
    if left > 40_000_000 { try sleep(milliseconds: Int(left / 1_000_000) - 40) }
    let awake = Moment.before().raw
    while Self.nanoseconds(CLOCK_REALTIME) < began + left - 200_000,
      Moment.before().raw - awake < 50_000_000
    {}
  }

  /// Ties `KVM_GET_CLOCK` to CLOCK_MONOTONIC_RAW, and the TSC, at which the record of vCPU 0 can be converted.
  func sampleRate() throws {
    look(0)
    try tightest { .getClock(ClockRecord(try machine.clock())) }
    look(0)
    try tightest { .tick }
  }
}
