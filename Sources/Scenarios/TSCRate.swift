internal import Glibc
internal import VMBuilder

extension HostInspection {
  /// The TSC's rate, measured against CLOCK_MONOTONIC_RAW for 0.3 s: KVM, which knows it, need not be there.
  public static func measuredTSCkHz() -> UInt64 {
    let start = closestMoment()
    usleep(300_000)
    let end = closestMoment()
    let nanoseconds = end.raw - start.raw
    return ((end.tsc - start.tsc) * 1_000_000 + nanoseconds / 2) / nanoseconds
  }

  /// The two clocks, as close together as they come in some tries.
  private static func closestMoment() -> (tsc: UInt64, raw: UInt64) {
    var best = (before: Moment.before(), after: Moment.after())
    for _ in 0..<2000 {
      let before = Moment.before()
      let after = Moment.after()
      if after.raw - before.raw < best.after.raw - best.before.raw { best = (before, after) }
    }
    let (before, after) = best
    return (
      before.tsc + (after.tsc - before.tsc) / 2, before.raw + (after.raw - before.raw) / 2
    )
  }
}
