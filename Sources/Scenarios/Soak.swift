public import ABIChecker
public import KVM

/// Repeats the scenarios that can drift or race, and watches one machine's clock all the while.
public final class Soak {
  public let plan: RunPlan
  private let cancellation: Cancellation
  private let host: Host
  private let drift: DriftWatch
  private static let repeated = Set(ScenarioName.allCases.filter(\.canDriftOrRace))
  /// The machine that lives on sees more of a drift than many that live for a second.
  private static let raced = repeated.subtracting([.rate])

  /// The rules among `rules` that a soak can judge, or at least see broken.
  public static func rules(of rules: [Rule]) -> [Rule] {
    rules.filter { $0.everywhere || !repeated.isDisjoint(with: $0.scenarios) }
  }

  /// - Throws: `KVMError` if the device can't be used at all.
  public init(_ plan: RunPlan, host facts: HostFacts, cancellation: Cancellation) throws(KVMError) {
    self.plan = plan
    self.cancellation = cancellation
    host = try Host(plan, facts)
    drift = DriftWatch(host: host, cancellation: cancellation)
  }

  /// Machines whose drift could be followed no longer because the master clock got a new pair.
  public var newPairs: Int { drift.newPairs }

  /// Runs each of the scenarios once; the round's number is added to the seed.
  ///
  /// - Parameter keep: called with each history as soon as it is there.
  /// - Returns: the verdicts on the rules that the round exercised; after a cancellation what could be judged.
  public func round(_ number: UInt64, keep: (History) -> Void) throws(KVMError) -> RunResult {
    var plan = plan
    plan.seed &+= number
    plan.only = Self.raced.intersection(plan.rules.flatMap(\.scenarios))
    drift.begin(seed: plan.seed)
    var result = try Runner.run(plan, host: host.facts, cancellation: cancellation, keep: keep)
    result.verdicts.removeAll { !$0.says(somethingOn: Self.raced) }
    guard !result.wasCancelled, result.noGuestRuns == nil, let history = drift.look() else {
      return result
    }
    keep(history)
    result.wasCancelled = cancellation.isCancelled
    guard !result.wasCancelled else { return result }
    let timeline = Timeline(history)
    result.verdicts += plan.rules.map { $0.verdict(on: [timeline]) }
      .filter { $0.says(somethingOn: [.rate]) }
    return result
  }
}

extension Verdict {
  /// A rule that the scenarios do not exercise is judged by them only where they show it broken.
  fileprivate func says(somethingOn scenarios: Set<ScenarioName>) -> Bool {
    outcome.isBroken || Rule.named(rule).map { !scenarios.isDisjoint(with: $0.scenarios) } ?? false
  }
}
