internal import CKVM
internal import Glibc

/// The host's two clocks, read as closely together as can be.
public struct Moment: Hashable, Sendable {
  /// Host TSC, in cycles.
  public var tsc: UInt64
  /// CLOCK_MONOTONIC_RAW, in nanoseconds.
  public var raw: UInt64

  /// To be read before an action: the TSC last, so that CLOCK_MONOTONIC_RAW brackets the TSC too.
  public static func before() -> Moment {
    let raw = monotonicRaw()
    return Moment(tsc: ckvm_rdtsc(), raw: raw)
  }

  /// To be read after an action: the TSC first.
  public static func after() -> Moment {
    let tsc = ckvm_rdtsc()
    return Moment(tsc: tsc, raw: monotonicRaw())
  }

  static func monotonicRaw() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC_RAW, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}

/// What came of an action, and between which moments it happened.
public struct Bracketed<Value> {
  public var began: Moment
  public var ended: Moment
  public var value: Value

  public init(began: Moment, ended: Moment, value: Value) {
    self.began = began
    self.ended = ended
    self.value = value
  }
}

extension Bracketed: Sendable where Value: Sendable {}
