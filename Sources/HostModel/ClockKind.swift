public import ABIChecker
public import Scenarios

/// Who serves the guests' clock in a run.
public enum ClockKind: String, CaseIterable, Sendable {
  case kernel, model, interference

  /// Nil for KVM itself.
  public func maker(_ facts: HostFacts, policy: Policy = .keep) -> ClockMaker? {
    switch self {
    case .kernel: nil
    case .model: .model(facts, policy)
    case .interference: ClockMaker("KVM, time restarted by KVM_SET_CLOCK") { Interference() }
    }
  }
}

extension ClockMaker {
  static func model(
    _ facts: HostFacts, _ policy: Policy = .keep, _ deviation: Deviation = Deviation(),
    name: String? = nil
  ) -> ClockMaker {
    let time = RealTime(
      countsTSC: facts.clocksourceIsTSC ?? false, tscKHz: facts.tscKHz ?? 1_000_000)
    return ClockMaker(
      name ?? "user-space model, policy \(policy.rawValue)",
      features: policy == .optIn ? DiscussionGuest.optInFeature : 0
    ) {
      ModelClock(time: time, policy: policy, deviation: deviation)
    }
  }
}
