internal import Glibc
internal import Scenarios
internal import VMBuilder

/// The clocks that a host's kvmclock is made of.
protocol HostTime: Sendable {
  /// Whether the host keeps its time by the TSC: only then does a TSC value mean the same instant to everybody.
  var countsTSC: Bool { get }
  /// The frequency of the guests' TSC, in kHz.
  var tscKHz: UInt32 { get }
  /// The TSC, in cycles.
  func tsc() -> UInt64
  /// The TSC and CLOCK_MONOTONIC_RAW in nanoseconds, read one after the other.
  func tscAndRaw() -> (tsc: UInt64, raw: UInt64)
  /// CLOCK_REALTIME, in nanoseconds.
  func realtime() -> UInt64
}

/// This machine's.
struct RealTime: HostTime {
  let countsTSC: Bool
  let tscKHz: UInt32

  func tsc() -> UInt64 { Moment.after().tsc }

  func tscAndRaw() -> (tsc: UInt64, raw: UInt64) {
    let moment = Moment.after()
    return (moment.tsc, moment.raw)
  }

  func realtime() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UInt64(bitPattern: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
  }
}
