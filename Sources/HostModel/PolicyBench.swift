public import ABIChecker
public import KVM
public import Scenarios

/// Runs each guest of the discussion of 2015 on each policy.
public enum PolicyBench {
  /// - Parameter withKernel: adds a row for the running kernel's own clock.
  /// - Throws: `KVMError` if the device can't be used at all.
  public static func run(
    facts: HostFacts, device: String = "/dev/kvm", seed: UInt64, withKernel: Bool,
    cancellation: Cancellation = Cancellation()
  ) throws(KVMError) -> PolicyMatrix {
    var rows: [PolicyMatrix.Row] = []
    for policy in Policy.allCases {
      var outcomes: [PolicyOutcome] = []
      for guest in DiscussionGuest.all {
        var plan = RunPlan(rules: [], seed: seed, device: device)
        plan.clock = .model(facts, policy, .behind(guest.lag))
        outcomes.append(try outcome(of: guest, plan, facts, cancellation))
      }
      rows.append(
        PolicyMatrix.Row(host: policy.rawValue, summary: policy.summary, outcomes: outcomes))
    }
    if withKernel {
      let plan = RunPlan(rules: [], seed: seed, device: device)
      var outcomes: [PolicyOutcome] = []
      for guest in DiscussionGuest.all {
        outcomes.append(
          guest.lag > 0
            ? .notShown(reason: "the kernel's clocks can't be put behind each other")
            : try outcome(of: guest, plan, facts, cancellation))
      }
      rows.append(
        PolicyMatrix.Row(
          host: "kernel", summary: "Linux \(facts.kernel), its own clock", outcomes: outcomes))
    }
    return PolicyMatrix(rows: rows)
  }

  /// Again where the machine was too busy for what a guest is about.
  private static func outcome(
    of guest: DiscussionGuest, _ plan: RunPlan, _ facts: HostFacts, _ cancellation: Cancellation
  ) throws(KVMError) -> PolicyOutcome {
    var outcome = PolicyOutcome.works
    for _ in 0..<20 {
      let history = try Runner.record(guest, plan, host: facts, cancellation: cancellation)
      outcome = guest.outcome(of: history)
      guard case .notShown = outcome, !cancellation.isCancelled else { break }
    }
    return outcome
  }
}

extension Deviation {
  /// vCPU 1's clock is behind, as it may be on a host without the master clock.
  fileprivate static func behind(_ nanoseconds: UInt64) -> Deviation {
    var deviation = Deviation()
    guard nanoseconds > 0 else { return deviation }
    deviation.record = { _, vcpu, _, record in
      record.flags.remove(.tscStable)
      if vcpu == 1 { record.systemTime &-= nanoseconds }
    }
    return deviation
  }
}
