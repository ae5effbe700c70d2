public import ABIChecker

/// What to run, and how.
public struct RunPlan: Sendable {
  public var rules: [Rule]
  public var seed: UInt64
  /// How often a scenario may be run again because a verdict was inconclusive.
  public var retries: Int
  public var device: String

  public init(rules: [Rule], seed: UInt64, retries: Int = 3, device: String = "/dev/kvm") {
    self.rules = rules
    self.seed = seed
    self.retries = retries
    self.device = device
  }
}

/// How long one run of a scenario took.
public struct Timing: Sendable {
  public var scenario: String
  public var attempt: Int
  /// Wall time in nanoseconds.
  public var nanoseconds: UInt64
}

public struct RunResult: Sendable {
  /// One per rule of the plan, in its order; after a cancellation only those that could be judged.
  public var verdicts: [Verdict]
  public var timings: [Timing]
  /// Runs of a scenario beyond its first.
  public var retries: Int
  public var wasCancelled: Bool
}

/// Lets another thread end a run; what was recorded stays.
public final class Cancellation: Sendable {
  public init() {}
  public func cancel() {}
  public var isCancelled: Bool { false }
}

public enum Runner {
  /// Runs the scenarios that exercise the plan's rules and judges what they recorded.
  ///
  /// - Parameter keep: called with each history as soon as its scenario ended, before it is judged, also after a
  ///   failure or a cancellation.
  public static func run(
    _ plan: RunPlan, host: HostFacts, cancellation: Cancellation, keep: (History) throws -> Void
  ) rethrows -> RunResult {
    RunResult(verdicts: [], timings: [], retries: 0, wasCancelled: false)
  }
}
