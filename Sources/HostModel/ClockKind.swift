public import ABIChecker
internal import Glibc
public import KVM
public import Scenarios

/// Who serves the guests' clock in a run.
public enum ClockKind: String, CaseIterable, Sendable {
  case kernel, model, interference

  /// Nil for KVM itself.
  ///
  /// - Throws: `KVMError` with the remedy, where this host's KVM has not what it takes.
  public func maker(_ facts: HostFacts, device: String = "/dev/kvm") throws(KVMError) -> ClockMaker?
  {
    switch self {
    case .kernel: return nil
    case .model:
      try Self.requireSupport(of: device)
      return .model(facts)
    case .interference:
      try Self.requireSupport(of: device)
      return ClockMaker("KVM, time restarted by KVM_SET_CLOCK") { Interference() }
    }
  }

  /// What a clock in user space needs: the guests' accesses to its MSRs, and each vCPU's TSC offset.
  ///
  /// - Throws: `KVMError` naming what is missing, with the remedy.
  public static func requireSupport(of device: String) throws(KVMError) {
    let system = try KVMSystem(path: device)
    let remedy = "A clock in user space needs Linux 5.16 or newer."
    for capability in [Capability.userSpaceMSR, .msrFilter] {
      guard try system.checkExtension(capability) == 0 else { continue }
      throw KVMError(request: capability.description, errno: ENOTSUP, remedy: remedy)
    }
    let machine = try system.createVM()
    let vcpu = try machine.createVCPU(id: 0)
    guard try vcpu.hasTSCOffset() else {
      throw KVMError(request: "KVM_VCPU_TSC_OFFSET", errno: ENOTSUP, remedy: remedy)
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
