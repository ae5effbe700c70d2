internal import ABIChecker
internal import Glibc

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
      var time = timespec()
      clock_gettime(clock, &time)
      let nanoseconds = Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
      value = UInt64(bitPattern: nanoseconds)
      return .hostClock(name: name, nanoseconds: value)
    }
    return value
  }

  /// Ties `KVM_GET_CLOCK` to CLOCK_MONOTONIC_RAW, and the TSC, at which the record of vCPU 0 can be converted.
  func sampleRate() throws {
    look(0)
    try tightest { .getClock(ClockRecord(try machine.clock())) }
    look(0)
    try tightest { .tick }
  }
}
