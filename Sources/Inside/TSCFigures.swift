internal import ABIChecker
internal import Glibc

/// What is left to look at where there is no record: the TSC itself.
public struct TSCFigures: Hashable, Sendable {
  /// CPUs that raced, their readings, and how many of those were below one made earlier on another CPU.
  public var cpus: Int
  public var reads: UInt64
  public var backwards: UInt64
  /// The largest of those steps, in cycles.
  public var worst: UInt64
  /// The TSC's frequency in Hz by CLOCK_MONOTONIC_RAW, and how far it may be off.
  public var hertz: Double
  public var error: Double

  public static func measure(on cpus: [Int], nanoseconds: UInt64) -> TSCFigures {
    let start = tightest()
    let parts = race(
      of: nil, on: Array(cpus.prefix(4)), nanoseconds: nanoseconds)
    let end = tightest()
    let cycles = Double(end.began.tsc &- start.ended.tsc)
    let least = Double(end.began.raw) - Double(start.ended.raw)
    let most = Double(end.ended.raw) - Double(start.began.raw)
    let hertz = cycles / ((least + most) / 2) * 1e9
    return TSCFigures(
      cpus: parts.count, reads: parts.reduce(0) { $0 + $1.result.reads },
      backwards: parts.reduce(0) { $0 + $1.result.backwards },
      worst: parts.map(\.result.worst.magnitude).max() ?? 0, hertz: hertz,
      error: hertz * (most - least) / (most + least))
  }

  private static func tightest() -> (began: Instant, ended: Instant) {
    (0..<2000).map { _ in (began: Instant.before(), ended: Instant.after()) }
      .min { $0.ended.raw &- $0.began.raw < $1.ended.raw &- $1.began.raw }!
  }
}
