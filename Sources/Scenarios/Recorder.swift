public import ABIChecker
public import KVM

extension Runner {
  /// Runs one scenario as a plan says, until every rule of the plan that it exercises has a conclusive verdict, and returns what
  /// was recorded.
  ///
  /// - Throws: `KVMError` if the device can't be used at all.
  public static func record(
    _ scenario: ScenarioName, _ plan: RunPlan, host facts: HostFacts,
    cancellation: Cancellation = Cancellation()
  ) throws(KVMError) -> [History] {
    let host = try Host(plan, facts)
    let suite = Suite(
      plan: try plan.fitted(to: host.system), host: host, cancellation: cancellation)
    if let omission = plan.omission(of: scenario) {
      return suite.left(out: scenario, because: omission).timelines.map(\.history)
    }
    return suite.runs(of: scenario) { _ in }.timelines.map(\.history)
  }
}
